package models

import (
	"bytes"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

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
