package http

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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

// The answer of a job is fetched where it is, and taken as one of Process is.
func TestCollect(t *testing.T) {
	t.Parallel()
	const js, mixed = "application/json", "multipart/mixed; boundary=b"
	pages := map[string]http.HandlerFunc{
		"/j/done":          replies(200, "PNG", "Content-Type", "image/png"),
		"/j/many":          replies(200, "--b\r\nContent-Type: image/png\r\n\r\none\r\n--b\r\nContent-Type: image/jpeg\r\n\r\ntwo\r\n--b--", "Content-Type", mixed),
		"/j/moved":         replies(303, "", "Location", "/j/done"),
		"/j/twice":         replies(303, "", "Location", "/j/moved"),
		"/j/away":          replies(303, "", "Location", "http://evil.example/"+secret),
		"/j/status":        replies(200, `{"status":"done","output":{"url":"/j/done"}}`, "Content-Type", js),
		"/j/status/out/1":  replies(200, "PNG", "Content-Type", "image/png"),
		"/j/far":           replies(200, `{"output":{"url":"https://evil.example/`+secret+`"}}`, "Content-Type", js),
		"/j/unsaid":        replies(200, `{"output":null}`, "Content-Type", js),
		"/j/work":          replies(202, ""),
		"/j/gone":          replies(410, ""),
		"/j/page":          replies(200, secret, "Content-Type", "text/html"),
		"/j/deep":          replies(200, strings.Repeat("[", 100_000), "Content-Type", js),
		"/j/gzip":          replies(200, "\x1f\x8b", "Content-Type", js, "Content-Encoding", "gzip"),
		"/j/part?of=1":     replies(206, "PN", "Content-Type", "image/png"),
		"/j/b%2Fc/out/1?q": replies(200, "PNG", "Content-Type", "image/png"),
	}
	below := func(a *AsyncConfig) { a.Result = "{ticket}/out/1" }
	pointer := func(a *AsyncConfig) { a.Result = "/output/url" }
	for what, c := range map[string]struct {
		change   func(*AsyncConfig)
		id       string
		out      int
		requests int32
		kind     gantry.Kind
		code     gantry.Code
	}{
		"itself":           {nil, "/j/done", 1, 1, 0, ""},
		"several":          {nil, "/j/many", 2, 1, 0, ""},
		"redirected":       {nil, "/j/moved", 1, 2, 0, ""},
		"redirected twice": {nil, "/j/twice", 0, 2, gantry.BadResponse, CodeRedirect},
		"redirected away":  {nil, "/j/away", 0, 1, gantry.BadResponse, CodeUndeclared},
		"the state itself": {nil, "/j/status", 1, 1, 0, ""},
		"below":            {below, "/j/status", 1, 1, 0, ""},
		"below, escaped":   {below, "/j/b%2Fc?q", 1, 1, 0, ""},
		"pointed":          {pointer, "/j/status", 1, 2, 0, ""},
		"pointed away":     {pointer, "/j/far", 0, 1, gantry.BadResponse, CodeUndeclared},
		"pointed nowhere":  {pointer, "/j/unsaid", 0, 1, gantry.BadResponse, CodeNoState},
		"pointed, gone":    {pointer, "/j/gone", 0, 1, gantry.NotFound, gantry.CodeJobLost},
		"at work":          {nil, "/j/work", 0, 1, gantry.Transient, CodeNotReady},
		"gone":             {nil, "/j/gone", 0, 1, gantry.NotFound, gantry.CodeJobLost},
		"a page":           {nil, "/j/page", 0, 1, gantry.BadResponse, CodeMediaType},
		"deep":             {nil, "/j/deep", 0, 1, gantry.BadResponse, CodeJSONTooDeep},
		"compressed":       {nil, "/j/gzip", 0, 1, gantry.BadResponse, CodeEncoded},
		"a part":           {nil, "/j/part?of=1", 0, 1, gantry.BadResponse, "http_206"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var came atomic.Int32
			p := openProcessor(t, patient(c.change), func(w http.ResponseWriter, r *http.Request) {
				came.Add(1)
				if page := pages[r.RequestURI]; page != nil && r.Method == "GET" {
					page(w, r)
				} else {
					replies(418, r.RequestURI)(w, r)
				}
			})
			var out []output
			err := p.Collect(t.Context(), gantry.Ticket{ID: c.id}, request(&out))
			if c.code != "" {
				wantError(t, what, err, c.kind, c.code)
			} else if err != nil {
				t.Error(err)
			}
			if len(out) != c.out || came.Load() != c.requests {
				t.Errorf("%d outputs of %d requests", len(out), came.Load())
			}
		})
	}
}

// A callback's body is taken as an answer is, and nothing is sent for it.
func TestUnpack(t *testing.T) {
	t.Parallel()
	state := func(a *AsyncConfig) { a.Status = "/status" }
	for what, c := range map[string]struct {
		change func(*AsyncConfig)
		status gantry.CallbackStatus
		media  string
		body   string
		out    int
		kind   gantry.Kind
		code   gantry.Code
	}{
		"a picture":     {nil, gantry.CallbackDone, "image/png", "PNG", 1, 0, ""},
		"data":          {nil, gantry.CallbackDone, "application/json; charset=utf-8", `{"score":1}`, 1, 0, ""},
		"several":       {nil, gantry.CallbackDone, "multipart/mixed; boundary=b", "--b\r\nContent-Type: image/png\r\n\r\none\r\n--b--", 1, 0, ""},
		"nothing":       {nil, gantry.CallbackDone, "", "", 0, 0, ""},
		"a page":        {nil, gantry.CallbackDone, "text/html", secret, 0, gantry.BadResponse, CodeMediaType},
		"half a text":   {nil, gantry.CallbackDone, "application/json", `{"score":`, 0, gantry.BadResponse, CodeBadJSON},
		"deep":          {nil, gantry.CallbackDone, "application/json", strings.Repeat("[", 100_000), 0, gantry.BadResponse, CodeJSONTooDeep},
		"failed":        {nil, gantry.CallbackFailed, "text/plain", secret, 0, gantry.Permanent, gantry.CodeJobFailed},
		"failed, again": {state, gantry.CallbackFailed, "application/json", `{"status":"preempted"}`, 0, gantry.Transient, gantry.CodeJobFailed},
		"failed, odd":   {state, gantry.CallbackFailed, "application/json", secret, 0, gantry.Permanent, gantry.CodeJobFailed},
		"failed, done":  {state, gantry.CallbackFailed, "application/json", `{"status":"done"}`, 0, gantry.Permanent, gantry.CodeJobFailed},
		"at work":       {nil, gantry.CallbackRunning, "", "", 0, gantry.Transient, CodeNotReady},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			p := openProcessor(t, patient(c.change), func(http.ResponseWriter, *http.Request) { t.Error("a request came") })
			var out []output
			err := p.Unpack(t.Context(), called(c.status, c.media, c.body), request(&out))
			if c.code != "" {
				wantError(t, what, err, c.kind, c.code)
			} else if err != nil {
				t.Error(err)
			}
			if len(out) != c.out {
				t.Errorf("outputs %v", out)
			}
		})
	}
	p := openProcessor(t, patient(nil), nil)
	cb := called(gantry.CallbackDone, "", "")
	cb.Body = func(context.Context) (io.ReadCloser, error) {
		return nil, gantry.Errorf(gantry.NotFound, "blob_gone", "open")
	}
	wantError(t, "no body", p.Unpack(t.Context(), cb, request(nil)), gantry.NotFound, "blob_gone")
}

func called(status gantry.CallbackStatus, media, body string) gantry.Callback {
	return gantry.Callback{Status: status, Header: http.Header{"Content-Type": {media}},
		Body: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader([]byte(body))), nil }}
}

// A job is deleted where the service can do that; that it cannot is no error.
func TestAbandon(t *testing.T) {
	t.Parallel()
	for status, code := range map[int]gantry.Code{200: "", 202: "", 204: "", 404: "", 405: "", 410: "", 501: "", 500: "http_500", 403: "http_403", 303: CodeRedirect} {
		var line string
		p := openProcessor(t, patient(nil), func(w http.ResponseWriter, r *http.Request) {
			line = r.Method + " " + r.RequestURI
			replies(status, secret, "Location", "/x")(w, r)
		})
		err := p.Abandon(t.Context(), gantry.Ticket{ID: "/j?7"})
		if gantry.CodeOf(err) != code || line != "DELETE /j?7" {
			t.Errorf("%d: %v, %s", status, err, line)
		}
	}
	p := openProcessor(t, patient(func(a *AsyncConfig) { a.Cancel = false }), func(http.ResponseWriter, *http.Request) { t.Error("a request came") })
	if err := p.Abandon(t.Context(), gantry.Ticket{ID: "/j?7"}); err != nil {
		t.Error(err)
	}
}

// Without the block everything is as it was; a ticket that is none of ours is refused and nothing sent.
func TestUndeferred(t *testing.T) {
	t.Parallel()
	p := openProcessor(t, ProcessorConfig{}, replies(200, "{}", "Content-Type", "application/json", "Location", "/j"))
	var out []output
	ticket, err := p.Submit(t.Context(), request(&out, "x"), "http://127.0.0.1/")
	if p.Deferral() != nil || err != nil || ticket != (gantry.Ticket{}) || len(out) != 1 {
		t.Errorf("%+v, %v, %v", ticket, err, out)
	}
	p = openProcessor(t, ProcessorConfig{}, replies(202, "", "Location", "/j"))
	_, err = p.Submit(t.Context(), request(nil, "x"), "")
	wantError(t, "a 202", err, gantry.BadResponse, "http_202")
	p = openProcessor(t, patient(nil), func(http.ResponseWriter, *http.Request) { t.Error("a request came") })
	for _, id := range []string{"", "x", "http://127.0.0.1/", "/\x00", "/%zz", "/" + strings.Repeat("x", maxTicket)} {
		_, err := p.Poll(t.Context(), gantry.Ticket{ID: id})
		wantError(t, fmt.Sprintf("%.20q", id), err, gantry.Illegal, CodeBadTicket)
	}
}
