package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// race is two ways to do one thing, timed in turns: the machine's mood then falls on both.
type race struct {
	own, peer []time.Duration
	ratios    []float64 // of each round: the peer's time over ours, above 1 where we are faster
	cpu       []float64 // of each round: the same of processor time, children included
}

// contender does the thing. It says how long that took.
type contender func(context.Context) (took time.Duration, err error)

// clock makes a contender of what the clock measures.
func clock(f func(context.Context) error) contender {
	return func(ctx context.Context) (time.Duration, error) {
		began := time.Now()
		err := f(ctx)
		return time.Since(began), err
	}
}

// versus runs both once to warm up and then for some rounds; every other round the peer goes first.
func versus(ctx context.Context, rounds int, own, peer contender) (*race, error) {
	r := &race{}
	for i := -1; i < rounds; i++ {
		first, second := own, peer
		if i%2 == 1 {
			first, second = peer, own
		}
		a, cpuA, err := clocked(ctx, first)
		if err != nil {
			return nil, err
		}
		b, cpuB, err := clocked(ctx, second)
		if err != nil {
			return nil, err
		}
		if i < 0 {
			continue
		}
		if i%2 == 1 {
			a, b, cpuA, cpuB = b, a, cpuB, cpuA
		}
		r.own, r.peer = append(r.own, a), append(r.peer, b)
		r.ratios, r.cpu = append(r.ratios, float64(b)/float64(a)), append(r.cpu, float64(cpuB)/float64(cpuA))
	}
	return r, nil
}

// clocked gives the time that f took, and the processor time of this process and its children. What the one before left to be
// written to the disk is there before: else who syncs waits for it too.
func clocked(ctx context.Context, f contender) (took, cpu time.Duration, err error) {
	syscall.Sync()
	before := ownTime() + endedTime()
	took, err = f(ctx)
	return took, ownTime() + endedTime() - before, err
}

// ratio is the median of the rounds.
func (r *race) ratio() float64 { return quantile(r.ratios, 0.5) }

// note tells the medians, the spread of the rounds and the load of the machine at their end.
func (r *race) note(own, peer string) string {
	load, _ := os.ReadFile("/proc/loadavg")
	return fmt.Sprintf("%s %.0f ms, %s %.0f ms; %d rounds, %.2f to %.2f; of processor time %.2f; load %s", own, millis(quantile(r.own, 0.5)), peer, millis(quantile(r.peer, 0.5)),
		len(r.ratios), quantile(r.ratios, 0), quantile(r.ratios, 1), quantile(r.cpu, 0.5), strings.Fields(string(load) + " ?")[0])
}

// peerRun is a program of another make, whose output goes nowhere.
func peerRun(program string, args ...string) contender {
	return clock(func(ctx context.Context) error { return runQuietly(ctx, program, args...) })
}

func runQuietly(ctx context.Context, program string, args ...string) error {
	c := exec.CommandContext(ctx, program, args...)
	var complaints strings.Builder
	c.Stderr = &complaints
	if err := c.Run(); err != nil {
		return errors.Join(fmt.Errorf("run %s: %w", program, err), errors.New(complaints.String()))
	}
	return nil
}
