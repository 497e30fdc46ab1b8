package models

import (
	"bytes"
	"context"
	"crypto/rand"
	"strings"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Limits of jobs. Over them a request is refused with 503.
const (
	maxJobs  = 20_000
	maxHeld  = 1 << 30 // bytes of bodies and results
	keepJobs = 10 * time.Minute
	maxAfter = time.Hour
)

// The ways in which a job's URL answers.
const (
	stylePlain    = "plain"    // 202 while it is at work, then the result itself
	styleJSON     = "json"     // 200 with its state, and where the result is
	styleRedirect = "redirect" // 202 while it is at work, then 303 to the result
)

// The faults of jobs.
const (
	faultFail   = "fail"   // the job ends without a result
	faultNever  = "never"  // it is at work for good
	faultLost   = "lost"   // its URL answers 404
	faultBeat   = "beat"   // callbacks say that it is at work, while it is
	faultTwice  = "twice"  // the callback comes twice
	faultEarly  = "early"  // the callback comes before the 202
	faultForged = "forged" // a callback with a wrong signature comes before the right one
	faultLate   = "late"   // the callback comes when the result has been there as long as the work took
	faultMute   = "mute"   // there is no callback
)

var (
	jobStyles = []string{stylePlain, styleJSON, styleRedirect}
	jobFaults = []string{"", faultFail, faultNever, faultLost, faultBeat, faultTwice, faultEarly, faultForged, faultLate, faultMute}
)

// The states of jobs.
const (
	jobRunning   = "running"
	jobSucceeded = "succeeded"
	jobFailed    = "failed"
)

// order is what a request asks of its job.
type order struct {
	after    time.Duration // how long the work takes
	beat     time.Duration // between two signs of life
	retry    int           // seconds for Retry-After; 0: none is said
	style    string
	fault    string
	callback string // where the result is sent; empty: nowhere
}

// job is one piece of work. What changes of it is guarded by jobs.mu.
type job struct {
	order
	id    string
	state string
	media string
	body  []byte
	held  int64
	ended time.Time
	stop  context.CancelFunc
}

// jobs are the pieces of work of one service.
type jobs struct {
	service *service
	caller  *caller
	ctx     context.Context
	stop    context.CancelFunc
	now     func() time.Time
	limit   int

	mu      sync.Mutex
	all     map[string]*job
	held    int64
	running sync.WaitGroup
}

func newJobs(s *service, c *caller) *jobs {
	j := &jobs{service: s, caller: c, now: time.Now, limit: maxJobs, all: map[string]*job{}}
	j.ctx, j.stop = context.WithCancel(context.Background())
	return j
}

// Close ends all work and waits for its end.
func (j *jobs) Close() error {
	j.stop()
	j.running.Wait()
	return nil
}

func (x *job) url() string { return "/async/jobs/" + x.id }

// add makes a job that holds so many bytes; nil if there is no place. What ended long ago is forgotten.
func (j *jobs) add(o order, held int64) (*job, context.Context) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.all) >= j.limit || j.held+held > maxHeld {
		for _, x := range j.all {
			if x.state != jobRunning && j.now().Sub(x.ended) > keepJobs {
				j.drop(x)
			}
		}
	}
	if len(j.all) >= j.limit || j.held+held > maxHeld || j.ctx.Err() != nil {
		return nil, nil
	}
	ctx, stop := context.WithCancel(j.ctx)
	x := &job{order: o, id: strings.ToLower(rand.Text()), state: jobRunning, held: held, stop: stop}
	j.all[x.id] = x
	j.held += held
	j.running.Add(1)
	return x, ctx
}

// drop forgets a job and ends its work. j.mu is held.
func (j *jobs) drop(x *job) {
	if j.all[x.id] == x {
		delete(j.all, x.id)
		j.held -= x.held
	}
	x.stop()
}

// work takes its time, computes, and sends the result where it was asked to.
func (j *jobs) work(ctx context.Context, x *job, run runner, in request) {
	defer x.stop()
	if !j.pass(ctx, x) {
		return
	}
	var out bytes.Buffer
	media, err := j.compute(ctx, run, in, &out)
	if ctx.Err() != nil {
		return
	}
	status := gantry.CallbackDone
	if err != nil || x.fault == faultFail {
		status, media = gantry.CallbackFailed, "application/problem+json"
		out.Reset()
		if err == nil {
			err = gantry.Errorf(gantry.Permanent, "simulated", "this failure was asked for")
		}
		out.Write(problemOf(err).bytes())
	}
	j.end(x, status, media, out.Bytes())
	if x.callback != "" {
		j.tell(ctx, x, status, media, out.Bytes())
	}
}

// pass waits as long as the work takes, and says meanwhile that it goes on; false if the job was given up.
func (j *jobs) pass(ctx context.Context, x *job) bool {
	over := time.NewTimer(x.after + j.service.opt.Latency)
	defer over.Stop()
	if x.fault == faultNever {
		over.Stop()
	}
	beat := time.NewTicker(x.beat)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-over.C:
			return true
		case <-beat.C:
			if x.fault == faultBeat && x.callback != "" {
				j.caller.once(ctx, x.callback, gantry.CallbackRunning, "", nil, j.caller.secret)
			}
		}
	}
}

func (j *jobs) compute(ctx context.Context, run runner, in request, out *bytes.Buffer) (string, error) {
	select {
	case j.service.seats <- struct{}{}:
		defer func() { <-j.service.seats }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	return run(in, out)
}

// end keeps what came of a job.
func (j *jobs) end(x *job, status gantry.CallbackStatus, media string, body []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	x.state, x.media, x.body, x.ended = jobSucceeded, media, body, j.now()
	if status == gantry.CallbackFailed {
		x.state = jobFailed
	}
	if j.all[x.id] == x {
		j.held += int64(len(body)) - x.held
		x.held = int64(len(body))
	}
}

// tell makes the callbacks of a job that ended.
func (j *jobs) tell(ctx context.Context, x *job, status gantry.CallbackStatus, media string, body []byte) {
	switch x.fault {
	case faultMute:
		return
	case faultLate:
		if !wait(ctx, x.after) {
			return
		}
	case faultForged:
		j.caller.post(ctx, x.callback, status, media, body, true)
	case faultTwice:
		j.caller.post(ctx, x.callback, status, media, body, false)
	}
	j.caller.post(ctx, x.callback, status, media, body, false)
}
