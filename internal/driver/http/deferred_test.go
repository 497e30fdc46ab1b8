package http

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// patient is an async block that a test changes.
func patient(change func(*AsyncConfig)) ProcessorConfig {
	a := AsyncConfig{Deadline: time.Hour, Poll: time.Second, Cancel: true}
	if change != nil {
		change(&a)
	}
	return ProcessorConfig{URL: "/v1/jobs", Async: a}
}

// replies answers every request the same.
func replies(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

func wantError(t *testing.T, what string, err error, kind gantry.Kind, code gantry.Code) {
	t.Helper()
	own, ok := errors.AsType[*gantry.Error](err)
	if !ok || own.Kind != kind || own.Code != code {
		t.Errorf("%s: %v (%s, %s), want %s, %s", what, err, gantry.KindOf(err), gantry.CodeOf(err), kind, code)
	}
	if err != nil && strings.Contains(err.Error(), secret) {
		t.Errorf("%s: it quotes the service: %v", what, err)
	}
}

// What a service says of a job it took becomes a ticket, and nothing else does.
func TestTickets(t *testing.T) {
	t.Parallel()
	const js = "application/json"
	long := strings.Repeat("x", 1000)
	pointer := func(a *AsyncConfig) { a.Ticket = "/id" }
	byID := func(a *AsyncConfig) { a.Ticket, a.TicketURL = "/job/id", "/status/{id}" }
	for what, c := range map[string]struct {
		change func(*AsyncConfig)
		answer http.HandlerFunc
		id     string
		after  time.Duration
		kind   gantry.Kind
		code   gantry.Code // "": a ticket, or an answer if id is empty
	}{
		"a path":                  {nil, replies(202, "", "Location", "/v1/jobs/7?x=1&y=%2F", "Retry-After", "9"), "/v1/jobs/7?x=1&y=%2F", 9 * time.Second, 0, ""},
		"a relative path":         {nil, replies(202, "", "Location", "jobs/7"), "/v1/jobs/7", 0, 0, ""},
		"with a fragment":         {nil, replies(202, "", "Location", "/j#x"), "/j", 0, 0, ""},
		"created":                 {nil, replies(201, "{}", "Location", "/j"), "/j", 0, 0, ""},
		"created, and no place":   {nil, replies(201, "{}", "Content-Type", js), "", 0, 0, ""},
		"an answer with a place":  {nil, replies(200, "{}", "Content-Type", js, "Location", "/j"), "", 0, 0, ""},
		"another header":          {func(a *AsyncConfig) { a.Ticket = "Operation-Location" }, replies(202, "", "Operation-Location", "/ops/1", "Location", "/r"), "/ops/1", 0, 0, ""},
		"an id in a header":       {func(a *AsyncConfig) { a.Ticket, a.TicketURL = "X-Job", "/q/{id}/state" }, replies(202, "", "X-Job", "a/b?c"), "/q/a%2Fb%3Fc/state", 0, 0, ""},
		"a URL in JSON":           {pointer, replies(202, `{"id":"/j/1"}`), "/j/1", 0, 0, ""},
		"an id in JSON":           {byID, replies(200, `{"job":{"id":17}}`, "Content-Type", js), "/status/17", 0, 0, ""},
		"JSON that is the answer": {byID, replies(200, `{"score":17}`, "Content-Type", js), "", 0, 0, ""},
		"no place":                {nil, replies(202, secret), "", 0, gantry.BadResponse, CodeNoTicket},
		"no id":                   {pointer, replies(202, `{"ID":"x"}`), "", 0, gantry.BadResponse, CodeNoTicket},
		"an empty id":             {pointer, replies(202, `{"id":""}`), "", 0, gantry.BadResponse, CodeNoTicket},
		"an id that is an object": {pointer, replies(202, `{"id":{}}`), "", 0, gantry.BadResponse, CodeNoTicket},
		"no JSON":                 {pointer, replies(202, secret), "", 0, gantry.BadResponse, CodeBadJSON},
		"JSON 100,000 deep":       {pointer, replies(202, strings.Repeat("[", 100_000)), "", 0, gantry.BadResponse, CodeJSONTooDeep},
		"a long text":             {pointer, replies(202, `{"x":"`+strings.Repeat(secret, 20_000)+`","id":"/j"}`), "", 0, gantry.BadResponse, CodeJSONTooLarge},
		"compressed":              {pointer, replies(202, "\x1f\x8b", "Content-Encoding", "gzip"), "", 0, gantry.BadResponse, CodeEncoded},
		"another host":            {nil, replies(202, "", "Location", "http://evil.example/"+secret), "", 0, gantry.BadResponse, CodeUndeclared},
		"another port":            {nil, replies(202, "", "Location", "http://127.0.0.1:1/j"), "", 0, gantry.BadResponse, CodeUndeclared},
		"another scheme":          {nil, replies(202, "", "Location", "file:///etc/"+secret), "", 0, gantry.BadResponse, CodeUndeclared},
		"no scheme":               {nil, replies(202, "", "Location", "//evil.example/"+secret), "", 0, gantry.BadResponse, CodeUndeclared},
		"opaque":                  {nil, replies(202, "", "Location", "data:"+secret), "", 0, gantry.BadResponse, CodeUndeclared},
		"a user":                  {nil, replies(202, "", "Location", "http://"+secret+"@127.0.0.1/j"), "", 0, gantry.BadResponse, CodeBadTicket},
		"no URL":                  {nil, replies(202, "", "Location", "http://%zz"), "", 0, gantry.BadResponse, CodeBadTicket},
		"too long":                {nil, replies(202, "", "Location", "/"+long+long[:24]), "", 0, gantry.BadResponse, CodeBadTicket},
		"just not too long":       {nil, replies(202, "", "Location", "/"+long+long[:23]), "/" + long + long[:23], 0, 0, ""},
		"far too long":            {nil, replies(202, "", "Location", "/"+strings.Repeat(long, 60)), "", 0, gantry.BadResponse, CodeBadTicket},
		"an id that climbs":       {byID, replies(202, `{"job":{"id":".."}}`), "", 0, gantry.BadResponse, CodeBadTicket},
		"busy":                    {nil, replies(503, secret, "Retry-After", "9"), "", 0, gantry.Unavailable, "http_503"},
		"a redirect":              {nil, replies(303, secret, "Location", "/j"), "", 0, gantry.BadResponse, CodeRedirect},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var came atomic.Int32
			p := openProcessor(t, patient(c.change), func(w http.ResponseWriter, r *http.Request) { came.Add(1); c.answer(w, r) })
			var out []output
			ticket, err := p.Submit(t.Context(), request(&out, "x"), "")
			if c.code != "" {
				wantError(t, what, err, c.kind, c.code)
			} else if err != nil {
				t.Error(err)
			}
			if ticket != (gantry.Ticket{ID: c.id, After: c.after}) {
				t.Errorf("%+v", ticket)
			}
			if answered := c.code == "" && c.id == ""; answered != (len(out) == 1) {
				t.Errorf("outputs %v", out)
			}
			if came.Load() != 1 {
				t.Errorf("%d requests", came.Load())
			}
		})
	}
}

// A path that looks like another host is a path, in every later request too.
func TestTicketOfTwoSlashes(t *testing.T) {
	t.Parallel()
	var paths []string
	var p *processor
	p = openProcessor(t, patient(nil), func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.RequestURI)
		w.Header().Set("Location", p.url.Scheme+"://"+p.url.Host+"//evil.example/j")
		w.WriteHeader(202)
	})
	ticket, err := p.Submit(t.Context(), request(nil, "x"), "")
	if err != nil || ticket.ID != "//evil.example/j" {
		t.Fatalf("%+v, %v", ticket, err)
	}
	if x, err := p.Poll(t.Context(), ticket); err != nil || x.Ready || paths[1] != "//evil.example/j" {
		t.Errorf("%+v, %v, %v", x, err, paths)
	}
}

// A service that calls back needs to give no ticket. What it is told, and when, is the config's matter.
func TestCallbackAddress(t *testing.T) {
	t.Parallel()
	var got seen
	h := func(w http.ResponseWriter, r *http.Request) {
		got = seen{header: r.Header}
		w.WriteHeader(202)
	}
	calls := func(a *AsyncConfig) { a.Poll, a.Callback, a.Secret = 0, "hmac", "${env:S}" }
	for what, c := range map[string]struct {
		change   func(*AsyncConfig)
		callback string
		header   string
		id       string
	}{
		"told":           {calls, "http://127.0.0.1:1/callbacks/x", "Callback-Url", uncalled},
		"another header": {func(a *AsyncConfig) { calls(a); a.CallbackHeader = "X-Hook" }, "http://127.0.0.1:1/callbacks/x", "X-Hook", uncalled},
		"none there":     {calls, "", "Callback-Url", ""},
		"not wanted":     {nil, "http://127.0.0.1:1/callbacks/x", "Callback-Url", ""},
	} {
		p := openProcessor(t, patient(c.change), h)
		ticket, err := p.Submit(t.Context(), request(nil, "x"), c.callback)
		if ticket.ID != c.id || (err == nil) != (c.id != "") {
			t.Errorf("%s: %+v, %v", what, ticket, err)
		}
		if c.id == uncalled && got.header.Get(c.header) != c.callback || c.id == "" && got.header.Get(c.header) != "" || got.header.Get("Prefer") != "respond-async" {
			t.Errorf("%s: %v", what, got.header)
		}
		got = seen{}
		if c.id == "" {
			continue
		}
		if x, err := p.Poll(t.Context(), ticket); err != nil || x != (gantry.Progress{}) || p.Abandon(t.Context(), ticket) != nil || got.header != nil {
			t.Errorf("%s: poll %+v, %v; a request %v", what, x, err, got.header)
		}
	}
}

// What a job's URL answers says how the work goes, and every answer that makes no sense is an error.
func TestPolls(t *testing.T) {
	t.Parallel()
	state := func(a *AsyncConfig) { a.Status = "/a~1b/0/status" }
	in := func(s string) string { return `{"a/b":[{"status":` + s + `}]}` }
	words := func(a *AsyncConfig) {
		state(a)
		a.Done, a.Failed, a.Again = []string{"true"}, []string{"0"}, []string{"evicted"}
	}
	for what, c := range map[string]struct {
		change func(*AsyncConfig)
		answer http.HandlerFunc
		want   gantry.Progress
		kind   gantry.Kind
		code   gantry.Code
	}{
		"at work":              {nil, replies(202, "", "Retry-After", "30"), gantry.Progress{After: 30 * time.Second}, 0, ""},
		"done":                 {nil, replies(200, strings.Repeat("P", 1<<20), "Content-Type", "image/png"), gantry.Progress{Ready: true}, 0, ""},
		"done, with nothing":   {nil, replies(204, ""), gantry.Progress{Ready: true}, 0, ""},
		"elsewhere":            {nil, replies(303, "", "Location", "/r/1"), gantry.Progress{Ready: true}, 0, ""},
		"elsewhere, found":     {state, replies(302, "", "Location", "/r/1"), gantry.Progress{Ready: true}, 0, ""},
		"on another host":      {nil, replies(303, "", "Location", "http://evil.example/"+secret), gantry.Progress{}, gantry.BadResponse, CodeUndeclared},
		"nowhere":              {nil, replies(303, ""), gantry.Progress{}, gantry.BadResponse, CodeBadTicket},
		"moved":                {nil, replies(307, "", "Location", "/r/1"), gantry.Progress{}, gantry.BadResponse, CodeRedirect},
		"gone":                 {nil, replies(410, secret), gantry.Progress{}, gantry.NotFound, gantry.CodeJobLost},
		"not found":            {state, replies(404, secret), gantry.Progress{}, gantry.NotFound, gantry.CodeJobLost},
		"busy":                 {nil, replies(429, secret), gantry.Progress{}, gantry.Unavailable, "http_429"},
		"broken":               {state, replies(500, secret), gantry.Progress{}, gantry.Transient, "http_500"},
		"denied":               {state, replies(403, secret), gantry.Progress{}, gantry.Denied, "http_403"},
		"state: at work":       {state, replies(200, in(`"Running"`), "Retry-After", "5"), gantry.Progress{After: 5 * time.Second}, 0, ""},
		"state: unknown":       {state, replies(202, in(`"IN_QUEUE"`)), gantry.Progress{}, 0, ""},
		"state: done":          {state, replies(200, in(`"Succeeded"`), "Retry-After", "5"), gantry.Progress{Ready: true}, 0, ""},
		"state: done in a 202": {state, replies(202, in(`"COMPLETED"`)), gantry.Progress{Ready: true}, 0, ""},
		"state: failed":        {state, replies(200, in(`"Failed"`), "Retry-After", "5"), gantry.Progress{}, gantry.Permanent, gantry.CodeJobFailed},
		"state: timed out":     {state, replies(200, in(`"TIMED_OUT"`)), gantry.Progress{}, gantry.Transient, gantry.CodeJobFailed},
		"words: done":          {words, replies(200, in(`true`)), gantry.Progress{Ready: true}, 0, ""},
		"words: failed":        {words, replies(200, in(`0`)), gantry.Progress{}, gantry.Permanent, gantry.CodeJobFailed},
		"words: again":         {words, replies(200, in(`"Evicted"`)), gantry.Progress{}, gantry.Transient, gantry.CodeJobFailed},
		"words: other way":     {func(a *AsyncConfig) { state(a); a.Failed = []string{"done"} }, replies(200, in(`"done"`)), gantry.Progress{}, gantry.Permanent, gantry.CodeJobFailed},
		"words: no others":     {words, replies(200, in(`"succeeded"`)), gantry.Progress{}, 0, ""},
		"no state":             {state, replies(200, `{"a/b":[]}`), gantry.Progress{}, gantry.BadResponse, CodeNoState},
		"an empty state":       {state, replies(200, in(`""`)), gantry.Progress{}, gantry.BadResponse, CodeNoState},
		"no object":            {state, replies(200, `"`+secret+`"`), gantry.Progress{}, gantry.BadResponse, CodeNoState},
		"nothing":              {state, replies(200, ""), gantry.Progress{}, gantry.BadResponse, CodeBadJSON},
		"no JSON":              {state, replies(200, "<html>"+secret), gantry.Progress{}, gantry.BadResponse, CodeBadJSON},
		"JSON 100,000 deep":    {state, replies(200, strings.Repeat(`{"a":`, 100_000)), gantry.Progress{}, gantry.BadResponse, CodeJSONTooDeep},
		"too much":             {state, replies(200, in(`"`+strings.Repeat("x", maxSmall)+`"`)), gantry.Progress{}, gantry.BadResponse, CodeJSONTooLarge},
		"compressed":           {state, replies(200, "\x1f\x8b"+secret, "Content-Encoding", "gzip"), gantry.Progress{}, gantry.BadResponse, CodeEncoded},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var lines atomic.Value
			p := openProcessor(t, patient(c.change), func(w http.ResponseWriter, r *http.Request) {
				lines.Store(r.Method + " " + r.RequestURI)
				c.answer(w, r)
			})
			x, err := p.Poll(t.Context(), gantry.Ticket{ID: "/v1/jobs/a%2Fb?x"})
			if c.code != "" {
				wantError(t, what, err, c.kind, c.code)
			} else if err != nil {
				t.Error(err)
			}
			if x != c.want || lines.Load() != "GET /v1/jobs/a%2Fb?x" {
				t.Errorf("%+v, want %+v; %v", x, c.want, lines.Load())
			}
		})
	}
}
