package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// private stands in every hostile answer. No error may repeat it.
const private = "DOE^JANE"

// badServer stands between the store and a real server and does wrong.
type badServer struct {
	http.RoundTripper
	count atomic.Int64 // requests
	// before answers in the server's place, or gives nothing to let a request pass. n is the number of the request.
	before func(n int64, r *http.Request) (*http.Response, error)
	// after changes an answer.
	after func(n int64, r *http.Response)
}

// RoundTrip does wrong or sends.
func (f *badServer) RoundTrip(req *http.Request) (*http.Response, error) {
	n := f.count.Add(1)
	if f.before != nil {
		if resp, err := f.before(n, req); resp != nil || err != nil {
			if req.Body != nil {
				io.Copy(io.Discard, req.Body)
				req.Body.Close()
			}
			return resp, err
		}
	}
	resp, err := f.RoundTripper.RoundTrip(req)
	if err == nil && f.after != nil {
		f.after(n, resp)
	}
	return resp, err
}

// refusal is an error as S3 says it.
func refusal(req *http.Request, status int, code string, after string) *http.Response {
	body := fmt.Sprintf("<Error><Code>%s</Code><Message>%s</Message><Key>%s</Key></Error>", code, private, private)
	h := http.Header{"Content-Type": {"application/xml"}}
	if after != "" {
		h.Set("Retry-After", after)
	}
	return &http.Response{StatusCode: status, Status: strconv.Itoa(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
		Header: h, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body))}
}

// cut ends a body early.
type cut struct {
	io.Reader
	io.Closer
	err error
}

// Read gives err at the end.
func (c cut) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if err == io.EOF {
		err = c.err
	}
	return n, err
}

func cutAfter(n int64, err error) func(r *http.Response) {
	return func(r *http.Response) { r.Body = cut{io.LimitReader(r.Body, n), r.Body, err} }
}

// broken is a fault, and what has to come of it for a commit and for a read of three blocks.
type broken struct {
	name   string
	before func(n int64, r *http.Request) (*http.Response, error)
	after  func(n int64, r *http.Response)
	commit gantry.Code // "" is success; "-": not tried
	read   gantry.Code
	kind   gantry.Kind
}

func says(status int, code, after string, until int64) func(n int64, r *http.Request) (*http.Response, error) {
	return func(n int64, r *http.Request) (*http.Response, error) {
		if n > until {
			return nil, nil
		}
		return refusal(r, status, code, after), nil
	}
}

const always = 1 << 30

var brokenWays = []broken{
	{name: "500 twice", before: says(500, "InternalError", "", 2)},
	{name: "500 for good", before: says(500, "InternalError", "", always), commit: CodeServerError, read: CodeServerError, kind: gantry.Transient},
	{name: "slow down once", before: says(503, "SlowDown", "", 1)},
	{name: "slow down, come back in 7 s", before: says(503, "SlowDown", "7", 1), commit: CodeSlowDown, read: CodeSlowDown, kind: gantry.Unavailable},
	{name: "expired credentials", before: says(400, "ExpiredToken", "", always), commit: CodeExpired, read: CodeExpired, kind: gantry.Unavailable},
	{name: "credentials that ran out once", before: says(400, "ExpiredToken", "", 1)},
	{name: "they ran out when a taken key is looked at", read: "", before: func(n int64, r *http.Request) (*http.Response, error) {
		switch {
		case n == 1 && r.Method == http.MethodPut:
			return refusal(r, 412, "PreconditionFailed", ""), nil
		case n == 2 && r.Method == http.MethodHead:
			resp := refusal(r, 400, "ExpiredToken", "")
			resp.Body = http.NoBody
			return resp, nil
		}
		return nil, nil
	}},
	{name: "no right", before: says(403, "AccessDenied", "", always), commit: CodeAccessDenied, read: CodeAccessDenied, kind: gantry.Denied},
	{name: "the connection breaks once", before: func(n int64, _ *http.Request) (*http.Response, error) {
		if n > 1 {
			return nil, nil
		}
		return nil, errors.New("reset by " + private)
	}},
	{name: "the answer is lost", after: func(n int64, r *http.Response) {
		if n == 1 {
			r.StatusCode, r.Body = 500, http.NoBody
		}
	}},
	{name: "reset in the body", commit: "-", after: func(n int64, r *http.Response) {
		if n <= 3 {
			cutAfter(blockSize/2, errors.New("reset by "+private))(r)
		}
	}},
	{name: "short body", commit: "-", after: func(n int64, r *http.Response) {
		if n <= 3 {
			cutAfter(1000, io.EOF)(r)
		}
	}},
	{name: "short body for good", commit: "-", read: "short_body", kind: gantry.Transient, after: func(_ int64, r *http.Response) { cutAfter(1000, io.EOF)(r) }},
	{name: "another tag later", commit: "-", read: CodeChanged, kind: gantry.Transient, after: func(n int64, r *http.Response) {
		if n > 1 {
			r.Header.Set("ETag", `"other"`)
		}
	}},
	{name: "412 later", commit: "-", read: CodeChanged, kind: gantry.Transient, before: func(n int64, r *http.Request) (*http.Response, error) {
		if n == 1 {
			return nil, nil
		}
		return refusal(r, 412, "PreconditionFailed", ""), nil
	}},
	{name: "another size later", commit: "-", read: CodeChanged, kind: gantry.Transient, after: func(n int64, r *http.Response) {
		if head, _, ok := strings.Cut(r.Header.Get("Content-Range"), "/"); ok && n > 1 {
			r.Header.Set("Content-Range", head+"/99999999")
		}
	}},
	{name: "another range", commit: "-", read: CodeMalformedAnswer, kind: gantry.BadResponse, after: func(_ int64, r *http.Response) {
		r.Header.Set("Content-Range", "bytes 1-1048576/3145728")
	}},
	{name: "no range", commit: "-", read: CodeMalformedAnswer, kind: gantry.BadResponse, after: func(_ int64, r *http.Response) { r.Header.Del("Content-Range") }},
	{name: "no conditions", read: "", before: func(_ int64, r *http.Request) (*http.Response, error) {
		if r.Header.Get("If-None-Match") == "" {
			return nil, nil
		}
		return refusal(r, 501, "NotImplemented", ""), nil
	}},
	{name: "taken, and gone when looked at", read: "", before: func(n int64, r *http.Request) (*http.Response, error) {
		if n > 1 || r.Method != http.MethodPut {
			return nil, nil
		}
		return refusal(r, 412, "PreconditionFailed", ""), nil
	}},
}

// TestBucketFaults commits and reads through a server that does wrong. What ends well has the right bytes, what does not has the
// right meaning, and no error says what the server said.
func TestBucketFaults(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	for i, c := range brokenWays {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPail(t, server)
			f := &badServer{RoundTripper: p.rt}
			good, bad := p.open(), p.open(func(o *BucketOptions) { o.Transport = f })
			want := body(3<<20, uint64(i))
			if c.commit != "-" {
				f.count.Store(0)
				f.before, f.after = c.before, c.after
				staged, err := bad.Stage(t.Context(), bytes.NewReader(want), -1, always)
				if err != nil {
					t.Fatal(err)
				}
				where, err := staged.Commit(t.Context())
				holds(t, "commit", err, c.commit, c.kind)
				if err == nil && !bytes.Equal(fetch(t, good, where), want) {
					t.Error("other bytes were committed")
				}
			}
			where := keep(t, good, want)
			f.count.Store(0)
			f.before, f.after = c.before, c.after
			got, err := readAll(t.Context(), bad, where)
			holds(t, "read", err, c.read, c.kind)
			if err == nil && !bytes.Equal(got, want) {
				t.Error("other bytes were read")
			}
			if bad.cached.Load() != 0 {
				t.Errorf("%d blocks are still counted", bad.cached.Load())
			}
		})
	}
}

func holds(t *testing.T, what string, err error, code gantry.Code, kind gantry.Kind) {
	t.Helper()
	switch {
	case code == "" && err != nil, code != "" && (err == nil || gantry.CodeOf(err) != code || gantry.KindOf(err) != kind):
		t.Errorf("%s: %v (%v, %s), want %v, %q", what, err, gantry.KindOf(err), gantry.CodeOf(err), kind, code)
	case err != nil && strings.Contains(err.Error(), private):
		t.Errorf("%s: the error repeats the answer: %v", what, err)
	}
}

func readAll(ctx context.Context, s gantry.Blobs, where string) ([]byte, error) {
	b, err := s.Open(ctx, where)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
}

// TestBucketPiecesFaults breaks an upload in pieces at each of its requests: it goes on, and shows whole.
func TestBucketPiecesFaults(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	for n := range int64(6) {
		t.Run(fmt.Sprint("request ", n+1), func(t *testing.T) {
			t.Parallel()
			p := newPail(t, server)
			f := &badServer{RoundTripper: p.rt}
			b := p.open(func(o *BucketOptions) { o.Transport = f })
			want := body(11<<20, uint64(n))
			f.count.Store(0)
			f.after = func(i int64, r *http.Response) {
				if i == n+1 {
					r.StatusCode, r.Body = 500, http.NoBody
				}
			}
			if got := fetch(t, b, keep(t, b, want)); !bytes.Equal(got, want) {
				t.Error("read back wrong")
			}
		})
	}
}

// TestBucketUploadGivenUp: an upload that is given up is not left behind by a server that is busy just then.
func TestBucketUploadGivenUp(t *testing.T) {
	t.Parallel()
	p := newPail(t, s3test.Start(t))
	busy := 0
	b := p.open(func(o *BucketOptions) {
		o.Transport = &badServer{RoundTripper: o.Transport, before: func(_ int64, r *http.Request) (*http.Response, error) {
			if (r.URL.Query().Get("partNumber") == "2" || r.Method == http.MethodDelete) && busy > 0 {
				busy--
				return refusal(r, http.StatusServiceUnavailable, "SlowDown", ""), nil
			}
			return nil, nil
		}}
	})
	busy = blobTries + 1 // all tries of one piece, and the first to end the upload; the next upload goes through
	keep(t, b, body(12<<20, 1))
	left, err := p.client().ListMultipartUploads(t.Context(), &sdk.ListMultipartUploadsInput{Bucket: &p.Bucket})
	if err != nil || len(left.Uploads) != 0 || busy != 0 {
		t.Errorf("%d uploads are left behind, %v", len(left.Uploads), err)
	}
}

// TestBucketGivesUp ends a commit and a read when their ctx ends, or the blob is closed, although the server says nothing.
func TestBucketGivesUp(t *testing.T) {
	t.Parallel()
	p := newPail(t, s3test.Start(t))
	f := &badServer{RoundTripper: p.rt}
	b := p.open(func(o *BucketOptions) { o.Transport = f })
	where := keep(t, b, body(3<<20, 1))
	o, err := b.Open(t.Context(), where)
	if err != nil {
		t.Fatal(err)
	}
	silent := func(_ int64, r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	f.before = silent
	time.AfterFunc(50*time.Millisecond, func() { o.Close() })
	if _, err := o.ReadAt(make([]byte, 1), 2<<20); err == nil {
		t.Error("read from a silent server")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	staged, err := b.Stage(ctx, bytes.NewReader(body(100_000, 2)), -1, always)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := staged.Commit(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("commit: %v", err)
	}
}

// TestBucketListingEnds: a listing whose next page is the same again ends, and with it the collection of garbage.
func TestBucketListingEnds(t *testing.T) {
	t.Parallel()
	p := newPail(t, s3test.Start(t))
	f := &badServer{RoundTripper: p.rt}
	b := p.open(func(o *BucketOptions) { o.Transport = f })
	page := "<ListBucketResult><Name>x</Name><IsTruncated>true</IsTruncated><NextContinuationToken>again</NextContinuationToken></ListBucketResult>"
	f.before = func(_ int64, r *http.Request) (*http.Response, error) {
		resp := refusal(r, http.StatusOK, "", "")
		resp.Body, resp.ContentLength = io.NopCloser(strings.NewReader(page)), int64(len(page))
		return resp, nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := b.Objects(ctx, func([]gantry.KeptBlob) error { return nil })
	wantErr(t, err, gantry.BadResponse, CodeMalformedAnswer)
}
