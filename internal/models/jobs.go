package models

import (
	"bytes"
	"context"
	"crypto/rand"
	"net/http"
	"slices"
	"strconv"
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

// orderOf reads the query and the header of a request.
func (j *jobs) orderOf(r *http.Request) (o order, err error) {
	q := r.URL.Query()
	bad := func(name string) error {
		return gantry.Errorf(gantry.Illegal, "bad_query", "%s is none that is served", name)
	}
	for name, to := range map[string]*time.Duration{"after": &o.after, "beat": &o.beat} {
		if text := q.Get(name); text != "" {
			if *to, err = time.ParseDuration(text); err != nil || *to < 0 || *to > maxAfter {
				return o, bad(name)
			}
		}
	}
	if text := q.Get("retry_after"); text != "" {
		if o.retry, err = strconv.Atoi(text); err != nil || o.retry < 0 || o.retry > 3600 {
			return o, bad("retry_after")
		}
	}
	o.style, o.fault, o.callback = q.Get("style"), q.Get("fault"), r.Header.Get("Callback-Url")
	if o.style == "" {
		o.style = stylePlain
	}
	if o.beat < 10*time.Millisecond {
		o.beat = time.Second
	}
	switch {
	case !slices.Contains(jobStyles, o.style):
		return o, bad("style")
	case !slices.Contains(jobFaults, o.fault):
		return o, bad("fault")
	case o.callback != "":
		return o, j.caller.allow(o.callback)
	}
	return o, nil
}

// submit takes a request and answers with where its job is.
func (j *jobs) submit(run runner) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		o, err := j.orderOf(r)
		var in bytes.Buffer
		if err == nil {
			err = j.service.read(w, r, &in)
		}
		if err != nil {
			problemOf(err).write(w)
			return
		}
		if j.service.faults.next() {
			problem{Status: j.service.opt.Status, Code: "simulated", Detail: "this failure was asked for"}.write(w)
			return
		}
		x, ctx := j.add(o, int64(in.Len()))
		if x == nil {
			problem{Status: http.StatusServiceUnavailable, Code: "busy", Detail: "too many jobs"}.write(w)
			return
		}
		work := func() { j.work(ctx, x, run, request{r.Header.Get("Content-Type"), in.Bytes()}) }
		if o.fault == faultEarly {
			work()
			j.running.Done()
		} else {
			go func() { defer j.running.Done(); work() }()
		}
		w.Header().Set("Location", x.url())
		j.say(w, http.StatusAccepted, x)
	}
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

// look gives a copy of a job; false if nothing is known of it.
func (j *jobs) look(r *http.Request) (job, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	x := j.all[r.PathValue("id")]
	if x == nil || x.fault == faultLost {
		return job{}, false
	}
	return *x, true
}

// poll says how a job goes, in its style.
func (j *jobs) poll(w http.ResponseWriter, r *http.Request) {
	x, ok := j.look(r)
	switch {
	case !ok:
		noJob(w)
	case x.style == styleJSON:
		j.say(w, http.StatusOK, &x)
	case x.state == jobRunning:
		j.say(w, http.StatusAccepted, &x)
	case x.style == styleRedirect:
		w.Header().Set("Location", x.url()+"/result")
		j.say(w, http.StatusSeeOther, &x)
	default:
		x.result(w)
	}
}

// say writes the state of a job.
func (j *jobs) say(w http.ResponseWriter, status int, x *job) {
	j.mu.Lock()
	said := map[string]string{"id": x.id, "status": x.state, "url": x.url(), "result": x.url() + "/result"}
	j.mu.Unlock()
	if x.retry > 0 && said["status"] == jobRunning {
		w.Header().Set("Retry-After", strconv.Itoa(x.retry))
	}
	writeJSON(w, status, gantry.MediaJSON, said)
}

// collect gives the result of a job that ended.
func (j *jobs) collect(w http.ResponseWriter, r *http.Request) {
	switch x, ok := j.look(r); {
	case !ok:
		noJob(w)
	case x.state == jobRunning:
		j.say(w, http.StatusAccepted, &x)
	default:
		x.result(w)
	}
}

func (x job) result(w http.ResponseWriter) {
	status := http.StatusOK
	if x.state == jobFailed {
		status = http.StatusUnprocessableEntity
	}
	answer(w, status, x.media, x.body)
}

// cancel ends a job and forgets it.
func (j *jobs) cancel(w http.ResponseWriter, r *http.Request) {
	j.mu.Lock()
	x := j.all[r.PathValue("id")]
	if x != nil {
		j.drop(x)
	}
	j.mu.Unlock()
	if x == nil {
		noJob(w)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func noJob(w http.ResponseWriter) {
	problem{Status: http.StatusNotFound, Code: gantry.CodeJobLost, Detail: "no such job"}.write(w)
}
