package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const token = "tok_0123456789.abcDEF-"

// receiver takes callbacks and keeps what came. What it does with a real database is tested where both
// meet.
type receiver struct {
	verdict CallbackVerdict
	err     error
	unread  bool // the body is left alone

	mu     sync.Mutex
	token  string
	status gantry.CallbackStatus
	header http.Header
	size   int64
	failed error // of reading
	calls  int
}

func (r *receiver) Callback(_ context.Context, token string, h http.Header, status gantry.CallbackStatus, body io.Reader) (CallbackVerdict, error) {
	var n int64
	var err error
	if !r.unread {
		n, err = io.Copy(io.Discard, body)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.token, r.status, r.header, r.size, r.failed = token, status, h, n, err
	r.calls++
	if err != nil {
		return CallbackUnknown, fmt.Errorf("keep %s: %w", token, err)
	}
	return r.verdict, r.err
}

// taking serves the callbacks of c with a patience and a limit.
func taking(t *testing.T, c Callbacks, idle time.Duration, limit int64) string {
	t.Helper()
	s := newCallbacks(c)
	s.idle, s.limit = idle, limit
	server := httptest.NewServer(s.handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })))
	t.Cleanup(server.Close)
	return server.URL
}

// TestCallbackVerdicts: each verdict is one status.
func TestCallbackVerdicts(t *testing.T) {
	t.Parallel()
	for v, want := range map[CallbackVerdict]struct {
		status int
		code   string
	}{
		CallbackAccepted: {200, ""}, CallbackDuplicate: {200, ""}, CallbackLate: {410, "late"}, CallbackForged: {401, "forged"},
		CallbackUnknown: {404, "unknown_token"}, 77: {500, "internal"},
	} {
		r := &receiver{verdict: v}
		url := taking(t, r, time.Minute, 100)
		resp, p := send(t, "POST", url+"/callbacks/"+token, strings.NewReader("answer"), "Content-Type", "image/png", "Gantry-Signature", "t=1")
		if resp.StatusCode != want.status || p.Code != want.code {
			t.Errorf("%s: %d %+v", v, resp.StatusCode, p)
		}
		if r.token != token || r.status != gantry.CallbackDone || r.size != 6 || r.header.Get("Content-Type") != "image/png" || r.header.Get("Gantry-Signature") != "t=1" {
			t.Errorf("%s: it got %+v", v, r)
		}
		if (resp.Header.Get("WWW-Authenticate") != "") != (want.status == 401) || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %v", v, resp.Header)
		}
	}
}

// TestCallbackStatuses: the word in the header, done without one, and nothing else.
func TestCallbackStatuses(t *testing.T) {
	t.Parallel()
	r := &receiver{}
	url := taking(t, r, time.Minute, 100) + "/callbacks/" + token
	for word, want := range map[string]gantry.CallbackStatus{"": "done", "running": "running", "done": "done", "failed": "failed"} {
		if resp, _ := send(t, "POST", url, nil, StatusHeader, word); resp.StatusCode != 200 || r.status != want {
			t.Errorf("%q: %d, %s", word, resp.StatusCode, r.status)
		}
	}
	calls := r.calls
	for _, word := range []string{"Done", "cancelled", "done,failed"} {
		if resp, p := send(t, "POST", url, nil, StatusHeader, word); resp.StatusCode != 400 || p.Code != "bad_status" || strings.Contains(p.Detail, word) {
			t.Errorf("%q: %d %+v", word, resp.StatusCode, p)
		}
	}
	if resp, p := send(t, "POST", url, strings.NewReader("x"), "Content-Encoding", "gzip"); resp.StatusCode != 415 || p.Code != "encoded" {
		t.Errorf("gzip: %d %+v", resp.StatusCode, p)
	}
	if r.calls != calls {
		t.Error("what is refused came through")
	}
}

// TestNoSuchCallback: a token that can be none, another path or method, and a process that takes none.
func TestNoSuchCallback(t *testing.T) {
	t.Parallel()
	r := &receiver{}
	url := taking(t, r, time.Minute, 100)
	none := taking(t, nil, time.Minute, 100)
	for _, at := range []string{
		url + "/callbacks/short", url + "/callbacks/" + strings.Repeat("x", 257), url + "/callbacks/aaaaaaaaaaaaaaaa%2Fbbb", url + "/callbacks/aaaaaaaaaaaaaaaa%0a",
		url + "/callbacks/aaaaaaaaaaaaaaaaä", url + "/callbacks/", url + "/callbacks/" + token + "/x", none + "/callbacks/" + token,
	} {
		if resp, p := send(t, "POST", at, strings.NewReader("x")); resp.StatusCode != 404 || p.Kind != "not_found" {
			t.Errorf("%s: %d %+v", at[len(url):], resp.StatusCode, p)
		}
	}
	if resp, _ := send(t, "GET", url+"/callbacks/"+token, nil); resp.StatusCode != 404 {
		t.Errorf("GET: %d", resp.StatusCode)
	}
	if resp, _ := send(t, "POST", url+"/elsewhere", nil); resp.StatusCode != http.StatusTeapot {
		t.Errorf("elsewhere: %d", resp.StatusCode)
	}
	if r.calls != 0 {
		t.Errorf("%d callbacks came through", r.calls)
	}
}

// TestCallbackErrors: an absent database is 503 with Retry-After, and no text of the implementation, which
// may hold the token, is told.
func TestCallbackErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err    error
		status int
		after  string
	}{
		{errors.New("connect for " + token), 503, "5"},
		{&gantry.Error{Kind: gantry.Unavailable, RetryAfter: 90 * time.Second, Err: errors.New(token)}, 503, "90"},
		{gantry.Errorf(gantry.Timeout, "", "%s", token), 503, "5"},
		{gantry.Errorf(gantry.Illegal, "odd", "%s", token), 400, ""},
		{gantry.Errorf(gantry.Permanent, "odd", "%s", token), 500, ""},
		{fmt.Errorf("%s: %w", token, io.EOF), 503, "5"},
	} {
		url := taking(t, &receiver{err: c.err}, time.Minute, 100)
		resp, p := send(t, "POST", url+"/callbacks/"+token, strings.NewReader("x"))
		if resp.StatusCode != c.status || resp.Header.Get("Retry-After") != c.after || strings.Contains(fmt.Sprint(p), token) {
			t.Errorf("%v: %d %q %+v", c.err, resp.StatusCode, resp.Header.Get("Retry-After"), p)
		}
	}
}

// TestCallbackBodies: what is too long, breaks off, stands still or comes in drops is refused, and ends.
func TestCallbackBodies(t *testing.T) {
	t.Parallel()
	r := &receiver{}
	url := taking(t, r, time.Minute, 1000)
	for _, c := range []struct {
		body   io.Reader
		status int
		code   string
	}{
		{bytes.NewReader(make([]byte, 1000)), 200, ""},
		{bytes.NewReader(make([]byte, 1001)), 413, "too_large"},                     // which says its length
		{io.MultiReader(bytes.NewReader(make([]byte, 1001))), 413, "too_large"},     // which does not
		{io.MultiReader(bytes.NewReader(make([]byte, 1<<20))), 413, "too_large"},    // far over it
		{io.MultiReader(bytes.NewReader(make([]byte, 1000)), eofReader{}), 200, ""}, // as long as it may be
	} {
		if resp, p := send(t, "POST", url+"/callbacks/"+token, c.body); resp.StatusCode != c.status || p.Code != c.code {
			t.Errorf("%d %+v, want %d %s", resp.StatusCode, p, c.status, c.code)
		}
	}
}

type eofReader struct{}

func (eofReader) Read([]byte) (int, error) { return 0, io.EOF }

// TestSlowCallbacks: neither a body that stands still nor one that drips keeps a place for long.
func TestSlowCallbacks(t *testing.T) {
	t.Parallel()
	for what, every := range map[string]time.Duration{"still": time.Hour, "drips": 5 * time.Millisecond} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r := &receiver{}
			url := taking(t, r, 100*time.Millisecond, 1<<20)
			c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			fmt.Fprintf(c, "POST /callbacks/%s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nx", token)
			stop := make(chan struct{})
			defer close(stop)
			go func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(every):
						io.WriteString(c, "x")
					}
				}
			}()
			c.SetReadDeadline(time.Now().Add(10 * time.Second))
			answer := make([]byte, 12)
			if _, err := io.ReadFull(c, answer); err != nil || string(answer) != "HTTP/1.1 408" {
				t.Errorf("%q, %v", answer, err)
			}
			if r.mu.Lock(); gantry.KindOf(r.failed) != gantry.Timeout {
				t.Errorf("%v", r.failed)
			}
			r.mu.Unlock()
		})
	}
}

// TestCallbackBrokenOff: what ended before its end is an error of its own.
func TestCallbackBrokenOff(t *testing.T) {
	t.Parallel()
	r := &receiver{}
	url := taking(t, r, time.Minute, 1<<20)
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "POST /callbacks/%s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nxx", token)
	c.(*net.TCPConn).CloseWrite()
	io.Copy(io.Discard, c)
	c.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	if gantry.CodeOf(r.failed) != CodeBroken || r.size != 2 {
		t.Errorf("%v after %d bytes", r.failed, r.size)
	}
}

// blocked takes nothing until it may.
type blocked chan struct{}

func (b blocked) Callback(context.Context, string, http.Header, gantry.CallbackStatus, io.Reader) (CallbackVerdict, error) {
	<-b
	return CallbackAccepted, nil
}

// TestTooManyCallbacks: over the places there is 503, and a place becomes free again.
func TestTooManyCallbacks(t *testing.T) {
	t.Parallel()
	wait := make(blocked)
	s := newCallbacks(wait)
	s.slots = make(chan struct{}, 1)
	server := httptest.NewServer(s.handler(http.NotFoundHandler()))
	defer server.Close()
	first := make(chan int)
	go func() {
		resp, err := http.Post(server.URL+"/callbacks/"+token, "", nil)
		if err != nil {
			first <- 0
			return
		}
		resp.Body.Close()
		first <- resp.StatusCode
	}()
	for end := time.Now().Add(10 * time.Second); len(s.slots) == 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	if resp, p := send(t, "POST", server.URL+"/callbacks/"+token, nil); resp.StatusCode != 503 || p.Code != "busy" || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%d %+v", resp.StatusCode, p)
	}
	close(wait)
	if code := <-first; code != 200 {
		t.Errorf("the first: %d", code)
	}
	if resp, _ := send(t, "POST", server.URL+"/callbacks/"+token, nil); resp.StatusCode != 200 {
		t.Errorf("after it: %d", resp.StatusCode)
	}
}
