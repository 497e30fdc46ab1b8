package http

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

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
