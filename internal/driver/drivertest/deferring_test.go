package drivertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// memoryDeferring asks the jobs themselves, with a flaw.
type memoryDeferring struct {
	memoryProcessor
	jobs *Jobs
}

func (m *memoryDeferring) Deferral() *gantry.Deferral {
	if m.flaw == "waits for ever" {
		return &gantry.Deferral{Poll: time.Second}
	}
	return &gantry.Deferral{Poll: time.Second, Deadline: time.Hour}
}

func (m *memoryDeferring) Submit(ctx context.Context, req *gantry.Request, _ string) (gantry.Ticket, error) {
	in, err := m.read(ctx, req)
	if err != nil {
		return gantry.Ticket{}, err
	}
	id, after, a := m.jobs.Submit(Posted{Key: req.Key, Items: []Medium{in}})
	if m.flaw == "submits twice" {
		m.jobs.Submit(Posted{Key: req.Key, Items: []Medium{in}})
	}
	switch {
	case id == "" && m.flaw == "always waits":
		return gantry.Ticket{ID: "x"}, nil
	case id == "":
		if err := m.judge(a); err != nil {
			return gantry.Ticket{}, err
		}
		return gantry.Ticket{}, m.hand(ctx, req, a)
	case len(id) > maxTicket && m.flaw == "takes any ticket":
		return gantry.Ticket{ID: id}, nil
	case len(id) > maxTicket && m.flaw == "quotes":
		return gantry.Ticket{}, gantry.Errorf(gantry.BadResponse, "", "%s", id)
	case len(id) > maxTicket:
		return gantry.Ticket{}, gantry.Errorf(gantry.BadResponse, "", "a long ticket")
	case m.flaw == "answers early":
		m.hand(ctx, req, m.jobs.Fetch(id))
	case m.flaw == "remembers tickets":
		id = fmt.Sprintf("%p", m)
		m.jobs.mu.Lock()
		m.jobs.jobs[id] = m.jobs.jobs["job-1"]
		m.jobs.mu.Unlock()
	case m.flaw == "mixes jobs up":
		id = "job-1"
	case m.flaw == "forgets to wait":
		after = 0
	}
	return gantry.Ticket{ID: id, After: after}, nil
}

func (m *memoryDeferring) Poll(ctx context.Context, t gantry.Ticket) (gantry.Progress, error) {
	if err := ctx.Err(); err != nil && m.flaw != "ignores the end" {
		return gantry.Progress{}, err
	}
	if m.flaw == "remembers tickets" && t.ID != fmt.Sprintf("%p", m) {
		return gantry.Progress{}, gantry.Errorf(gantry.NotFound, gantry.CodeJobLost, "whose is it")
	}
	look := m.jobs.Look(t.ID)
	if look.Fault == Silent {
		if m.flaw == "knows no deadline" {
			return gantry.Progress{}, errors.New("post: too late")
		}
		<-ctx.Done()
		return gantry.Progress{}, gantry.Errorf(gantry.Timeout, "", "look: too late")
	}
	if err := m.judge(Answer{Fault: look.Fault, Body: []byte(private)}); err != nil {
		if m.flaw == "takes a failed look for a lost job" {
			err = gantry.Errorf(gantry.KindOf(err), gantry.CodeJobLost, "look")
		}
		return gantry.Progress{}, err
	}
	switch {
	case look.State == GivenUp && m.flaw != "waits for what was given up":
		return gantry.Progress{}, gantry.Errorf(gantry.Permanent, gantry.CodeJobFailed, "given up")
	case look.State == Unknown && m.flaw != "waits for what is unknown":
		return gantry.Progress{}, gantry.Errorf(gantry.NotFound, gantry.CodeJobLost, "unknown")
	}
	return gantry.Progress{Ready: look.State == Ended || m.flaw == "is always ready", After: look.After}, nil
}

func (m *memoryDeferring) Collect(ctx context.Context, t gantry.Ticket, req *gantry.Request) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	a := m.jobs.Fetch(t.ID)
	if a.Fault == Missing && m.flaw != "takes what is gone for nothing" {
		return gantry.Errorf(gantry.NotFound, gantry.CodeJobLost, "gone")
	}
	if err := m.judge(a); err != nil {
		return err
	}
	return m.hand(ctx, req, a)
}

func (m *memoryDeferring) Unpack(ctx context.Context, cb gantry.Callback, req *gantry.Request) error {
	if cb.Status == gantry.CallbackFailed && m.flaw != "unpacks failures" {
		return gantry.Errorf(gantry.Permanent, gantry.CodeJobFailed, "given up")
	}
	if m.flaw == "asks for what was sent" {
		m.jobs.Ask(Posted{Items: []Medium{{}}})
	}
	body, err := cb.Body(ctx)
	if err != nil {
		return err
	}
	if m.flaw != "leaves callbacks open" {
		defer body.Close()
	}
	return req.Receive(ctx, cb.Header.Get("Content-Type"), -1, body)
}

func (m *memoryDeferring) Abandon(_ context.Context, t gantry.Ticket) error {
	if m.flaw != "abandons nothing" && !m.jobs.Drop(t.ID) && m.flaw == "insists on its jobs" {
		return gantry.Errorf(gantry.NotFound, "", "no such job")
	}
	return nil
}

func TestDeferringSuite(t *testing.T) {
	t.Parallel()
	flaws := map[string]string{
		"waits for ever":                     "says how it waits",
		"submits twice":                      "sends now and takes the answer later",
		"answers early":                      "sends now and takes the answer later",
		"is always ready":                    "sends now and takes the answer later",
		"always waits":                       "takes an answer that comes at once",
		"remembers tickets":                  "goes on in another process",
		"mixes jobs up":                      "keeps jobs apart",
		"forgets to wait":                    "hears how long to wait",
		"takes any ticket":                   "refuses a ticket that is too long",
		"quotes":                             "refuses a ticket that is too long",
		"waits for what was given up":        "tells a job that was given up",
		"waits for what is unknown":          "tells a job that is unknown",
		"takes what is gone for nothing":     "finds an answer gone",
		"knows no deadline":                  "ends a look at its deadline",
		"ignores the end":                    "ends a look when cancelled",
		"abandons nothing":                   "abandons a job",
		"insists on its jobs":                "abandons a job",
		"unpacks failures":                   "unpacks an answer",
		"asks for what was sent":             "unpacks an answer",
		"leaves callbacks open":              "unpacks an answer",
		"hides the error of receiving":       "hands on an error of receiving later",
		"takes a failed look for a lost job": "classifies a look: broken",
		"takes busy":                         "classifies a look: busy",
		"takes denying":                      "classifies a fetch: denying",
		"takes resetting":                    "classifies a fetch: resetting",
	}
	expect(t, deferringCases(), func(flaw string) deferred {
		j := newJobs()
		open := func() gantry.Deferring {
			return &memoryDeferring{memoryProcessor{flaw: flaw, model: j.Model}, j}
		}
		return deferred{j, open(), open()}
	}, flaws)
}

// The adapter of the Processor suite polls until the answer is there, and hands errors on.
func TestWaitingProcessor(t *testing.T) {
	t.Parallel()
	j := newJobs()
	j.looks = []Look{{State: AtWork}, {State: AtWork}, {State: Ended}}
	w := waiting{&memoryDeferring{memoryProcessor{model: j.Model}, j}}
	p := post("k", []byte("x"), 1)
	if err := errors.Join(w.Process(t.Context(), &p.Request), p.want(gantry.MediaPNG, []byte("answer to x"))); err != nil {
		t.Error(err)
	}
	j.say(Look{State: GivenUp})
	if err := w.Process(t.Context(), &p.Request); gantry.CodeOf(err) != gantry.CodeJobFailed || strings.Contains(err.Error(), private) {
		t.Error(err)
	}
}
