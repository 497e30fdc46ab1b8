package auth_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/auth"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

const password = "hunter2-hunter2"

// environment is a fake os.LookupEnv.
type environment map[string]string

func (e environment) lookup(name string) (string, bool) {
	v, ok := e[name]
	return v, ok
}

// recorder is the transport below: it keeps what it was given.
type recorder struct{ got []*http.Request }

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	r.got = append(r.got, req)
	return &http.Response{StatusCode: 204, Body: http.NoBody, Request: req}, nil
}

func wrap(t *testing.T, rt http.RoundTripper, c gantry.Credential, env environment) http.RoundTripper {
	t.Helper()
	w, err := auth.Wrap(rt, &c, env.lookup)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func request(t *testing.T) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://model.test/v1", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func TestWrapSigns(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("from file\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := environment{"TOKEN": "abc", "PASSWORD": "open sesame"}
	for _, c := range []struct {
		credential gantry.Credential
		want       string
	}{
		{gantry.Credential{Kind: "bearer", Token: "${env:TOKEN}"}, "Bearer abc"},
		{gantry.Credential{Kind: "bearer", Token: gantry.SecretRef("${file:" + file + "}")}, "Bearer from file"},
		// RFC 7617 section 2: the example.
		{gantry.Credential{Kind: "basic", Username: "Aladdin", Password: "${env:PASSWORD}"}, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="},
	} {
		below, req := &recorder{}, request(t)
		req.Header.Set("Authorization", "of the caller")
		if _, err := wrap(t, below, c.credential, env).RoundTrip(req); err != nil {
			t.Fatal(err)
		}
		if got := below.got[0].Header.Get("Authorization"); got != c.want {
			t.Errorf("%s: sent %q, want %q", c.credential.Kind, got, c.want)
		}
		if got := req.Header.Get("Authorization"); got != "of the caller" {
			t.Errorf("%s: the caller's own request was changed to %q", c.credential.Kind, got)
		}
		if below.got[0].Body != req.Body || below.got[0].Context() != req.Context() {
			t.Errorf("%s: body or context lost", c.credential.Kind)
		}
	}
}

func TestWrapAddsANamedHeader(t *testing.T) {
	t.Parallel()
	env := environment{"KEY": password, "SPLIT": "a\r\nHost: other"}
	below, req := &recorder{}, request(t)
	req.Header.Set("X-Api-Key", "of the caller")
	w := wrap(t, below, gantry.Credential{Kind: "header", Header: "x-api-key", Value: "${env:KEY}"}, env)
	if _, err := w.RoundTrip(req); err != nil {
		t.Fatal(err)
	}
	if got := below.got[0].Header; got.Get("X-Api-Key") != password || got.Get("Authorization") != "" || len(got["X-Api-Key"]) != 1 {
		t.Errorf("sent %v", got)
	}
	if got := req.Header.Get("X-Api-Key"); got != "of the caller" {
		t.Errorf("the caller's own request was changed to %q", got)
	}
	env["KEY"] = "another"
	if _, err := w.RoundTrip(request(t)); err != nil || below.got[1].Header.Get("X-Api-Key") != "another" {
		t.Errorf("set anew: %v, %v", below.got[1].Header, err)
	}
	w = wrap(t, below, gantry.Credential{Kind: "header", Header: "X-API-Key", Value: "${env:SPLIT}"}, env)
	if _, err := w.RoundTrip(request(t)); gantry.CodeOf(err) != auth.CodeSecretMalformed || len(below.got) != 2 {
		t.Errorf("a value of two lines: %v, %d requests", err, len(below.got))
	}
}

func TestWrapWithoutACredential(t *testing.T) {
	t.Parallel()
	below := &recorder{}
	if w, err := auth.Wrap(below, nil, nil); err != nil || w != http.RoundTripper(below) {
		t.Errorf("Wrap = %v, %v; want the transport itself", w, err)
	}
}

func TestWrapTakesARequestWithoutHeader(t *testing.T) {
	t.Parallel()
	below := &recorder{}
	w := wrap(t, below, gantry.Credential{Kind: "bearer", Token: "${env:T}"}, environment{"T": "abc"})
	if _, err := w.RoundTrip(&http.Request{URL: &url.URL{Scheme: "https", Host: "model.test"}}); err != nil {
		t.Fatal(err)
	}
	if got := below.got[0].Header.Get("Authorization"); got != "Bearer abc" {
		t.Errorf("sent %q", got)
	}
}

func TestWrapRefusesWhatMakesNoSense(t *testing.T) {
	t.Parallel()
	const literal = "s3cr3t-literal"
	for _, c := range []struct {
		credential gantry.Credential
		code       gantry.Code
	}{
		{gantry.Credential{Kind: "oauth2"}, auth.CodeBadCredential},
		{gantry.Credential{}, auth.CodeBadCredential},
		{gantry.Credential{Kind: "bearer"}, auth.CodeBadReference},
		{gantry.Credential{Kind: "bearer", Token: literal}, auth.CodeBadReference},
		{gantry.Credential{Kind: "bearer", Token: "${env:}"}, auth.CodeBadReference},
		{gantry.Credential{Kind: "bearer", Token: "${env:" + literal}, auth.CodeBadReference},
		{gantry.Credential{Kind: "bearer", Token: "${env:A=B}"}, auth.CodeBadReference},
		{gantry.Credential{Kind: "bearer", Token: "${env:${env:X}}"}, auth.CodeBadReference},
		{gantry.Credential{Kind: "bearer", Token: "${file:relative}"}, auth.CodeBadReference},
		{gantry.Credential{Kind: "bearer", Token: "${vault:/x}"}, auth.CodeBadReference},
		{gantry.Credential{Kind: "basic", Password: "${env:P}"}, auth.CodeBadCredential},
		{gantry.Credential{Kind: "basic", Username: "a:b", Password: "${env:P}"}, auth.CodeBadCredential},
		{gantry.Credential{Kind: "basic", Username: "a\r\nX: y", Password: "${env:P}"}, auth.CodeBadCredential},
		{gantry.Credential{Kind: "basic", Username: "a", Password: literal}, auth.CodeBadReference},
		{gantry.Credential{Kind: "header", Value: "${env:P}"}, auth.CodeBadCredential},
		{gantry.Credential{Kind: "header", Header: "Host", Value: "${env:P}"}, auth.CodeBadCredential},
		{gantry.Credential{Kind: "header", Header: "X-Key: " + literal, Value: "${env:P}"}, auth.CodeBadCredential},
		{gantry.Credential{Kind: "header", Header: "X-Key", Value: literal}, auth.CodeBadReference},
	} {
		w, err := auth.Wrap(&recorder{}, &c.credential, environment{}.lookup)
		if w != nil || gantry.KindOf(err) != gantry.Illegal || gantry.CodeOf(err) != c.code {
			t.Errorf("%+v: %v, %v; want Illegal %s", c.credential, w, err, c.code)
		}
		if err != nil && strings.Contains(err.Error(), literal) {
			t.Errorf("the error quotes what may be a secret: %v", err)
		}
	}
}

// closeable tells whether a request's body was closed.
type closeable struct {
	io.Reader
	closed bool
}

func (c *closeable) Close() error { c.closed = true; return nil }

func TestMissingSecretSendsNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string) gantry.SecretRef {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return gantry.SecretRef("${file:" + filepath.Join(dir, name) + "}")
	}
	env := environment{"EMPTY": "", "SPLIT": password + "\r\nX-Other: 1", "NUL": password + "\x00"}
	for _, c := range []struct {
		ref  gantry.SecretRef
		code gantry.Code
	}{
		{"${env:NOT_SET}", auth.CodeSecretMissing},
		{"${env:EMPTY}", auth.CodeSecretMissing},
		{"${env:SPLIT}", auth.CodeSecretMalformed},
		{"${env:NUL}", auth.CodeSecretMalformed},
		{gantry.SecretRef("${file:" + dir + "/none}"), auth.CodeSecretMissing},
		{gantry.SecretRef("${file:" + dir + "}"), auth.CodeSecretMissing},
		{write("newline", "\n"), auth.CodeSecretMissing},
		{write("lines", password+"\n"+password+"\n"), auth.CodeSecretMalformed},
		{write("large", strings.Repeat("x", 64<<10+1)), auth.CodeSecretMalformed},
	} {
		below, body, req := &recorder{}, &closeable{Reader: strings.NewReader("x")}, request(t)
		req.Body = body
		_, err := wrap(t, below, gantry.Credential{Kind: "bearer", Token: c.ref}, env).RoundTrip(req)
		if gantry.KindOf(err) != gantry.Denied || gantry.CodeOf(err) != c.code {
			t.Errorf("%s: %v (%s, %s), want Denied %s", c.ref, err, gantry.KindOf(err), gantry.CodeOf(err), c.code)
			continue
		}
		if !strings.Contains(err.Error(), string(c.ref)) || strings.Contains(err.Error(), password) {
			t.Errorf("%s: %q must name the reference and not the value", c.ref, err)
		}
		if len(below.got) != 0 || !body.closed {
			t.Errorf("%s: %d requests sent, body closed: %t", c.ref, len(below.got), body.closed)
		}
	}
}

func TestLargestSecretFits(t *testing.T) {
	t.Parallel()
	file, below := filepath.Join(t.TempDir(), "token"), &recorder{}
	if err := os.WriteFile(file, []byte(strings.Repeat("x", 64<<10)), 0o600); err != nil {
		t.Fatal(err)
	}
	w := wrap(t, below, gantry.Credential{Kind: "bearer", Token: gantry.SecretRef("${file:" + file + "}")}, nil)
	if _, err := w.RoundTrip(request(t)); err != nil {
		t.Error(err)
	}
}

func TestSecretsAreResolvedAtUse(t *testing.T) {
	t.Parallel()
	file, env, below := filepath.Join(t.TempDir(), "token"), environment{"T": "first"}, &recorder{}
	fromFile := wrap(t, below, gantry.Credential{Kind: "bearer", Token: gantry.SecretRef("${file:" + file + "}")}, env)
	fromEnv := wrap(t, below, gantry.Credential{Kind: "bearer", Token: "${env:T}"}, env)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	put := func(content string, mtime time.Time) {
		t.Helper()
		err := os.WriteFile(file, []byte(content), 0o600)
		if err = errors.Join(err, os.Chtimes(file, mtime, mtime)); err != nil {
			t.Fatal(err)
		}
	}
	sent := func(rt http.RoundTripper) string {
		t.Helper()
		if _, err := rt.RoundTrip(request(t)); err != nil {
			t.Fatal(err)
		}
		return below.got[len(below.got)-1].Header.Get("Authorization")
	}
	expect := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: sent %q, want %q", what, got, want)
		}
	}
	put("first", at)
	expect("file", sent(fromFile), "Bearer first")
	expect("env", sent(fromEnv), "Bearer first")

	env["T"] = "other"
	expect("env set anew", sent(fromEnv), "Bearer other")
	put("other", at.Add(time.Second))
	expect("file written anew", sent(fromFile), "Bearer other")
	put("third", at)
	expect("file set back", sent(fromFile), "Bearer third")
	put("3rd!!", at)
	expect("file with the same time and size is not read again", sent(fromFile), "Bearer third")

	next := file + ".next"
	if err := errors.Join(os.WriteFile(next, []byte("forth"), 0o600), os.Chtimes(next, at, at), os.Rename(next, file)); err != nil {
		t.Fatal(err)
	}
	expect("file replaced by one of the same time and size", sent(fromFile), "Bearer forth")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := fromFile.RoundTrip(request(t)); gantry.CodeOf(err) != auth.CodeSecretMissing {
		t.Errorf("file removed: %v", err)
	}
}

// A client that follows redirects takes the credential nowhere else.
func TestRedirectToAnotherOriginGoesUnsigned(t *testing.T) {
	t.Parallel()
	got := map[string][]string{}
	note := func(r *http.Request) { got[r.Host+r.URL.Path] = r.Header["Authorization"] }
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { note(r) }))
	defer other.Close()
	var home *httptest.Server
	home = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		note(r)
		http.Redirect(w, r, map[string]string{
			"/same": home.URL + "/there", "/there": other.URL + "/away",
		}[r.URL.Path], http.StatusTemporaryRedirect)
	}))
	defer home.Close()

	rt := wrap(t, &http.Transport{}, gantry.Credential{Kind: "bearer", Token: "${env:T}"}, environment{"T": password})
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, home.URL+"/same", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: rt}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	at := func(s *httptest.Server, path string) []string { return got[strings.TrimPrefix(s.URL, "http://")+path] }
	if a := at(home, "/there"); len(a) != 1 || a[0] != "Bearer "+password {
		t.Errorf("the same origin got %q", a)
	}
	if a := at(other, "/away"); a != nil {
		t.Errorf("another origin got %q", a)
	}
	if _, came := got[strings.TrimPrefix(other.URL, "http://")+"/away"]; !came {
		t.Error("the redirect was not followed, so nothing is shown")
	}
}
