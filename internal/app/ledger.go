package app

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

const (
	reportEvery  = 2 * time.Second // while something changes
	reportAlways = time.Minute     // in any case; of a source whose objects are collected, reportEvery
	lagsWithin   = 5 * time.Minute // of which a source's lag is made
	maxLags      = 1024            // of these, the last
	maxUnasked   = 10_000
	holdsAfter   = 10 * time.Second
)

// ledger is what is on record of one source: its arrivals, and what the process that watches it reports. It is a
// gantry.Ledger.
type ledger struct {
	app   *App
	feed  *feed
	kind  string
	state cipher.AEAD // of the progress, which holds keys of objects
	began time.Time

	mu       sync.Mutex
	report   postgres.SourceReport // what is not written down yet
	channels map[string]*postgres.ChannelReport
	lags     []lag
	taken    bool // everything was taken up once
	dirty    bool
	written  time.Time

	well map[string]struct{} // guarded by mu; parts of which it is reported that they work
	ill  map[string]bool     // guarded by mu; whether the ways in which the source looks fail, as far as known
	was  bool                // what was last written down says that it is blind

	unasked map[objectState]struct{} // that rules could not be asked about since the process began

	let letIn // which folders room need not be asked about

	asking sync.Mutex
	full   bool // guarded by asking
	fullAt time.Time
}

// lag is how long after its own time an object's arrival was committed.
type lag struct {
	at   time.Time
	took time.Duration
}

// objectState is an object as its source knows it.
type objectState struct {
	ref       gantry.Digest
	sequencer string
}

// newLedger makes the ledger of a feed.
func newLedger(a *App, f *feed, kind string) (*ledger, error) {
	key := gantry.MAC(a.Key, "progress of a source", f.name)
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	sealed, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	l := &ledger{app: a, feed: f, kind: kind, state: sealed, began: time.Now(), channels: map[string]*postgres.ChannelReport{}}
	l.unasked, l.well, l.ill = map[objectState]struct{}{}, map[string]struct{}{}, map[string]bool{}
	l.report = postgres.SourceReport{Source: f.name, Kind: kind, Worst: -1}
	return l, nil
}

// Known asks the database. What rules could not be asked about is known until the process ends, so that no poll reads
// it again.
func (l *ledger) Known(ctx context.Context, list []gantry.Object) ([]bool, error) {
	refs, versions, sequencers := make([]gantry.Digest, len(list)), make([]string, len(list)), make([]string, len(list))
	mac := gantry.MACs(l.app.Key, "ref", l.feed.name)
	for i, o := range list {
		refs[i], versions[i], sequencers[i] = mac(o.Ref), o.Version, o.Sequencer
	}
	known, err := l.app.Store.KnownAll(ctx, l.feed.name, l.feed.plan.ID, refs, versions, sequencers)
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range known {
		if _, ok := l.unasked[objectState{refs[i], sequencers[i]}]; ok {
			known[i] = true
		}
	}
	return known, err
}

// unmatched is told of an arrival that rules could not be asked about. Of too many some are asked about again.
func (l *ledger) unmatched(a gantry.Arrival) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.unasked) >= maxUnasked {
		clear(l.unasked)
	}
	l.unasked[objectState{a.RefMAC, a.Sequencer}] = struct{}{}
}

// Progress reads what was reported last. What another key sealed, or nobody, is no progress: all is listed again.
func (l *ledger) Progress(ctx context.Context) (p gantry.TakeUp, err error) {
	sealed, err := l.app.Store.SourceProgress(ctx, l.feed.name)
	if n := l.state.NonceSize(); err == nil && len(sealed) >= n {
		if plain, serr := l.state.Open(nil, sealed[:n], sealed[n:], []byte(l.feed.name)); serr == nil && json.Unmarshal(plain, &p) != nil {
			p = gantry.TakeUp{}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.report.Backlog, l.report.Passed, l.taken = p.Backlog, p.Passed, p.Taken
	return p, err
}

// Keep reports how far the source was taken up.
func (l *ledger) Keep(p gantry.TakeUp) {
	plain, err := json.Marshal(p)
	if err != nil {
		return
	}
	nonce := make([]byte, l.state.NonceSize())
	rand.Read(nonce)
	l.change(func(r *postgres.SourceReport) {
		r.Progress = l.state.Seal(nonce, nonce, plain, []byte(l.feed.name))
		r.Backlog, r.Passed, l.taken = p.Backlog, p.Passed, p.Taken
	})
	l.app.Metrics.TakeUp(l.feed.name, p)
}

// Swept reports a listing of everything.
func (l *ledger) Swept(s gantry.Sweep) {
	l.change(func(r *postgres.SourceReport) {
		r.Sweep, r.Sweeps, r.Missed = s, r.Sweeps+1, r.Missed+s.Missed
	})
	l.app.Metrics.Swept(l.feed.name, s)
}

// Heard reports that a channel told of a new object.
func (l *ledger) Heard(channel string, at time.Time) {
	l.change(func(*postgres.SourceReport) {
		c := l.channels[channel]
		if c == nil {
			c = &postgres.ChannelReport{Channel: channel}
			l.channels[channel] = c
		}
		c.Told++
		if at.After(c.At) {
			c.At = at
		}
	})
	l.app.Metrics.Heard(l.feed.name, channel, at)
}

// Failed reports that a part failed.
func (l *ledger) Failed(part string, err error) {
	code := gantry.CodeOf(err)
	l.change(func(*postgres.SourceReport) { l.fail(part, code, gantry.KindOf(err), time.Now()) })
	l.app.Metrics.SourceFailed(l.feed.name, code)
}

func (l *ledger) fail(part string, code gantry.Code, kind gantry.Kind, at time.Time) {
	delete(l.well, part)
	l.sees(part, false)
	l.report.Failure = postgres.SourceFailure{Part: part, Code: code, Kind: kind, At: at}
}

// Worked reports that a part went through: once, and then again after it failed.
func (l *ledger) Worked(part string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.well[part]; known {
		return
	}
	now := time.Now()
	l.well[part], l.dirty = struct{}{}, true
	l.sees(part, true)
	if f := &l.report.Failure; f.Part == part && f.Over.IsZero() {
		f.Over = now
	}
	l.report.Worked = append(l.report.Worked, postgres.SourceWorked{Part: part, At: now})
}

// sees keeps in mind whether a way in which the source looks works.
func (l *ledger) sees(part string, well bool) {
	if part == l.looks() || part == string(gantry.ChannelSQS) {
		l.ill[part] = !well
	}
}

// blind tells whether what comes to the source is not seen: it cannot be looked at, or, of one that is not, the queue cannot be asked.
func (l *ledger) blind() bool {
	ill, looks := l.ill[l.looks()]
	return ill || !looks && l.ill[string(gantry.ChannelSQS)]
}

// holds reports that a source which does not report so itself works, if it has been watched for a while.
func (l *ledger) holds() (stop func()) {
	if _, ok := l.feed.source.(gantry.Noting); ok {
		return func() {}
	}
	t := time.AfterFunc(holdsAfter, func() { l.Worked(l.looks()) })
	return func() { t.Stop() }
}

// took reports an arrival that is on record, of which a channel told. What was there before the source was first
// watched says nothing of how late things come.
func (l *ledger) took(channel string, o gantry.Object, now time.Time) {
	l.Heard(channel, now)
	l.Worked(gantry.PartObject)
	l.mu.Lock()
	first := !l.taken && o.At.Before(l.began)
	l.mu.Unlock()
	if o.At.IsZero() || o.Backlog || first {
		return
	}
	took := max(0, now.Sub(o.At))
	l.app.Metrics.Lag(l.feed.name, took)
	l.change(func(r *postgres.SourceReport) {
		if r.Last = took; len(l.lags) == maxLags {
			l.lags = slices.Delete(l.lags, 0, maxLags/2)
		}
		l.lags = append(l.lags, lag{now, took})
	})
}

func (l *ledger) change(f func(*postgres.SourceReport)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dirty = true
	f(&l.report)
}

// pending gives what is to be written down, and begins anew. Of a source whose objects are collected the time of the report alone says
// something: until then it was watched.
func (l *ledger) pending(now time.Time) (postgres.SourceReport, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	collected := len(l.feed.collects()) > 0
	if !l.dirty && now.Sub(l.written) < reportAlways && !collected {
		return postgres.SourceReport{}, false
	}
	out := l.report
	out.Blind, out.WasBlind, out.Collected = l.blind(), l.was, collected
	l.lags = slices.DeleteFunc(l.lags, func(x lag) bool { return now.Sub(x.at) > lagsWithin })
	if out.Worst = -1; len(l.lags) > 0 {
		all := make([]time.Duration, len(l.lags))
		for i, x := range l.lags {
			all[i] = x.took
		}
		slices.Sort(all)
		out.Half, out.Worst = all[len(all)/2], all[len(all)-1]
	}
	for _, c := range l.channels {
		out.Channels = append(out.Channels, *c)
		c.Told = 0
	}
	l.report = postgres.SourceReport{Source: out.Source, Kind: out.Kind, Backlog: out.Backlog, Passed: out.Passed, Last: out.Last}
	l.dirty, l.written = false, now
	return out, true
}

// restore puts back what could not be written down.
func (l *ledger) restore(r postgres.SourceReport) {
	l.change(func(x *postgres.SourceReport) {
		x.Sweeps, x.Missed = x.Sweeps+r.Sweeps, x.Missed+r.Missed
		if x.Progress == nil {
			x.Progress = r.Progress
		}
		if x.Sweep.Began.IsZero() {
			x.Sweep = r.Sweep
		}
		if x.Failure.At.IsZero() {
			x.Failure = r.Failure
			for _, w := range x.Worked { // since
				if w.Part == x.Failure.Part && x.Failure.Over.IsZero() {
					x.Failure.Over = w.At
				}
			}
		}
		x.Worked = append(slices.Clip(r.Worked), x.Worked...)
		for _, c := range r.Channels {
			l.channels[c.Channel].Told += c.Told
		}
	})
}

// write writes down what is new. Where nobody watched the source for a while, and be it that the process stood still or the database was away,
// what is collected is put off.
func (l *ledger) write(ctx context.Context) {
	r, ok := l.pending(time.Now())
	if !ok {
		return
	}
	away, err := l.app.Store.ReportSource(ctx, r)
	if err != nil {
		l.restore(r)
	} else if away {
		err = l.app.Store.WatchAgain(ctx, []string{l.feed.name})
	}
	if err != nil {
		l.app.Log.Warn("report source", "source", l.feed.name, "err", err)
		return
	}
	l.was = r.Blind
}

// run writes down what is new until ctx ends, and then once more.
func (l *ledger) run(ctx context.Context) {
	t := time.NewTicker(reportEvery)
	defer t.Stop()
	for {
		l.write(ctx)
		select {
		case <-t.C:
			continue
		case <-ctx.Done():
		}
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), reportEvery)
		defer cancel()
		l.write(last)
		return
	}
}
