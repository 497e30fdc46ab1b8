package s3test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Faults says how often an unruly server does wrong, each from 0, never, to 1, always.
type Faults struct {
	Broken    float64 // 500, for half of the requests after they were carried out
	SlowDown  float64 // 503 SlowDown
	Expired   float64 // 400 ExpiredToken
	Reset     float64 // the connection ends in the middle of an object
	Short     float64 // half an object, said to be all of it
	WrongETag float64 // an object under the ETag of another
	Missing   float64 // a listing leaves out a key
}

// Unruly stands before a server and does wrong at random, by a seed.
type Unruly struct {
	Endpoint string

	mu     sync.Mutex
	rng    *rand.Rand
	faults Faults
	done   map[string]int
}

// Unruly puts faults between a server and its clients until the test ends.
func (s *Server) Unruly(t testing.TB, seed uint64, f Faults) *Unruly {
	t.Helper()
	to, err := url.Parse(s.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	u := &Unruly{rng: rand.New(rand.NewPCG(seed, 1)), faults: f, done: map[string]int{}}
	p := &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = r.In.Host }, // the host is signed
		ModifyResponse: u.spoil,
		Transport:      &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64},
		ErrorHandler:   func(w http.ResponseWriter, _ *http.Request, _ error) { panic(http.ErrAbortHandler) },
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { u.serve(p, w, r) }))
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	u.Endpoint = server.URL
	return u
}

// Done tells how often each fault was done, by its name.
func (u *Unruly) Done() map[string]int {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := map[string]int{}
	for name, n := range u.done {
		out[name] = n
	}
	return out
}

// Behave ends all faults.
func (u *Unruly) Behave() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.faults = Faults{}
}

// does draws whether a fault is done, and counts it.
func (u *Unruly) does(name string, how func(Faults) float64) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.rng.Float64() >= how(u.faults) {
		return false
	}
	u.done[name]++
	return true
}

// serve refuses a request or sends it on.
func (u *Unruly) serve(next http.Handler, w http.ResponseWriter, r *http.Request) {
	switch {
	case u.does("slow_down", func(f Faults) float64 { return f.SlowDown }):
		w.Header().Set("Retry-After", "1")
		refuse(w, r, http.StatusServiceUnavailable, "SlowDown")
	case u.does("expired", func(f Faults) float64 { return f.Expired }):
		refuse(w, r, http.StatusBadRequest, "ExpiredToken")
	case u.does("broken_before", func(f Faults) float64 { return f.Broken / 2 }):
		refuse(w, r, http.StatusInternalServerError, "InternalError")
	case u.does("broken_after", func(f Faults) float64 { return f.Broken / 2 }):
		next.ServeHTTP(httptest.NewRecorder(), r)
		refuse(w, r, http.StatusInternalServerError, "InternalError")
	default:
		next.ServeHTTP(w, r)
	}
}

// refuse answers as S3 does.
func refuse(w http.ResponseWriter, r *http.Request, status int, code string) {
	io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		io.WriteString(w, "<Error><Code>"+code+"</Code></Error>")
	}
}

var contents = regexp.MustCompile(`(?s)<Contents>.*?</Contents>`)

// spoil changes an answer.
func (u *Unruly) spoil(resp *http.Response) error {
	q := resp.Request.URL.Query()
	if resp.Request.Method != http.MethodGet || resp.StatusCode >= http.StatusMultipleChoices {
		return nil
	}
	if q.Has("list-type") {
		return u.spoilListing(resp)
	}
	if strings.Count(resp.Request.URL.Path, "/") < 2 || resp.ContentLength < 2 {
		return nil
	}
	switch {
	case u.does("reset", func(f Faults) float64 { return f.Reset }):
		resp.Body = &torn{ReadCloser: resp.Body, left: resp.ContentLength / 2}
	case u.does("short", func(f Faults) float64 { return f.Short }):
		resp.ContentLength /= 2
		resp.Header.Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, resp.ContentLength), resp.Body}
	case u.does("wrong_etag", func(f Faults) float64 { return f.WrongETag }):
		resp.Header.Set("ETag", `"00000000000000000000000000000000"`)
	}
	return nil
}

// spoilListing leaves out one key.
func (u *Unruly) spoilListing(resp *http.Response) error {
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return err
	}
	if all := contents.FindAllIndex(body, -1); len(all) > 0 && u.does("missing", func(f Faults) float64 { return f.Missing }) {
		u.mu.Lock()
		at := all[u.rng.IntN(len(all))]
		u.mu.Unlock()
		body = append(bytes.Clone(body[:at[0]]), body[at[1]:]...)
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	resp.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return nil
}

// torn is a body that breaks off.
type torn struct {
	io.ReadCloser
	left int64
}

// Read ends the connection when its part was read.
func (t *torn) Read(p []byte) (int, error) {
	if t.left == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := t.ReadCloser.Read(p[:min(int64(len(p)), t.left)])
	t.left -= int64(n)
	return n, err
}
