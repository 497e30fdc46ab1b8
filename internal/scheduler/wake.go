package scheduler

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const notifyEvery = 5 * time.Millisecond

// waker tells other processes about work, at most once per 5 ms, outside of every write
// transaction: a pending notification takes a lock that serialises commits.
type waker struct {
	store Store
	log   *slog.Logger
	poke  chan struct{}

	mu     sync.Mutex
	lanes  map[int32]bool
	limits map[int32]bool // limiters whose row changed
	press  map[int32]bool // limiters that urgent calls wait for
}

func newWaker(store Store, log *slog.Logger) *waker {
	return &waker{store: store, log: log, poke: make(chan struct{}, 1), lanes: map[int32]bool{}, limits: map[int32]bool{}, press: map[int32]bool{}}
}

func (w *waker) tell(lanes ...int32) {
	w.mu.Lock()
	for _, l := range lanes {
		w.lanes[l] = true
	}
	w.mu.Unlock()
	w.nudge()
}

// tellLimit says that the row of a limiter changed.
func (w *waker) tellLimit(limiter int32) {
	w.mu.Lock()
	w.limits[limiter] = true
	w.mu.Unlock()
	w.nudge()
}

// pressFor tells others that an urgent call waits for a unit of a limiter.
func (w *waker) pressFor(limiter int32) {
	w.mu.Lock()
	w.press[limiter] = true
	w.mu.Unlock()
	w.nudge()
}

func (w *waker) nudge() {
	select {
	case w.poke <- struct{}{}:
	default:
	}
}

func (w *waker) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.poke:
		}
		w.mu.Lock()
		names := make([]string, 0, len(w.lanes)+len(w.limits))
		for l := range w.lanes {
			names = append(names, strconv.Itoa(int(l)))
		}
		for l := range w.limits {
			names = append(names, limitMark+strconv.Itoa(int(l)))
		}
		for l := range w.press {
			names = append(names, pressMark+strconv.Itoa(int(l)))
		}
		clear(w.lanes)
		clear(w.limits)
		clear(w.press)
		w.mu.Unlock()
		if len(names) == 0 {
			continue
		}
		slices.Sort(names)
		if err := w.store.Notify(ctx, strings.Join(names, ",")); err != nil && ctx.Err() == nil {
			w.log.Warn("notify", "err", err)
		}
		if sleepUntil(ctx, time.Now().Add(notifyEvery)) != nil {
			return
		}
	}
}

// listen hears of work from other processes. While it cannot, polling finds it.
func (s *Session) listen(ctx context.Context) {
	for ctx.Err() == nil {
		err := s.store.Listen(ctx, s.hear)
		if err == nil || ctx.Err() != nil {
			return
		}
		s.opts.Log.Warn("listen", "err", err)
		if sleepUntil(ctx, time.Now().Add(s.jitter(time.Second))) != nil {
			return
		}
	}
}

// hear takes a notification: lanes that have work, limits whose rows changed, limits that urgent calls wait for;
// or, empty, that some may have been missed.
func (s *Session) hear(payload string) {
	limits, pressed := parseLimits(payload, limitMark), parseLimits(payload, pressMark)
	if len(limits) > 0 || payload == "" {
		s.keeper.reread(limits...)
	}
	for _, l := range pressed {
		s.keeper.press(l)
	}
	if lanes := parseLanes(payload); len(lanes) > 0 || len(limits)+len(pressed) == 0 {
		s.claims.wake(lanes...)
	}
}

// What stands before the number of a limiter, and tells it from that of a lane.
const (
	limitMark = "l" // its row changed
	pressMark = "u" // an urgent call waits for it
)

// parseLimits reads the limiters with a mark of a notification; what it does not understand it leaves out.
func parseLimits(payload, mark string) (out []int32) {
	for f := range strings.SplitSeq(payload, ",") {
		if id, ok := strings.CutPrefix(f, mark); ok {
			if n, err := strconv.ParseInt(id, 10, 32); err == nil {
				out = append(out, int32(n))
			}
		}
	}
	return out
}

// parseLanes reads a notification; what it does not understand it leaves out.
func parseLanes(payload string) []int32 {
	var out []int32
	for f := range strings.SplitSeq(payload, ",") {
		if n, err := strconv.ParseInt(f, 10, 32); err == nil {
			out = append(out, int32(n))
		}
	}
	return out
}
