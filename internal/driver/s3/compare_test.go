package s3

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"testing"

	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// halved says that half of an object is all of it.
func halved(resp *http.Response) {
	if resp.Request.Method == http.MethodGet && resp.StatusCode == http.StatusOK {
		resp.ContentLength /= 2
		resp.Header.Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, resp.ContentLength), resp.Body}
	}
}

// What is there is a conflict only if it was read whole: half of it, or another that took its place meanwhile, is
// looked at again.
func TestCompareReadsAll(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	if err := b.put("out/t/a", []byte("the bytes")); err != nil {
		t.Fatal(err)
	}
	gone := func(status int, code string) func(*http.Request) *http.Response {
		return func(r *http.Request) *http.Response {
			if r.Method != http.MethodGet {
				return nil
			}
			return refusal(r, status, code)
		}
	}
	for _, c := range []struct {
		faults
		code gantry.Code
	}{
		{faults{after: halved}, CodeSizeMismatch},
		{faults{before: gone(http.StatusNotFound, "NoSuchKey")}, CodeServerError},
		{faults{before: gone(http.StatusPreconditionFailed, "PreconditionFailed")}, CodeServerError},
	} {
		c.RoundTripper = b.egress.Transport()
		wantError(t, b.sink(signed{&c.faults}).Deliver(t.Context(), delivery("t/a", []byte("the bytes"))), gantry.Transient, c.code)
	}
	if err := b.sink(b.egress).Deliver(t.Context(), delivery("t/a", []byte("the bytes"))); err != nil {
		t.Error(err)
	}
}

// Credentials that may put and not look deliver what is large as they deliver what is small.
func TestPiecesWithoutRights(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	s, sp := b.pieces(t, 0)
	sp.before = func(r *http.Request) *http.Response {
		if r.Method == http.MethodHead || r.Method == http.MethodGet {
			return refusal(r, http.StatusForbidden, "AccessDenied")
		}
		return nil
	}
	body := bytes.Repeat([]byte("0123456789abcdef"), 6<<16)
	for _, w := range []word{wordUnknown, wordKept} {
		s.server.word.Store(int32(w))
		if err := s.Deliver(t.Context(), delivery("t/"+strconv.Itoa(int(w)), body)); err != nil {
			t.Error(err)
		}
	}
	s.server.word.Store(int32(wordBroken))
	wantError(t, s.Deliver(t.Context(), delivery("t/z", body)), gantry.Denied, CodeAccessDenied)
}
