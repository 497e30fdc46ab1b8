package models

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/auth"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

var signing = auth.NewSecret("whsec_test")

// asked is a callback that came.
type asked struct {
	status, media, body string
	right               bool // its signature
	at                  time.Time
}

// mailbox receives callbacks and answers the first of them with the given statuses.
type mailbox struct {
	*httptest.Server
	mu    sync.Mutex
	came  []asked
	first []int
}

func newMailbox(t *testing.T, first ...int) *mailbox {
	m := &mailbox{first: first}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		v := auth.NewCallbackVerifier(signing, r.Header.Get(auth.SignatureHeader), time.Now())
		v.Write(body)
		m.mu.Lock()
		defer m.mu.Unlock()
		m.came = append(m.came, asked{r.Header.Get("Gantry-Status"), r.Header.Get("Content-Type"), string(body), v.Check() == nil, time.Now()})
		if len(m.came) <= len(m.first) {
			w.WriteHeader(m.first[len(m.came)-1])
		}
	}))
	t.Cleanup(m.Close)
	return m
}

func (m *mailbox) all() []asked {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]asked(nil), m.came...)
}

// until waits for so many callbacks.
func (m *mailbox) until(t *testing.T, n int) []asked {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if got := m.all(); len(got) >= n {
			return got
		}
	}
	t.Fatalf("%d callbacks, want %d", len(m.all()), n)
	return nil
}

// deferredService serves with a secret, and short pauses between the tries of callbacks.
func deferredService(t *testing.T) (http.Handler, *service) {
	s := newService(Options{Secret: signing})
	s.jobs.caller.pause = time.Millisecond
	t.Cleanup(func() { s.jobs.Close() })
	return s.routes(), s
}

// submitted sends a request and gives the job's URL.
func submitted(t *testing.T, h http.Handler, path, body string, headers ...string) string {
	t.Helper()
	w := call(h, "POST", path, strings.NewReader(body), append([]string{"Content-Type", "application/json"}, headers...)...)
	at := w.Header().Get("Location")
	if w.Code != 202 || !strings.HasPrefix(at, "/async/jobs/") {
		t.Fatalf("%s: %d %v %s", path, w.Code, w.Header(), w.Body)
	}
	return at
}

// ended polls until a job is no more at work.
func ended(t *testing.T, h http.Handler, at string) *httptest.ResponseRecorder {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if w := call(h, "GET", at, nil); w.Code != 202 && !strings.Contains(w.Body.String(), `"status":"running"`) {
			return w
		}
	}
	t.Fatal("it does not end")
	return nil
}

// TestJobStyles: each way of saying how the work goes, from its beginning to its end.
func TestJobStyles(t *testing.T) {
	t.Parallel()
	h, _ := deferredService(t)
	at := submitted(t, h, "/async/v1/identity?after=1s&retry_after=7", "{}")
	if w := call(h, "GET", at, nil); w.Code != 202 || w.Header().Get("Retry-After") != "7" {
		t.Errorf("plain: %d %v", w.Code, w.Header())
	}
	if w := call(h, "GET", at+"/result", nil); w.Code != 202 {
		t.Errorf("the result while it is at work: %d", w.Code)
	}
	if w := ended(t, h, at); w.Code != 200 || w.Body.String() != "{}" || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("plain: %d %s", w.Code, w.Body)
	}
	at = submitted(t, h, "/async/v1/identity?style=json", "{}")
	var said map[string]string
	if w := ended(t, h, at); json.Unmarshal(w.Body.Bytes(), &said) != nil || said["status"] != "succeeded" || said["url"] != at {
		t.Errorf("json: %d %s", w.Code, w.Body)
	}
	if w := call(h, "GET", said["result"], nil); w.Code != 200 || w.Body.String() != "{}" {
		t.Errorf("json: %d %s", w.Code, w.Body)
	}
	at = submitted(t, h, "/async/v1/identity?style=redirect", "{}")
	if w := ended(t, h, at); w.Code != 303 || w.Header().Get("Location") != at+"/result" {
		t.Errorf("redirect: %d %v", w.Code, w.Header())
	}
	at = submitted(t, h, "/async/v1/enhance", string(encoded(t, xray())), "Content-Type", "image/png")
	if w := ended(t, h, at); w.Code != 200 || !bytes.Equal(w.Body.Bytes(), call(h, "POST", "/v1/enhance", bytes.NewReader(encoded(t, xray()))).Body.Bytes()) {
		t.Errorf("an answer that comes later is another: %d", w.Code)
	}
}

// TestJobsThatBringNothing: what fails, is lost, never ends, or is taken back.
func TestJobsThatBringNothing(t *testing.T) {
	t.Parallel()
	h, s := deferredService(t)
	if w := ended(t, h, submitted(t, h, "/async/v1/enhance", "no picture", "Content-Type", "image/png")); w.Code != 422 || !strings.Contains(w.Body.String(), "unsupported_format") {
		t.Errorf("no picture: %d %s", w.Code, w.Body)
	}
	if w := ended(t, h, submitted(t, h, "/async/v1/identity?fault=fail&style=json", "{}")); w.Code != 200 || !strings.Contains(w.Body.String(), `"status":"failed"`) {
		t.Errorf("fail: %d %s", w.Code, w.Body)
	}
	if w := ended(t, h, submitted(t, h, "/async/v1/identity?fault=lost", "{}")); w.Code != 404 {
		t.Errorf("lost: %d", w.Code)
	}
	at := submitted(t, h, "/async/v1/identity?fault=never", "{}")
	time.Sleep(50 * time.Millisecond)
	if w := call(h, "GET", at, nil); w.Code != 202 {
		t.Errorf("never: %d", w.Code)
	}
	for _, want := range []int{204, 404} {
		if w := call(h, "DELETE", at, nil); w.Code != want {
			t.Errorf("delete: %d, want %d", w.Code, want)
		}
	}
	if w := call(h, "GET", at, nil); w.Code != 404 {
		t.Errorf("after it: %d", w.Code)
	}
	submitted(t, h, "/async/v1/identity?after=1h", "{}")
	s.jobs.Close() // ends what is at work
	if w := call(h, "POST", "/async/v1/identity", strings.NewReader("{}")); w.Code != 503 {
		t.Errorf("after the end: %d", w.Code)
	}
}

// TestJobOrdersRefused: what a request may not ask for.
func TestJobOrdersRefused(t *testing.T) {
	t.Parallel()
	h, _ := deferredService(t)
	for _, q := range []string{"after=x", "after=-1s", "after=2h", "beat=x", "retry_after=-1", "retry_after=x", "style=x", "fault=x"} {
		if w := call(h, "POST", "/async/v1/identity?"+q, strings.NewReader("{}")); w.Code != 422 {
			t.Errorf("%s: %d", q, w.Code)
		}
	}
	if w := call(h, "GET", "/async/v1/identity", nil); w.Code != 405 {
		t.Errorf("GET: %d", w.Code)
	}
	for _, to := range []string{
		"http://192.0.2.1/x", "http://example.org/x", "http://[2001:db8::1]/", "ftp://127.0.0.1/", "http://u:p@127.0.0.1/", "/x", "http://%zz", "http://127.0.0.1/" + strings.Repeat("x", 2048),
	} {
		if w := call(h, "POST", "/async/v1/identity", strings.NewReader("{}"), "Callback-Url", to); w.Code != 403 || !strings.Contains(w.Body.String(), "callback_refused") {
			t.Errorf("%.40s: %d %s", to, w.Code, w.Body)
		}
	}
	unsigned := Handler(Options{})
	if w := call(unsigned, "POST", "/async/v1/identity", strings.NewReader("{}"), "Callback-Url", "http://127.0.0.1/x"); w.Code != 403 {
		t.Errorf("without a secret: %d", w.Code)
	}
	small, s := deferredService(t)
	s.jobs.limit = 1
	submitted(t, small, "/async/v1/identity?fault=never", "{}")
	if w := call(small, "POST", "/async/v1/identity", strings.NewReader("{}")); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("one too many: %d", w.Code)
	}
}

// TestJobsAreForgotten: what ended long ago makes room, what is at work does not.
func TestJobsAreForgotten(t *testing.T) {
	t.Parallel()
	h, s := deferredService(t)
	s.jobs.limit = 2
	old := submitted(t, h, "/async/v1/identity", "{}")
	ended(t, h, old)
	at := submitted(t, h, "/async/v1/identity?fault=never", "{}")
	s.jobs.mu.Lock()
	s.jobs.now = func() time.Time { return time.Now().Add(time.Hour) }
	s.jobs.mu.Unlock()
	submitted(t, h, "/async/v1/identity?fault=never", "{}")
	if a, b := call(h, "GET", old, nil).Code, call(h, "GET", at, nil).Code; a != 404 || b != 202 {
		t.Errorf("the old one %d, the one at work %d", a, b)
	}
	if s.jobs.held != 4 {
		t.Errorf("it counts %d bytes", s.jobs.held)
	}
}

// TestCallbacks: what comes, how often, in what order, and whether it is signed.
func TestCallbacks(t *testing.T) {
	t.Parallel()
	done := asked{"done", "application/json", "{}", true, time.Time{}}
	forged := done
	forged.right = false
	for query, want := range map[string][]asked{
		"":                      {done},
		"fault=twice":           {done, done},
		"fault=forged":          {forged, done},
		"fault=late&after=30ms": {done},
		"style=json&after=10ms": {done},
	} {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			h, _ := deferredService(t)
			m := newMailbox(t)
			submitted(t, h, "/async/v1/identity?"+query, "{}", "Callback-Url", m.URL)
			m.until(t, len(want))
			time.Sleep(30 * time.Millisecond)
			got := m.all()
			if len(got) != len(want) {
				t.Fatalf("%+v", got)
			}
			for i := range got {
				if got[i].at = (time.Time{}); got[i] != want[i] {
					t.Errorf("%d: %+v, want %+v", i, got[i], want[i])
				}
			}
		})
	}
	h, _ := deferredService(t)
	m := newMailbox(t)
	ended(t, h, submitted(t, h, "/async/v1/identity?fault=beat&after=1s&beat=10ms", "{}", "Callback-Url", m.URL))
	beats := m.until(t, 2)
	for i, x := range beats[:len(beats)-1] {
		if x.status != "running" || x.body != "" || !x.right {
			t.Errorf("beat %d: %+v", i, x)
		}
	}
	m = newMailbox(t)
	submitted(t, h, "/async/v1/identity?fault=early&after=20ms", "{}", "Callback-Url", m.URL)
	if len(m.all()) != 1 {
		t.Errorf("early: %d callbacks when the 202 came", len(m.all()))
	}
	ended(t, h, submitted(t, h, "/async/v1/identity?fault=mute", "{}", "Callback-Url", m.URL))
	submitted(t, h, "/async/v1/identity?fault=fail", "{}", "Callback-Url", m.URL)
	if got := m.until(t, 2); got[1].status != "failed" || !got[1].right || !strings.Contains(got[1].body, "simulated") {
		t.Errorf("fail, after mute: %+v", got)
	}
}

// TestCallbackTries: "not now" is heard and tried again, a refusal is not, a redirect is not followed.
func TestCallbackTries(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		first []int
		want  int
	}{{[]int{503, 500, 429, 408}, 5}, {[]int{503, 503, 503, 503, 503, 503}, 5}, {[]int{410}, 1}, {[]int{401}, 1}, {[]int{307}, 1}} {
		m := newMailbox(t, c.first...)
		k := newCaller(signing, nil)
		k.pause = time.Millisecond
		k.post(t.Context(), m.URL, gantry.CallbackDone, "", nil, false)
		if got := len(m.all()); got != c.want {
			t.Errorf("%v: %d tries, want %d", c.first, got, c.want)
		}
	}
	k := newCaller(signing, nil)
	k.pause = time.Millisecond
	if code := k.post(t.Context(), "http://127.0.0.1:1/", gantry.CallbackDone, "", nil, false); code != 0 {
		t.Errorf("nobody there: %d", code)
	}
}

// TestCallbackReach: a name is held to the address that it stands for, when it is dialled.
func TestCallbackReach(t *testing.T) {
	t.Parallel()
	nets := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for address, want := range map[string]bool{
		"127.0.0.1:80": true, "[::1]:80": true, "[::ffff:127.0.0.1]:80": true, "10.1.2.3:80": true, "[::ffff:10.1.2.3]:80": true,
		"192.0.2.1:80": false, "169.254.169.254:80": false, "[fe80::1%eth0]:80": false, "x": false,
	} {
		if got := newCaller(signing, nets).reach("tcp", address, nil) == nil; got != want {
			t.Errorf("%s: %t", address, got)
		}
	}
	for to, want := range map[string]bool{"http://10.1.2.3/": true, "http://gantry.internal/": true, "http://192.0.2.1/": false, "http://localhost:1/": true} {
		if got := newCaller(signing, nets).allow(to) == nil; got != want {
			t.Errorf("%s: %t", to, got)
		}
	}
	// The control: a name that nothing holds to its address would be dialled.
	k := newCaller(signing, nets)
	if code, _ := k.once(t.Context(), "http://192.0.2.1:9/", gantry.CallbackDone, "", nil, signing); code != 0 {
		t.Errorf("it was sent: %d", code)
	}
}

// TestServeEndsJobs: nothing is at work after Serve has returned.
func TestServeEndsJobs(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := Handler(Options{}).(closing)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- serve(ctx, l, h, nil) }()
	resp, err := http.Post("http://"+l.Addr().String()+"/async/v1/identity?fault=never", "text/plain", strings.NewReader("x"))
	if err != nil || resp.StatusCode != 202 {
		t.Fatalf("%v, %v", resp, err)
	}
	resp.Body.Close()
	stop()
	if err := <-served; err != nil || h.jobs.ctx.Err() == nil {
		t.Errorf("%v", err)
	}
	h.jobs.running.Wait()
}
