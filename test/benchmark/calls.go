package main

import (
	"context"
	"fmt"
	"os"
	"runtime/pprof"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// doCall makes the call of worker k to a path of the service.
type doCall func(ctx context.Context, k int, path string) error

// rate is what one section saw.
type rate struct {
	perSecond float64
	cpu       time.Duration // of this process and of the database server, per call
	server    time.Duration // the server's share of it
	wal       float64       // bytes per call
	batch     float64       // writes per commit
}

// callKinds are the kinds of answer, and over how many tasks the calls are spread.
var callKinds = []struct {
	name, path string
	tasks      int
	ratio, cpu bound
}{
	{"json", "/json", 1, atLeast(0.9), atMost(120)},
	{"json_32_tasks", "/json", 32, atLeast(0.9), atMost(120)},
	{"100k", "/png", 1, atLeast(0.8), atMost(200)},
	{"100k_32_tasks", "/png", 32, atLeast(0.8), atMost(200)},
}

func (s settings) runsAnyCalls() bool {
	for _, x := range callKinds {
		if s.runs(x.name) {
			return true
		}
	}
	return false
}

// measureCalls alternates a bare client and calls on record, for each kind of answer.
func measureCalls(ctx context.Context, b *bed, s settings, r *report) error {
	base, stop, err := startService(ctx)
	if err != nil {
		return err
	}
	defer stop()
	for _, x := range callKinds {
		if !s.runs("calls") && !s.runs(x.name) {
			continue
		}
		err := b.withCaller(ctx, "calls_"+x.name, x.tasks, base, func(ctx context.Context, d *bench, c *caller) error {
			plain := newBare(base)
			defer plain.client.CloseIdleConnections()
			var ratios, bares, audited, cpu, bareCPU, server, wal, batch []float64
			for round := range s.rounds {
				p, err := b.section(ctx, d, c, s, "bare", x.path, units, plain.call)
				if err != nil {
					return err
				}
				a, err := b.section(ctx, d, c, s, "on record", x.path, inFlight, c.call)
				if err != nil {
					return err
				}
				fmt.Fprintf(os.Stderr, "  %s %d: bare %.0f/s %s, on record %.0f/s %s, ratio %.3f\n", x.name, round+1, p.perSecond, p.cpu, a.perSecond, a.cpu, a.perSecond/p.perSecond)
				ratios, cpu = append(ratios, a.perSecond/p.perSecond), append(cpu, float64((a.cpu-p.cpu).Microseconds()))
				bares, bareCPU = append(bares, p.perSecond), append(bareCPU, float64(p.cpu.Microseconds()))
				audited, wal, batch = append(audited, a.perSecond), append(wal, a.wal), append(batch, a.batch)
				server = append(server, float64(a.server.Microseconds()))
			}
			lo := quantile(ratios, 0)
			r.add("call_throughput_"+x.name, quantile(ratios, 0.5), "of bare", x.ratio, "%.0f/s beside %.0f/s; worst of %d rounds %.3f; %d task(s)",
				quantile(audited, 0.5), quantile(bares, 0.5), s.rounds, lo, x.tasks)
			r.add("call_cpu_over_bare_us_"+x.name, quantile(cpu, 0.5), "µs", x.cpu, "client and server, over bare's %.0f; server %.0f of it; %.1f writes per commit",
				quantile(bareCPU, 0.5), quantile(server, 0.5), quantile(batch, 0.5))
			r.add("call_wal_bytes_"+x.name, quantile(wal, 0.5), "B", bound{}, "with the body where it is inline")
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// section keeps n callers busy, and after a warm-up counts for a while what they complete.
func (b *bed) section(ctx context.Context, d *bench, c *caller, s settings, client, path string, n int, call doCall) (rate, error) {
	var done atomic.Int64
	var over atomic.Bool
	g, gctx := errgroup.WithContext(ctx)
	for k := range n {
		g.Go(func() (err error) {
			pprof.Do(gctx, pprof.Labels("client", client), func(ctx context.Context) {
				for err == nil && !over.Load() {
					err = call(ctx, k, path)
					done.Add(1)
				}
			})
			return err
		})
	}
	sample := func() (at time.Time, calls int64, own, server time.Duration, wal, flushes, writes int64) {
		wal, err := d.wal(ctx)
		if err != nil {
			wal = 0
		}
		flushes, writes = c.session.Commits()
		return time.Now(), done.Load(), ownTime(), serverTime(b.postmaster), wal, flushes, writes
	}
	pause(gctx, s.warmUp)
	at, calls, own, server, wal, flushes, writes := sample()
	pause(gctx, s.section)
	at2, calls2, own2, server2, wal2, flushes2, writes2 := sample()
	over.Store(true)
	if err := g.Wait(); err != nil {
		return rate{}, err
	}
	n64 := max(1, calls2-calls)
	return rate{
		perSecond: float64(calls2-calls) / at2.Sub(at).Seconds(),
		cpu:       (own2 - own + server2 - server) / time.Duration(n64),
		server:    (server2 - server) / time.Duration(n64),
		wal:       float64(wal2-wal) / float64(n64),
		batch:     float64(writes2-writes) / float64(max(1, flushes2-flushes)),
	}, nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// measureLatency alternates single calls, so that nothing is shared with others.
func measureLatency(ctx context.Context, b *bed, s settings, r *report) error {
	base, stop, err := startService(ctx)
	if err != nil {
		return err
	}
	defer stop()
	return b.withCaller(ctx, "latency", 1, base, func(ctx context.Context, _ *bench, c *caller) error {
		plain := newBare(base)
		defer plain.client.CloseIdleConnections()
		for _, x := range []struct {
			name, path string
			must       bound
		}{{"call_added_p50_ms", "/json", atMost(2)}, {"call_added_p50_ms_100k", "/png", atMost(3)}} {
			var with, without []time.Duration
			for i := range s.pings + 10 {
				w, err := timed(ctx, plain.call, x.path)
				if err != nil {
					return err
				}
				a, err := timed(ctx, c.call, x.path)
				if err != nil {
					return err
				}
				if i >= 10 {
					without, with = append(without, w), append(with, a)
				}
			}
			added := quantile(with, 0.5) - quantile(without, 0.5)
			r.add(x.name, millis(added), "ms", x.must, "bare p50 %.2f; added at p99 %.2f", millis(quantile(without, 0.5)),
				millis(quantile(with, 0.99)-quantile(without, 0.99)))
		}
		return nil
	})
}

func timed(ctx context.Context, call doCall, path string) (time.Duration, error) {
	began := time.Now()
	err := call(ctx, 0, path)
	return time.Since(began), err
}
