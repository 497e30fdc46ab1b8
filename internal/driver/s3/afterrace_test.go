package s3

import (
	"net/http"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

func isCopy(r *http.Request) bool { return r.Header.Get("X-Amz-Copy-Source") != "" }

// What was put where an object goes after that was looked at, as another version of the object may be by another process, is
// not replaced.
func TestMoveReplacesNothing(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	s := b.tidying(func(c *SourceConfig) { c.After, c.MoveTo = "move", "done/" })
	if err := b.put("in/a", []byte("bytes")); err != nil {
		t.Fatal(err)
	}
	mark, copies := s.Mark(b.found(s, "in/a")), 0
	f := &faults{RoundTripper: b.egress.Transport(), before: func(r *http.Request) *http.Response {
		if !isCopy(r) {
			return nil
		}
		if copies++; copies > 1 {
			return nil
		}
		if err := b.put("done/a", []byte("other")); err != nil {
			t.Error(err)
		}
		if r.Header.Get("If-None-Match") == "*" { // as AWS answers; the test's server knows no condition of copies
			return refusal(r, http.StatusPreconditionFailed, "PreconditionFailed")
		}
		return nil
	}}
	s.client = newClient(b.place(), signed{f})
	wantError(t, s.Tidy(t.Context(), mark, gantry.Done, nothing), gantry.Transient, CodeServerError)
	if err := s.Tidy(t.Context(), mark, gantry.Done, nothing); err != nil {
		t.Fatal(err)
	}
	got, err := b.list("")
	if err != nil || len(got) != 2 || string(got["done/a"]) != "other" {
		t.Errorf("%q, %v", got, err)
	}
	for key, body := range got {
		if key != "done/a" && (!strings.HasPrefix(key, "done/a~") || string(body) != "bytes") {
			t.Errorf("%s is %q", key, body)
		}
	}
}

// A server that knows no conditions of copies copies without, and one that is put while it is copied stays, although the
// server deletes whatever is there.
func TestMoveLeavesNewer(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	s := b.tidying(func(c *SourceConfig) { c.After, c.MoveTo = "move", "done/" })
	if err := b.put("in/a", []byte("first")); err != nil {
		t.Fatal(err)
	}
	mark := s.Mark(b.found(s, "in/a"))
	f := &faults{RoundTripper: &unconditional{sign(t, drivertest.Egress(t).Transport(), b.server).Transport()},
		before: func(r *http.Request) *http.Response {
			if isCopy(r) && r.Header.Get("If-None-Match") != "" {
				return refusal(r, http.StatusNotImplemented, "NotImplemented")
			}
			return nil
		},
		after: func(r *http.Response) {
			if isCopy(r.Request) {
				if err := b.put("in/a", []byte("newer")); err != nil {
					t.Error(err)
				}
			}
		}}
	s.client = newClient(b.place(), signed{f})
	wantError(t, s.Tidy(t.Context(), mark, gantry.Done, nothing), gantry.NotFound, gantry.CodeSourceGone)
	if got, err := b.list(""); err != nil || string(got["in/a"]) != "newer" || string(got["done/a"]) != "first" {
		t.Errorf("%q, %v", got, err)
	}
}
