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

	mu    sync.Mutex
	lanes map[int32]bool
	press map[int32]bool // limiters
}

func newWaker(store Store, log *slog.Logger) *waker {
	return &waker{store: store, log: log, poke: make(chan struct{}, 1), lanes: map[int32]bool{}, press: map[int32]bool{}}
}

func (w *waker) tell(lanes ...int32) {
	w.mu.Lock()
	for _, l := range lanes {
		w.lanes[l] = true
	}
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
		names := make([]string, 0, len(w.lanes))
		for l := range w.lanes {
			names = append(names, strconv.Itoa(int(l)))
		}
		for l := range w.press {
			names = append(names, "u"+strconv.Itoa(int(l)))
		}
		clear(w.lanes)
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
