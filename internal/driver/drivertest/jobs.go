package drivertest

import (
	"fmt"
	"sync"
	"time"
)

// JobState is how a job goes.
type JobState string

// The states of jobs, and what a driver makes of each.
const (
	AtWork  JobState = "at work"  // not Ready
	Ended   JobState = "ended"    // Ready
	GivenUp JobState = "given up" // Permanent, job_failed
	Unknown JobState = "unknown"  // NotFound, job_lost
)

// Look is what a service says of a job.
type Look struct {
	State JobState
	Fault Fault         // says nothing of the job
	After time.Duration // how long it asks to be left alone
}

// Jobs is what stands behind the fake service of a protocol that answers later: the service hands it each
// whole request, each question about a job and each deletion, and says what it answers.
type Jobs struct {
	*Model

	mu      sync.Mutex
	atOnce  bool // every answer comes at once
	after   time.Duration
	looks   []Look // what is said of every job, one after another; the last one stays
	fetched Answer // in place of what a job's request was to be answered with, if it has a fault
	name    func(n int) string
	jobs    map[string]*fakeJob
	dropped []string
}

type fakeJob struct {
	answer Answer
	looked int
}

func newJobs() *Jobs {
	return &Jobs{Model: newModel(), jobs: map[string]*fakeJob{}, looks: []Look{{State: AtWork}, {State: Ended}},
		name: func(n int) string { return fmt.Sprintf("job-%d", n) }}
}

// Submit takes a request. Without an id the answer is given at once; else the job of that name is, and the
// service is to be left alone for after.
func (j *Jobs) Submit(p Posted) (id string, after time.Duration, a Answer) {
	a = j.Ask(p)
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.atOnce || a.Fault != Fine && a.Fault != Babbling && a.Fault != Cutting {
		return "", 0, a
	}
	id = j.name(len(j.jobs) + 1)
	j.jobs[id] = &fakeJob{answer: a}
	return id, j.after, Answer{}
}

// Look says how a job goes.
func (j *Jobs) Look(id string) Look {
	j.mu.Lock()
	defer j.mu.Unlock()
	x := j.jobs[id]
	if x == nil {
		return Look{State: Unknown}
	}
	x.looked++
	return j.looks[min(x.looked, len(j.looks))-1]
}

// Fetch gives the answer of a job.
func (j *Jobs) Fetch(id string) Answer {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch x := j.jobs[id]; {
	case x == nil:
		return Answer{Fault: Missing}
	case j.fetched.Fault != Fine:
		return j.fetched
	default:
		return x.answer
	}
}

// Drop deletes a job; false if there is none.
func (j *Jobs) Drop(id string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	_, ok := j.jobs[id]
	delete(j.jobs, id)
	j.dropped = append(j.dropped, id)
	return ok
}

// change alters the jobs beside a service that may still be answering.
func (j *Jobs) change(f func(*Jobs)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f(j)
}

// say sets what is said of jobs from now on.
func (j *Jobs) say(looks ...Look) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.looks = looks
	for _, x := range j.jobs {
		x.looked = 0
	}
}
