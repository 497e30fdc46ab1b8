package api

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func TestUploadIsDescribed(t *testing.T) {
	t.Parallel()
	sum := sha256.Sum256([]byte("hello"))
	for what, c := range map[string]struct {
		query  string
		header []string
		want   Upload
	}{
		"bare":         {"", nil, Upload{Size: 5}},
		"query":        {"?name=a%20b.dcm", nil, Upload{Size: 5, Name: "a b.dcm"}},
		"disposition":  {"", []string{"Content-Disposition", `attachment; filename="in.zip"`}, Upload{Size: 5, Name: "in.zip"}},
		"extended":     {"", []string{"Content-Disposition", `attachment; filename*=UTF-8''%C3%A4.dcm`}, Upload{Size: 5, Name: "ä.dcm"}},
		"both":         {"?name=q", []string{"Content-Disposition", `attachment; filename="d"`}, Upload{Size: 5, Name: "q"}},
		"folders":      {"?name=..%2F..%2Fetc%2Fpasswd", nil, Upload{Size: 5, Name: "passwd"}},
		"other slash":  {`?name=C:%5Cx%5Cy.dcm`, nil, Upload{Size: 5, Name: "y.dcm"}},
		"key":          {"", []string{"Idempotency-Key", "k-1"}, Upload{Size: 5, Key: "k-1"}},
		"digest":       {"", []string{"Content-Digest", "sha-512=:eA==:, sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"}, Upload{Size: 5, SHA: sum}},
		"other digest": {"", []string{"Content-Digest", "md5=:eA==:"}, Upload{Size: 5}},
	} {
		d := &counter{states: []string{"queued"}}
		_, url := served(t, d)
		resp, _ := send(t, "POST", url+uploads+c.query, strings.NewReader("hello"), c.header...)
		c.want.Pipeline = "echo"
		if diff := cmp.Diff(c.want, d.got); diff != "" || d.size != 5 || resp.StatusCode != 201 || resp.Header.Get("Location") != "/api/v1/tasks/id" {
			t.Errorf("%s: %d, %d bytes (-want +got):\n%s", what, resp.StatusCode, d.size, diff)
		}
	}
}

func TestUploadsThatAreRefused(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		query  string
		header []string
		body   string
		status int
		code   gantry.Code
	}{
		"empty":               {"", nil, "", 400, gantry.CodeEmpty},
		"a form":              {"", []string{"Content-Type", "multipart/form-data; boundary=B"}, "x", 415, CodeForm},
		"a form of fields":    {"", []string{"Content-Type", "application/x-www-form-urlencoded"}, "x", 415, CodeForm},
		"compressed":          {"", []string{"Content-Encoding", "gzip"}, "x", 415, CodeEncoded},
		"a long key":          {"", []string{"Idempotency-Key", strings.Repeat("k", 256)}, "x", 400, CodeBadKey},
		"a long name":         {"?name=" + strings.Repeat("n", 256), nil, "x", 400, CodeBadName},
		"a name of two lines": {"?name=a%0Ab", nil, "x", 400, CodeBadName},
		"a name of NUL":       {"?name=a%00b", nil, "x", 400, CodeBadName},
		"no name at all":      {"?name=..", nil, "x", 400, CodeBadName},
		"bad disposition":     {"", []string{"Content-Disposition", `attachment; filename="DOE^JANE`}, "x", 400, CodeBadName},
		"bad digest":          {"", []string{"Content-Digest", "sha-256=:DOE^JANE:"}, "x", 400, CodeBadDigest},
		"bad wait":            {"?wait=DOE^JANE", nil, "x", 400, CodeBadWait},
		"long wait":           {"?wait=5m1s", nil, "x", 400, CodeBadWait},
		"negative wait":       {"?wait=-1s", nil, "x", 400, CodeBadWait},
		"another site":        {"", []string{"Sec-Fetch-Site", "cross-site"}, "x", 403, CodeForeignSite},
		"another origin":      {"", []string{"Origin", "https://evil.test"}, "x", 403, CodeForeignSite},
		"another host":        {"", []string{"Host", "evil.test"}, "x", 403, CodeForeignSite},
	} {
		d := &counter{states: []string{"queued"}}
		_, url := served(t, d)
		resp, p := send(t, "POST", url+uploads+c.query, strings.NewReader(c.body), c.header...)
		if resp.StatusCode != c.status || p.Code != string(c.code) || p.Status != c.status || p.Title != http.StatusText(c.status) || d.got.Pipeline != "" {
			t.Errorf("%s: %d, %+v", what, resp.StatusCode, p)
		}
		if strings.Contains(p.Detail, "DOE") || resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %q as %s", what, p.Detail, resp.Header.Get("Content-Type"))
		}
	}
}

// raw speaks to the API over a connection of its own and gives the answer.
func raw(t *testing.T, url string, talk func(c net.Conn)) (*http.Response, problem) {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	talk(c)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var p problem
	json.NewDecoder(resp.Body).Decode(&p)
	return resp, p
}

// A body that stands still, or breaks off, is no upload.
func TestBodiesThatBreakOff(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		length string
		body   string
		end    bool // the sender closes its side
		code   gantry.Code
		status int
	}{
		"still from the start":   {"Content-Length: 10", "", false, CodeIdle, 408},
		"still midway":           {"Content-Length: 10", "hello", false, CodeIdle, 408},
		"still in a chunk":       {"Transfer-Encoding: chunked", "5\r\nhel", false, CodeIdle, 408},
		"cut":                    {"Content-Length: 10", "hello", true, CodeBroken, 400},
		"cut before a chunk":     {"Transfer-Encoding: chunked", "5\r\nhello\r\n", true, CodeBroken, 400},
		"a chunk that is no one": {"Transfer-Encoding: chunked", "5\r\nhello\r\nDOE^JANE\r\n", false, CodeBroken, 400},
	} {
		d := &counter{states: []string{"queued"}}
		api, url := served(t, d)
		api.idle = 200 * time.Millisecond
		resp, p := raw(t, url, func(conn net.Conn) {
			fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n%s", uploads, c.length, c.body)
			if c.end {
				conn.(*net.TCPConn).CloseWrite()
			}
		})
		if resp.StatusCode != c.status || p.Code != string(c.code) || strings.Contains(p.Detail, "DOE") {
			t.Errorf("%s: %d, %+v", what, resp.StatusCode, p)
		}
	}
}

// A slow sender is waited for as long as something comes.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	d := &counter{states: []string{"queued"}}
	api, url := served(t, d)
	api.idle = 500 * time.Millisecond
	resp, p := raw(t, url, func(c net.Conn) {
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\n", uploads)
		for range 10 {
			time.Sleep(100 * time.Millisecond)
			io.WriteString(c, "x")
		}
	})
	if resp.StatusCode != 201 || d.size != 10 {
		t.Errorf("%d, %d bytes, %+v", resp.StatusCode, d.size, p)
	}
}

// stuck is a desk whose uploads take as long as the test likes.
type stuck struct {
	*counter
	came  chan struct{}
	leave chan struct{}
}

func (s stuck) Upload(context.Context, Upload) (string, error) {
	s.came <- struct{}{}
	<-s.leave
	return "id", nil
}

func TestUploadsAtOnceAreBounded(t *testing.T) {
	t.Parallel()
	d := stuck{&counter{states: []string{"queued"}}, make(chan struct{}), make(chan struct{})}
	api, url := served(t, d)
	api.slots = make(chan struct{}, 2)
	done := make(chan int, 2)
	for range 2 {
		go func() {
			resp, err := http.Post(url+uploads, "application/dicom", strings.NewReader("x"))
			if err != nil {
				done <- 0
				return
			}
			resp.Body.Close()
			done <- resp.StatusCode
		}()
		<-d.came
	}
	resp, p := send(t, "POST", url+uploads, strings.NewReader("x"))
	if resp.StatusCode != 503 || p.Code != string(CodeBusy) || resp.Header.Get("Retry-After") == "" {
		t.Errorf("the third: %d, %+v", resp.StatusCode, p)
	}
	close(d.leave)
	for range 2 {
		if status := <-done; status != 201 {
			t.Errorf("one of the two: %d", status)
		}
	}
}

// A large upload goes through in pieces. The test is not parallel: it counts what this process allocates,
// the client included.
func TestLargeUploadsAreNotHeld(t *testing.T) {
	const size, budget = 24 << 20, 8 << 20
	d := &counter{states: []string{"queued"}}
	_, url := served(t, d)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	resp, p := send(t, "POST", url+uploads, io.LimitReader(same('x'), size))
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; resp.StatusCode != 201 || d.size != size || used > budget {
		t.Errorf("%d, %+v: %d bytes came, %d were allocated", resp.StatusCode, p, d.size, used)
	}
}

type same byte

// Read gives the same byte.
func (s same) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(s)
	}
	return len(p), nil
}

func FuzzDescribed(f *testing.F) {
	f.Add("a.dcm", `attachment; filename="b.zip"`, "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:", "key", "30s")
	f.Add("../x", `inline; filename*=UTF-8''%e4`, "sha-256=x", "", "-1s")
	f.Fuzz(func(t *testing.T, name, disposition, digest, key, wait string) {
		r := httptest.NewRequest("POST", uploads, strings.NewReader("x"))
		q := r.URL.Query()
		q.Set("name", name)
		q.Set("wait", wait)
		r.URL.RawQuery = q.Encode()
		for k, v := range map[string]string{"Content-Disposition": disposition, "Content-Digest": digest, "Idempotency-Key": key} {
			r.Header.Set(k, v)
		}
		u, err := described(r)
		if err != nil && gantry.KindOf(err) != gantry.Illegal {
			t.Fatalf("%v is %s", err, gantry.KindOf(err))
		}
		if err == nil && (len(u.Name) > maxName || strings.ContainsAny(u.Name, "/\\\x00\n\r") || u.Name == ".." || len(u.Key) > maxKey) {
			t.Fatalf("%q, %q", u.Name, u.Key)
		}
		if d, err := waiting(r); d < 0 || d > maxWait || err != nil && gantry.CodeOf(err) != CodeBadWait {
			t.Fatalf("%s, %v", d, err)
		}
	})
}

// slowDisk is a desk that takes long after it has read the body, and notes whether the request lives on.
type slowDisk struct {
	*counter
	takes time.Duration
}

func (s slowDisk) Upload(ctx context.Context, u Upload) (string, error) {
	if _, err := s.counter.Upload(ctx, u); err != nil {
		return "", err
	}
	select {
	case <-time.After(s.takes):
		return "id", nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// Once the body is there nobody waits for more of it: making it durable may take longer than it may stand still.
func TestBodyIsReadBeforeItIsDurable(t *testing.T) {
	t.Parallel()
	api, url := served(t, slowDisk{&counter{states: []string{"queued"}}, time.Second})
	api.idle = 200 * time.Millisecond
	for _, body := range []io.Reader{strings.NewReader("x"), io.MultiReader(strings.NewReader("x"))} { // of known length, in chunks
		resp, p := send(t, "POST", url+uploads, body, "Content-Type", "application/dicom")
		if resp.StatusCode != 201 {
			t.Errorf("%d %+v", resp.StatusCode, p)
		}
	}
}

// faulty is a desk with a fault.
type faulty struct{ *counter }

func (faulty) Upload(context.Context, Upload) (string, error) { panic(http.ErrAbortHandler) }

// An upload that ends in a fault of ours takes no place from those after it.
func TestFaultGivesItsPlaceBack(t *testing.T) {
	t.Parallel()
	api, url := served(t, faulty{&counter{states: []string{"queued"}}})
	api.slots = make(chan struct{}, 1)
	for range 2 {
		if resp, err := http.Post(url+uploads, "application/dicom", strings.NewReader("x")); err == nil {
			resp.Body.Close()
			t.Errorf("status %d", resp.StatusCode)
		}
	}
}

// early is a desk that sees the caller go away before it sees the body break off.
type early struct{ *counter }

func (early) Upload(ctx context.Context, _ Upload) (string, error) {
	<-ctx.Done()
	return "", context.Cause(ctx)
}

// A body that breaks off is no fault of the database or the disk, whichever is noticed first.
func TestBodyThatBreaksOffAtOnce(t *testing.T) {
	t.Parallel()
	_, url := served(t, early{&counter{states: []string{"queued"}}})
	resp, p := raw(t, url, func(conn net.Conn) {
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", uploads)
		conn.(*net.TCPConn).CloseWrite()
	})
	if resp.StatusCode != 400 || p.Code != string(CodeBroken) {
		t.Errorf("%d, %+v", resp.StatusCode, p)
	}
}
