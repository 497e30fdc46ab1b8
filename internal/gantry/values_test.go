package gantry_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// zeros is randomness without any.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestUUIDsRise(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_123)
	g := gantry.NewIDs(func() time.Time { return now }, zeros{})
	last := g.New()
	if last.Time() != now {
		t.Errorf("made at %s, says %s", now, last.Time())
	}
	if last[6]>>4 != 7 || last[8]>>6 != 2 {
		t.Errorf("%s is no version 7 UUID", last)
	}
	for i := range 10_000 {
		switch i {
		case 3000:
			now = now.Add(-time.Hour)
		case 6000:
			now = now.Add(2 * time.Hour)
		}
		next := g.New()
		if bytes.Compare(next[:], last[:]) <= 0 {
			t.Fatalf("key %d, %s, does not come after %s", i, next, last)
		}
		last = next
	}
	if s := last.String(); len(s) != 36 || strings.Count(s, "-") != 4 {
		t.Errorf("prints as %s", s)
	}
}

func TestPublicID(t *testing.T) {
	key := []byte("key")
	id := gantry.PublicID(key, "a", "bc")
	if len(id) != 26 || id != strings.ToLower(id) || strings.ContainsAny(id, "=/+ ") {
		t.Errorf("id %q", id)
	}
	if id != gantry.PublicID(key, "a", "bc") {
		t.Error("the same parts give another id")
	}
	for _, other := range []string{gantry.PublicID(key, "ab", "c"), gantry.PublicID(key, "abc"), gantry.PublicID([]byte("kez"), "a", "bc"), gantry.PublicID(key, "a", "bc", "")} {
		if other == id {
			t.Errorf("other parts give the same id %s", id)
		}
	}
}

func TestDigest(t *testing.T) {
	d := gantry.Digest{1, 2, 0xff}
	back, err := gantry.ParseDigest(d.String())
	if err != nil || back != d {
		t.Errorf("%s came back as %s: %v", d, back, err)
	}
	if (gantry.Digest{}).String() != "" || !(gantry.Digest{}).IsZero() {
		t.Error("an unknown digest prints")
	}
	for _, bad := range []string{"00", strings.Repeat("g", 64), strings.Repeat("0", 66)} {
		if _, err := gantry.ParseDigest(bad); err == nil {
			t.Errorf("%q passes for a digest", bad)
		}
	}
}

func TestErrors(t *testing.T) {
	err := fmt.Errorf("read part: %w", &gantry.Error{Kind: gantry.Unavailable, Code: "http_503", RetryAfter: time.Second, Err: errors.New("busy")})
	if gantry.KindOf(err) != gantry.Unavailable || gantry.CodeOf(err) != "http_503" || gantry.RetryAfterOf(err) != time.Second {
		t.Errorf("%v is %s %s %s", err, gantry.KindOf(err), gantry.CodeOf(err), gantry.RetryAfterOf(err))
	}
	if err.Error() != "read part: busy" {
		t.Errorf("reads %q", err)
	}
	plain := errors.New("x")
	if gantry.KindOf(plain) != gantry.Transient || gantry.CodeOf(plain) != "transient" || gantry.RetryAfterOf(plain) != 0 || gantry.CodeOf(nil) != "" {
		t.Error("an unclassified error is not transient")
	}
	if got := gantry.CodeOf(gantry.Errorf(gantry.Denied, "", "no")); got != "denied" {
		t.Errorf("an error without a code has %q, not its kind's name", got)
	}
	if got := (&gantry.Error{Kind: gantry.Illegal, Code: "empty"}).Error(); got != "empty" {
		t.Errorf("an error without a text reads %q", got)
	}
}

func TestRetryPolicy(t *testing.T) {
	p := gantry.RetryPolicy{Attempts: 5, Initial: time.Second, Factor: 2, Max: 10 * time.Second}
	for _, c := range []struct {
		attempt int
		r       float64
		after   time.Duration
		want    time.Duration
	}{
		{1, 1, 0, time.Second},
		{2, 1, 0, 2 * time.Second},
		{3, 0.5, 0, 2 * time.Second},
		{9, 1, 0, 10 * time.Second},
		{1, 0, 0, time.Millisecond},
		{1, 0.1, 3 * time.Second, 3 * time.Second},
		{1, 0.1, time.Hour, 10 * time.Second},
	} {
		if got := p.Pause(c.attempt, c.r, c.after); got != c.want {
			t.Errorf("pause after %d tries at %v, asked for %s: %s, want %s", c.attempt, c.r, c.after, got, c.want)
		}
	}
	for _, c := range []struct {
		kind    gantry.Kind
		attempt int
		want    bool
	}{
		{gantry.Transient, 1, true}, {gantry.Transient, 4, true}, {gantry.Transient, 5, false},
		{gantry.BadResponse, 1, true}, {gantry.BadResponse, 2, false},
		{gantry.Denied, 1, false}, {gantry.Permanent, 1, false}, {gantry.Illegal, 1, false}, {gantry.NotFound, 1, false},
		{gantry.Timeout, 2, true}, {gantry.Unavailable, 2, true},
	} {
		if got := p.MayRetry(c.kind, c.attempt); got != c.want {
			t.Errorf("another try after %d, %s: %v, want %v", c.attempt, c.kind, got, c.want)
		}
	}
}

func TestTargetKey(t *testing.T) {
	for _, c := range []struct {
		t    gantry.Target
		want string
	}{
		{gantry.Target{Scheme: "http", Host: "h", Port: "80"}, "http://h:80"},
		{gantry.Target{Scheme: "grpc", Host: "h", Port: "8001", Model: "lvef"}, "grpc://h:8001/lvef"},
		{gantry.Target{Scheme: "dir", Host: "/in"}, "dir:/in"},
	} {
		if got := c.t.Key(); got != c.want {
			t.Errorf("key %s, want %s", got, c.want)
		}
	}
}
