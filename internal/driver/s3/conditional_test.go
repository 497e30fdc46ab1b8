package s3

import (
	"bytes"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// lying is a server that takes conditions for nothing: the real one, which never sees them.
type lying struct {
	faults
	heads, puts atomic.Int32
	refuse      int // a status for requests with the condition
}

// RoundTrip leaves out the condition, or refuses it.
func (l *lying) RoundTrip(req *http.Request) (*http.Response, error) {
	switch req.Method {
	case http.MethodHead:
		l.heads.Add(1)
	case http.MethodPut, http.MethodPost:
		if req.Method == http.MethodPut && !req.URL.Query().Has("partNumber") {
			l.puts.Add(1)
		}
		if req.Header.Get("If-None-Match") != "" && l.refuse > 0 {
			l.before = func(r *http.Request) *http.Response { return refusal(r, l.refuse, "NotImplemented") }
			defer func() { l.before = nil }()
		}
		req.Header.Del("If-None-Match")
	}
	return l.faults.RoundTrip(req)
}

// liar stands before the signer, so that what it takes away was never signed.
func liar(t *testing.T, b *bucket) (*lying, gantry.Egress) {
	l := &lying{faults: faults{RoundTripper: sign(t, drivertest.Egress(t).Transport(), b.server).Transport()}}
	return l, signed{l}
}

// A server that keeps to the condition is found out with one request, and then asked no more.
func TestProveKept(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	l, _ := liar(t, b)
	count := &faults{RoundTripper: b.egress.Transport(), before: func(r *http.Request) *http.Response {
		if r.Method == http.MethodHead {
			l.heads.Add(1)
		}
		if r.Method == http.MethodPut {
			l.puts.Add(1)
		}
		return nil
	}}
	s := b.sink(signed{count})
	for i, body := range []string{"", "a", "b", "c"} { // the first has no bytes, and proves nothing
		if err := s.Deliver(t.Context(), delivery("t/"+body, []byte(body))); body != "" && err != nil {
			t.Fatal(err)
		}
		if err := s.Prove(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, want := s.server.is() == wordKept, i > 0; got != want {
			t.Errorf("after %d: %v", i, s.server.is())
		}
	}
	if heads, puts := l.heads.Load(), l.puts.Load(); heads > 4 || puts != 4 {
		t.Errorf("%d looks and %d puts for 3 objects", heads, puts)
	}
	wantError(t, s.Deliver(t.Context(), delivery("t/a", []byte("x"))), gantry.Permanent, gantry.CodeConflict)
}

// Under one that does not, no object takes another's place: not before it is found out, not after, whole or in pieces.
func TestProveBroken(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	l, egress := liar(t, b)
	s := b.sink(egress)
	s.piece = 5 << 20
	large := bytes.Repeat([]byte("0123456789abcdef"), 11<<16)
	try := func(doing string) {
		t.Helper()
		for path, body := range map[string][]byte{"t/small": []byte("first"), "t/large": large} {
			for range 2 {
				if err := s.Deliver(t.Context(), delivery(path, body)); err != nil {
					t.Fatalf("%s: %v", doing, err)
				}
			}
			wantError(t, s.Deliver(t.Context(), delivery(path, append([]byte("x"), body...))), gantry.Permanent, gantry.CodeConflict)
		}
		if got, err := b.list("out/"); err != nil || string(got["t/small"]) != "first" || !bytes.Equal(got["t/large"], large) {
			t.Errorf("%s: what was first is not there: %d objects, %v", doing, len(got), err)
		}
	}
	try("before it is known")
	wantError(t, s.Prove(t.Context()), gantry.Permanent, CodeNotConditional)
	if err := s.Prove(t.Context()); err != nil || s.server.is() != wordBroken {
		t.Errorf("it is told once: %v, %v", err, s.server.is())
	}
	try("after it is known")
	puts := l.puts.Load()
	if err := s.Deliver(t.Context(), delivery("t/small", []byte("first"))); err != nil || l.puts.Load() != puts {
		t.Errorf("what is there was put again: %v", err)
	}
	// The control: whoever believes the server replaces.
	s.server.word.Store(int32(wordKept))
	if err := s.Deliver(t.Context(), delivery("t/small", []byte("other"))); err != nil {
		t.Fatal(err)
	}
	if got, _ := b.list("out/"); string(got["t/small"]) != "other" {
		t.Error("the control replaced nothing")
	}
}

// Two that look at once and put other bytes: whoever's are not there in the end is told.
func TestBrokenAtOnce(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	_, egress := liar(t, b)
	s := b.sink(egress)
	s.server.learn(wordBroken)
	lost := &lying{faults: faults{RoundTripper: egress.Transport()}}
	var put atomic.Bool
	lost.after = func(resp *http.Response) { // between our put and our second look
		if resp.Request.Method == http.MethodPut && !put.Swap(true) {
			if err := b.put("out/t/a", []byte("another's")); err != nil {
				t.Error(err)
			}
		}
	}
	s.client = newClient(b.place(), signed{lost})
	wantError(t, s.Deliver(t.Context(), delivery("t/a", []byte("ours"))), gantry.Permanent, gantry.CodeConflict)
}

// A server that refuses the condition itself gets none.
func TestProveRefused(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	l, egress := liar(t, b)
	l.refuse = http.StatusNotImplemented
	s := b.sink(egress)
	for range 2 {
		if err := s.Deliver(t.Context(), delivery("t/a", []byte("bytes"))); err != nil {
			t.Fatal(err)
		}
	}
	if s.server.is() != wordRefused {
		t.Errorf("it is %v", s.server.is())
	}
	wantError(t, s.Deliver(t.Context(), delivery("t/a", []byte("other"))), gantry.Permanent, gantry.CodeConflict)
	off := b.sinkOf(egress, func(c *SinkConfig) { c.Conditional = "off" })
	if err := off.Deliver(t.Context(), delivery("t/b", []byte("bytes"))); err != nil || off.condition() != nil {
		t.Errorf("told not to: %v", err)
	}
	wantError(t, off.Deliver(t.Context(), delivery("t/b", []byte("other"))), gantry.Permanent, gantry.CodeConflict)
}

// Credentials that may put and not look go by the server's word as long as nothing speaks against it.
func TestProveWithoutRights(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	blind := &faults{RoundTripper: b.egress.Transport(), before: func(r *http.Request) *http.Response {
		if r.Method == http.MethodHead || r.Method == http.MethodGet {
			return refusal(r, http.StatusForbidden, "AccessDenied")
		}
		return nil
	}}
	s := b.sink(signed{blind})
	if err := s.Deliver(t.Context(), delivery("t/a", []byte("bytes"))); err != nil {
		t.Fatal(err)
	}
	if err := s.Prove(t.Context()); err != nil || s.server.is() != wordKept {
		t.Errorf("%v, %v", err, s.server.is())
	}
	s.server.word.Store(int32(wordBroken))
	wantError(t, s.Deliver(t.Context(), delivery("t/b", []byte("bytes"))), gantry.Denied, CodeAccessDenied)
}

// Where nobody may look, and the server takes no condition, nothing is put: another's object may be there.
func TestBlindPutReplacesNothing(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	l, egress := liar(t, b)
	l.refuse = http.StatusNotImplemented
	blind := &faults{RoundTripper: egress.Transport(), before: func(r *http.Request) *http.Response {
		if r.Method == http.MethodHead {
			return refusal(r, http.StatusForbidden, "AccessDenied")
		}
		return nil
	}}
	for name, body := range map[string][]byte{"small": []byte("ours"), "large": bytes.Repeat([]byte("0123456789abcdef"), 11<<16)} {
		if err := b.put("out/t/"+name, []byte("somebody else's")); err != nil {
			t.Fatal(err)
		}
		s := b.sink(signed{blind})
		s.piece = 5 << 20
		wantError(t, s.Deliver(t.Context(), delivery("t/"+name, body)), gantry.Denied, CodeAccessDenied)
		if got, err := b.list("out/"); err != nil || string(got["t/"+name]) != "somebody else's" || b.uploads(t) != 0 {
			t.Errorf("%s: another's object was replaced by %d bytes of ours, or %d uploads are open, %v", name, len(got["t/"+name]), b.uploads(t), err)
		}
	}
}

// What ended in a conflict is no object of ours: to prove the server with it would replace another's.
func TestProveReplacesNothing(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	l, egress := liar(t, b)
	s := b.sink(egress)
	l.after = func(resp *http.Response) { // another process puts other bytes right after ours, as at a server without conditions
		if resp.Request.Method == http.MethodPut {
			l.after = nil
			if err := b.put("out/t/a", []byte("another's")); err != nil {
				t.Error(err)
			}
		}
	}
	wantError(t, s.Deliver(t.Context(), delivery("t/a", []byte("ours"))), gantry.Permanent, gantry.CodeConflict)
	if err := s.Deliver(t.Context(), delivery("t/b", bytes.Repeat([]byte("x"), inMemory+1))); err != nil { // one that proves nothing
		t.Fatal(err)
	}
	if err := s.Prove(t.Context()); err != nil {
		t.Error(err)
	}
	if got, err := b.list("out/"); err != nil || string(got["t/a"]) != "another's" {
		t.Errorf("%q is in the place of another's object, %v", got["t/a"], err)
	}
}

// What a server does with a put says nothing of what it does with an upload: before that is completed, it is looked once more.
func TestKeptForPutsAlone(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	f := &faults{RoundTripper: sign(t, drivertest.Egress(t).Transport(), b.server).Transport()}
	f.before = func(r *http.Request) *http.Response {
		if r.Method == http.MethodPost {
			r.Header.Del("If-None-Match") // as of servers that know it for PutObject alone
		}
		return nil
	}
	s := b.sink(signed{f})
	s.piece = 5 << 20
	if err := errors.Join(s.Deliver(t.Context(), delivery("t/small", []byte("x"))), s.Prove(t.Context())); err != nil || s.server.is() != wordKept {
		t.Fatal(err)
	}
	large := bytes.Repeat([]byte("0123456789abcdef"), 11<<16)
	for name, c := range map[string]struct {
		theirs []byte
		want   gantry.Code
	}{"other": {[]byte("another's"), gantry.CodeConflict}, "same": {large, ""}} {
		once := false
		f.after = func(resp *http.Response) {
			if !once && resp.Request.URL.Query().Has("partNumber") {
				once = true
				if err := b.put("out/t/"+name, c.theirs); err != nil {
					t.Error(err)
				}
			}
		}
		err := s.Deliver(t.Context(), delivery("t/"+name, large))
		if gantry.CodeOf(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := b.list("out/"); err != nil || !bytes.Equal(got["t/"+name], c.theirs) || b.uploads(t) != 0 {
			t.Errorf("%s: it was replaced while the pieces were sent, or %d uploads are open, %v", name, b.uploads(t), err)
		}
	}
}
