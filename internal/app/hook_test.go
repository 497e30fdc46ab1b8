package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/api"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
)

// ward is a rig whose pipeline is told of objects in a bucket of a real server, which tells of them by itself.
type ward struct {
	*rig
	*s3.Client
	url  string // where notifications go
	stop func()
}

// newWard serves a pipeline named ward; source is what its source says beside where the bucket is. hook stands between the
// S3 server and the installation.
func newWard(t *testing.T, source string, env map[string]string, hook func(to string) http.Handler) *ward {
	t.Helper()
	env["TOKEN"] = "s3cr3t"
	r := newRig(t, env)
	server := httptest.NewServer(api.TakeHooks(http.NotFoundHandler(), r.App))
	t.Cleanup(server.Close)
	w := &ward{rig: r, url: server.URL + "/hooks/s3/ward.inbox"}
	to := strings.Replace(w.url, "http://", "http://gantry:s3cr3t@", 1)
	if hook != nil {
		front := httptest.NewServer(hook(to))
		t.Cleanup(front.Close)
		to = front.URL
	}
	// The route answers the server's test though nothing serves yet, or the server would not begin.
	store := s3test.StartTelling(t, to)
	env["ID"], env["SECRET"] = store.AccessKey, store.SecretKey
	w.Client = s3.New(s3.Options{BaseEndpoint: &store.Endpoint, Region: "us-east-1", UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(store.AccessKey, store.SecretKey, "")})
	for _, name := range []string{"inbox", "other"} {
		if _, err := w.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name}); err != nil {
			t.Fatal(err)
		}
	}
	model := serve(t, scoring)
	p, err := pipeline.Parse("test.yaml", fmt.Appendf(nil, `gantry: v1
name: ward
sources: {inbox: {kind: s3, bucket: inbox, prefix: in/, endpoint: %q, path_style: true, auth: gateway, token: "${env:TOKEN}", %s}}
sinks: {results: {kind: dir, path: %q}}
stages: [{name: score, call: model}]
processors: {model: {kind: http, url: %q}}
auth: {gateway: {kind: aws, access_key_id: "${env:ID}", secret_access_key: "${env:SECRET}"}}
retry: {attempts: 9, initial: 50ms}
`, store.Endpoint, source, r.out, model.URL), all.Drivers(), r.Lookup)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx, []*gantry.Pipeline{p}) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(w.stop)
	w.until("it serves", func() bool { return w.hook(w.event("in/none", "")).status == http.StatusOK })
	return w
}

func (w *ward) until(what string, is func() bool) {
	w.t.Helper()
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if is() {
			return
		}
	}
	w.t.Fatalf("%s: it did not come to that\n%s", what, w.log.text())
}

func (w *ward) put(bucket, key string, body []byte) (etag string) {
	w.t.Helper()
	out, err := w.PutObject(w.t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(body)})
	if err != nil {
		w.t.Error(err)
		return ""
	}
	return aws.ToString(out.ETag)
}

// event is a notification of AWS of an object in the inbox.
func (w *ward) event(key, etag string, sequencer ...string) string {
	k, _ := json.Marshal(url.QueryEscape(key))
	return fmt.Sprintf(`{"Records":[{"eventSource":"aws:s3","eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"inbox"},"object":{"key":%s,"eTag":%q,"sequencer":%q}}}]}`,
		k, etag, strings.Join(sequencer, ""))
}

// hook sends a notification; headers are names and values by turns.
func (w *ward) hook(body string, headers ...string) answered {
	w.t.Helper()
	if len(headers) == 0 {
		headers = []string{"Authorization", "Bearer s3cr3t"}
	}
	u, _ := url.Parse(w.url)
	return front{w.rig, u.Scheme + "://" + u.Host}.ask("POST", u.Path, strings.NewReader(body), headers...)
}

// rows asks the database for one number.
func (w *ward) rows(q string, args ...any) (n int) {
	w.t.Helper()
	if err := w.Store.Pool().QueryRow(w.t.Context(), q, args...).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// exec changes the database as its owner.
func (w *ward) exec(q string) {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.dsn)
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close(w.t.Context())
	if _, err := conn.Exec(w.t.Context(), q); err != nil {
		w.t.Fatal(err)
	}
}

// What a real server tells of by itself becomes tasks, and what it tells of other buckets and prefixes does not; the log
// knows no names.
func TestWebhookOfARealServer(t *testing.T) {
	t.Parallel()
	w := newWard(t, "discover: webhook", map[string]string{}, nil)
	for i, key := range []string{"in/DOE^JANE a+b.dcm", "in/DOE^JANE ü%20.dcm", "in/DOE^JANE.dcm"} {
		w.put("inbox", key, study(t, 3)[i])
	}
	w.put("other", "in/DOE^JANE.dcm", study(t, 1)[0])
	w.put("inbox", "elsewhere/DOE^JANE.dcm", study(t, 1)[0])
	w.until("all are done", func() bool { return len(w.tasks()) == 3 && w.done() == 3 })
	time.Sleep(100 * time.Millisecond)
	if n := w.rows(`select count(*) from arrival where status = 0`); n != 3 {
		t.Errorf("%d arrivals", n)
	}
	if log := w.log.text(); strings.Contains(log, "JANE") || strings.Contains(log, "s3cr3t") {
		t.Errorf("the log: %s", log)
	}
}

func (w *ward) done() (n int) {
	for _, x := range w.tasks() {
		if x.State == "done" {
			n++
		}
	}
	return n
}

// Nobody but who knows the token is heard, in each form in which servers send one; and each other answer is as the
// documentation says.
func TestHookAnswers(t *testing.T) {
	t.Parallel()
	env := map[string]string{}
	w := newWard(t, "discover: webhook", env, nil)
	etag := w.put("inbox", "in/a.dcm", study(t, 1)[0])
	good := w.event("in/a.dcm", strings.Trim(etag, `"`))
	for _, c := range []struct {
		name, auth, body string
		status           int
		code             string
	}{
		{"bearer", "Bearer s3cr3t", good, 200, ""},
		{"small letters", "bearer s3cr3t", good, 200, ""},
		{"the token alone", "s3cr3t", good, 200, ""},
		{"basic", "Basic Z2FudHJ5OnMzY3IzdA==", good, 200, ""},
		{"no token", "", good, 401, "bad_token"},
		{"another token", "Bearer s3cr3", good, 401, "bad_token"},
		{"a longer token", "Bearer s3cr3tt", good, 401, "bad_token"},
		{"another password", "Basic Z2FudHJ5Ong=", good, 401, "bad_token"},
		{"no base64", "Basic !", good, 401, "bad_token"},
		{"no JSON", "Bearer s3cr3t", "DOE^JANE", 400, "malformed"},
		{"no notification", "Bearer s3cr3t", "{}", 400, "not_understood"},
		{"no JSON of a stranger", "Bearer x", "DOE^JANE", 401, "bad_token"},
		{"too long", "Bearer s3cr3t", strings.Repeat(" ", 256<<10) + "{}", 413, "too_large"},
	} {
		a := w.hook(c.body, "Authorization", c.auth)
		if a.status != c.status || a.said.Code != c.code || bytes.Contains(a.body, []byte("JANE")) || c.status == 401 && a.header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s: %d %s", c.name, a.status, a.body)
		}
	}
	for _, path := range []string{"/hooks/s3/ward.other", "/hooks/s3/ward", "/hooks/s3/ward.inbox/x", "/hooks/dir/ward.inbox", "/hooks/s3/WARD.inbox"} {
		u, _ := url.Parse(w.url)
		if a := (front{w.rig, u.Scheme + "://" + u.Host}).ask("POST", path, strings.NewReader(good), "Authorization", "Bearer s3cr3t"); a.status != 404 {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if n := w.rows(`select count(*) from source_event where source = 'ward/inbox' and channel = 'webhook' and convert_from(body, 'utf8') in ('DOE^JANE', '{}')`); n != 2 {
		t.Errorf("%d messages are kept", n)
	}
	delete(env, "TOKEN")
	if a := w.hook(good); a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("without the secret: %d %s", a.status, a.body)
	}
	if log := w.log.text(); strings.Contains(log, "JANE") || strings.Contains(log, "s3cr3t") {
		t.Errorf("the log: %s", log)
	}
}

// Nothing is acknowledged that is not durable: while the database or the bucket cannot, the answer is 503, and the
// same notification later makes one task.
func TestHookAcknowledgesAfterTheCommit(t *testing.T) {
	t.Parallel()
	w := newWard(t, "discover: webhook", map[string]string{}, func(string) http.Handler {
		return http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}) // the server tells nobody
	})
	etag := w.put("inbox", "in/a.dcm", study(t, 1)[0])
	good := w.event("in/a.dcm", strings.Trim(etag, `"`))
	w.exec(`alter table gantry.arrival rename to arrival_away`)
	if a := w.hook(good); a.status != 503 || a.header.Get("Retry-After") == "" || bytes.Contains(a.body, []byte("arrival")) {
		t.Errorf("%d %v %s", a.status, a.header, a.body)
	}
	w.exec(`alter table gantry.arrival_away rename to arrival`)
	if n := len(w.tasks()); n != 0 {
		t.Errorf("%d tasks of what was refused", n)
	}
	for range 3 {
		if a := w.hook(good); a.status != 200 {
			t.Errorf("%d %s", a.status, a.body)
		}
		if n := w.rows(`select count(*) from task`); n != 1 {
			t.Errorf("%d tasks at the time of the answer", n)
		}
	}
	w.exec(`alter table gantry.source_event rename to event_away`)
	if a := w.hook("{}"); a.status != 503 {
		t.Errorf("what cannot be kept: %d %s", a.status, a.body)
	}
	w.exec(`alter table gantry.event_away rename to source_event`)
	w.stop()
	if a := w.hook(good); a.status != 503 {
		t.Errorf("after the end: %d %s", a.status, a.body)
	}
	if a := w.hook(`{"Service":"S3","Event":"s3:TestEvent"}`); a.status != 200 {
		t.Errorf("a test: %d %s", a.status, a.body)
	}
}

// What an event tells of and is no longer so is on record, with the reason, and makes no task: it is gone, another state
// took its place, or a later event of the same object was known already.
func TestEventsOfThePast(t *testing.T) {
	t.Parallel()
	w := newWard(t, "discover: webhook", map[string]string{}, func(string) http.Handler {
		return http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	})
	first := strings.Trim(w.put("inbox", "in/a.dcm", study(t, 2)[0]), `"`)
	second := strings.Trim(w.put("inbox", "in/a.dcm", study(t, 2)[1]), `"`)
	steps := []struct {
		body                              string
		tasks, accepted, superseded, gone int
	}{
		{w.event("in/a.dcm", first, "0055AED6DCD9"), 1, 1, 1, 0},        // the second state is there
		{w.event("in/a.dcm", second, "0055AED6DCD90281E5"), 1, 1, 1, 0}, // known
		{w.event("in/a.dcm", first, "0055AED6DCD9"), 1, 1, 1, 0},        // again
		{w.event("in/b.dcm", "0123", "0055AED6DCD90281E5"), 1, 1, 1, 1},
		{w.event("in/b.dcm", "0124", "0055AED6DC"), 1, 1, 2, 1}, // before the one that is gone
		{w.event("in/b.dcm", "", ""), 1, 1, 2, 2},
		{w.event("in/b.dcm", "", ""), 1, 1, 2, 2},
	}
	for i, s := range steps {
		if a := w.hook(s.body); a.status != 200 {
			t.Fatalf("%d: %d %s", i, a.status, a.body)
		}
		got := []int{w.rows(`select count(*) from task`)}
		for status := range 3 {
			got = append(got, w.rows(`select count(*) from arrival where status = $1 and name <> 'none' and (status = 0) = (reason is null)`, status))
		}
		if want := []int{s.tasks, s.accepted, s.superseded, s.gone}; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("step %d: tasks, accepted, superseded, gone: %v, want %v", i, got, want)
		}
	}
	// One that was gone and is put again is accepted; an event before the newest of it is not, though its bytes are there.
	third := strings.Trim(w.put("inbox", "in/b.dcm", study(t, 3)[2]), `"`)
	w.hook(w.event("in/b.dcm", third, "0055AED6DC"))
	if n := w.rows(`select count(*) from task`); n != 1 {
		t.Errorf("%d tasks after an event that is older than the newest known", n)
	}
	w.hook(w.event("in/b.dcm", third, "0055AED6DCD90281E6"))
	if n := w.rows(`select count(*) from task`); n != 2 {
		t.Errorf("%d tasks after the newest event", n)
	}
}

// A source that pipelines share is told of by its name alone, and its rules say where the object goes; a token that
// cannot be read is the installation's fault, which its log and the source's status say.
func TestHookOfSharedSource(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	env := map[string]string{"HOOK": "s3cr3t"}
	d := newDepot(t, env, false)
	r := newRig(t, env)
	d.putAs("in/a.png", noise(31, [32]byte{4}), "", "", nil)
	shared := r.shared(strings.Replace(d.incoming("{to: echo}", "discover: webhook, token: \"${env:HOOK}\", "), "poll: 50ms, ", "", 1))
	door := httptest.NewServer(api.TakeHooks(http.NotFoundHandler(), r.App))
	defer door.Close()
	tell := func() int {
		body := `{"Records":[{"eventSource":"aws:s3","eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"inbox"},"object":{"key":"in/a.png"}}}]}`
		req, _ := http.NewRequestWithContext(t.Context(), "POST", door.URL+"/hooks/s3/incoming", strings.NewReader(body))
		req.Header.Set("Authorization", "Bearer s3cr3t")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return 0
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	for _, c := range []struct {
		known bool
		until func() bool
	}{
		{false, func() bool { return tell() == 503 && strings.Contains(r.log.text(), "code=no_secret") }},
		{true, func() bool { return tell() == 200 && len(r.tasks()) == 1 && r.tasks()[0].State == "done" }},
	} {
		r.Lookup = func(name string) (string, bool) {
			v, ok := env[name]
			return v, ok && (c.known || name != "HOOK")
		}
		r.servingRoutes([]*gantry.Pipeline{r.branch("echo", s.URL+"/score", "")}, shared, c.until)
	}
}
