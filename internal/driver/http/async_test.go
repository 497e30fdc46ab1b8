package http

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Each mistake of an async block is found once, at its key.
func TestAsyncConfig(t *testing.T) {
	t.Parallel()
	ok := AsyncConfig{Deadline: time.Hour, Poll: time.Minute}
	calls := AsyncConfig{Deadline: time.Hour, Callback: "hmac", Secret: "${env:S}"}
	for _, c := range []struct {
		from   AsyncConfig
		change func(*AsyncConfig)
		keys   []string
	}{
		{AsyncConfig{}, nil, nil},
		{ok, nil, nil},
		{calls, nil, nil},
		{calls, func(a *AsyncConfig) {
			a.Poll, a.Heartbeat, a.CallbackHeader, a.Secret = 30*time.Second, 5*time.Minute, "X-Hook", "${file:/run/s}"
		}, nil},
		{ok, func(a *AsyncConfig) {
			a.Ticket, a.TicketURL, a.Status, a.Result = "/id", "/x/{id}/y", "/a~1b/~0", "{ticket}/results"
		}, nil},
		{ok, func(a *AsyncConfig) {
			a.Status, a.Done, a.Failed, a.Again = "/s", []string{"OK"}, []string{"bad"}, []string{"lost"}
		}, nil},
		{ok, func(a *AsyncConfig) { a.Deadline = 0 }, []string{"deadline"}},
		{AsyncConfig{Deadline: time.Hour}, nil, []string{""}},
		{AsyncConfig{Cancel: true}, nil, []string{"deadline", ""}},
		{calls, func(a *AsyncConfig) { a.Callback = "plain" }, []string{"callback"}},
		{calls, func(a *AsyncConfig) { a.Secret = "" }, []string{"secret"}},
		{calls, func(a *AsyncConfig) { a.Secret = "whsec_literal" }, []string{"secret"}},
		{calls, func(a *AsyncConfig) { a.Secret = "${env:S" }, []string{"secret"}},
		{calls, func(a *AsyncConfig) { a.Secret = "${file:x}" }, []string{"secret"}},
		{ok, func(a *AsyncConfig) { a.Secret = "${env:S}" }, []string{"secret"}},
		{ok, func(a *AsyncConfig) { a.Heartbeat = time.Second }, []string{"heartbeat"}},
		{ok, func(a *AsyncConfig) { a.Heartbeat = 2 * time.Hour }, []string{"heartbeat"}},
		{ok, func(a *AsyncConfig) { a.Ticket = "two words" }, []string{"ticket"}},
		{ok, func(a *AsyncConfig) { a.Ticket = "/a~2" }, []string{"ticket"}},
		{ok, func(a *AsyncConfig) { a.TicketURL = "/x" }, []string{"ticket_url"}},
		{ok, func(a *AsyncConfig) { a.TicketURL = "x/{id}" }, []string{"ticket_url"}},
		{ok, func(a *AsyncConfig) { a.TicketURL = "/{id}/{id}" }, []string{"ticket_url"}},
		{ok, func(a *AsyncConfig) { a.TicketURL = "/{id}?x" }, []string{"ticket_url"}},
		{ok, func(a *AsyncConfig) { a.Status = "status" }, []string{"status"}},
		{ok, func(a *AsyncConfig) { a.Result = "results" }, []string{"result"}},
		{ok, func(a *AsyncConfig) { a.Result = "{ticket}" }, []string{"result"}},
		{ok, func(a *AsyncConfig) { a.Result = "{ticket}/a b" }, []string{"result"}},
		{ok, func(a *AsyncConfig) { a.Result = "/~" }, []string{"result"}},
		{ok, func(a *AsyncConfig) { a.Done, a.Again = []string{"x"}, []string{"y"} }, []string{"done", "again"}},
		{ok, func(a *AsyncConfig) { a.Status, a.Failed = "/s", []string{"Done"} }, nil},
		{ok, func(a *AsyncConfig) { a.Status, a.Done, a.Failed = "/s", []string{"ok", "no"}, []string{"No"} }, []string{"failed"}},
		{ok, func(a *AsyncConfig) { a.Status, a.Done = "/s", []string{""} }, []string{"done"}},
	} {
		if c.change != nil {
			c.change(&c.from)
		}
		var keys []string
		for _, p := range c.from.Check() {
			keys = append(keys, p.Key)
			if p.Text == "" || c.from.Secret != "" && slices.Contains([]string{p.Text}, string(c.from.Secret)) {
				t.Errorf("%+v: %q", c.from, p.Text)
			}
		}
		if !slices.Equal(keys, c.keys) {
			t.Errorf("%+v: %q, want %q", c.from, keys, c.keys)
		}
	}
}

// What a block says beside the rest of a config is checked there, and a block that is wrong opens nothing.
func TestAsyncBesideTheRest(t *testing.T) {
	t.Parallel()
	calls := AsyncConfig{Deadline: time.Hour, Callback: "hmac", Secret: "${env:S}"}
	for name, ok := range map[string]bool{
		"": true, "Webhook": true, "two words": false, "Content-Type": false, "accept": false, "prefer": false, "Idempotency-Key": false, "x-site": false,
	} {
		c := ProcessorConfig{URL: "http://127.0.0.1/", Headers: map[string]string{"X-Site": "n"}, Async: calls}
		c.Async.CallbackHeader = name
		want := "[]"
		if !ok {
			want = "[async.callback_header]"
		}
		var keys []string
		for _, p := range c.Check() {
			keys = append(keys, p.Key)
		}
		if fmt.Sprint(keys) != want {
			t.Errorf("%q: %v", name, keys)
		}
	}
	c := ProcessorConfig{URL: "http://127.0.0.1/", Async: AsyncConfig{Poll: time.Second, CallbackHeader: "X"}}
	if got := c.Check(); len(got) != 2 || got[0].Key != "async.deadline" || got[1].Key != "async.callback_header" {
		t.Errorf("%+v", got)
	}
	if _, err := NewProcessor(t.Context(), c, nil); gantry.CodeOf(err) != CodeBadConfig {
		t.Error(err)
	}
}

func TestDeferral(t *testing.T) {
	t.Parallel()
	p := openAt(t, ProcessorConfig{URL: "http://127.0.0.1/", Async: AsyncConfig{
		Deadline: time.Hour, Poll: time.Minute, Heartbeat: 5 * time.Minute, Callback: "hmac", Secret: "${env:S}",
	}})
	want := gantry.Deferral{Poll: time.Minute, Callback: "${env:S}", Deadline: time.Hour, Heartbeat: 5 * time.Minute}
	if got := p.Deferral(); got == nil || *got != want {
		t.Errorf("%+v", got)
	}
}
