package s3

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// deleting gives a source that deletes what is done.
func (b *bucket) deleting() *source { return b.tidying(func(c *SourceConfig) { c.After = "delete" }) }

// holds wants these versions and markers below in/, and the body of the present object; none if it is empty.
func (b *bucket) holds(doing, present string, want ...string) {
	b.t.Helper()
	got, err := b.list("in/")
	all := slices.DeleteFunc(b.all(), func(key string) bool { return strings.HasPrefix(key, "in/done/") })
	if err != nil || string(got["a"]) != present || !slices.Equal(all, want) {
		b.t.Errorf("%s: in/a is %q, and there are %q, %v", doing, got["a"], all, err)
	}
}

// replaced puts an object over another, before anybody listed that.
func (b *bucket) replaced() {
	b.t.Helper()
	for _, body := range []string{"of the wrong patient", "right"} {
		if err := b.put("in/a", []byte(body)); err != nil {
			b.t.Fatal(err)
		}
	}
}

// What was replaced does not come back as an input when what replaced it is moved or deleted, whether the mark has its version or not.
func TestTidyOverFormerVersions(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	for name, get := range map[string]func(*bucket) *source{"delete": (*bucket).deleting, "move": (*bucket).moving} {
		for _, inPlace := range []bool{false, true} {
			b := newBucket(t, server).versioned()
			s := get(b)
			b.replaced()
			o := b.found(s, "in/a")
			mark, err := s.Mark(o), error(nil)
			if inPlace {
				mark, err = s.Locate(t.Context(), o)
			}
			if err != nil || o.Size != 5 || mark == "" {
				t.Fatal(o, err)
			}
			if err := s.Tidy(t.Context(), mark, gantry.Done); err != nil {
				t.Fatal(err)
			}
			b.holds(fmt.Sprint(name, inPlace), "", "in/a", "in/a (marker)")
			if got, err := b.list("in/done/"); err != nil || name == "move" && string(got["a"]) != "right" {
				t.Errorf("%s: moved is %q, %v", name, got, err)
			}
		}
	}
}

// Where nothing would come to light no marker is laid: a lone version, one over a marker, one below another's key or another version.
func TestTidyLaysNoMarker(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t)).versioned()
	s := b.deleting()
	tidy := func(doing, present string, want ...string) {
		t.Helper()
		if err := s.Tidy(t.Context(), s.Mark(b.found(s, "in/a")), gantry.Done); err != nil {
			t.Fatalf("%s: %v", doing, err)
		}
		b.holds(doing, present, want...)
	}
	put := func(key string) {
		if err := b.put(key, []byte("bytes of "+key)); err != nil {
			t.Fatal(err)
		}
	}
	put("in/a")
	put("in/ab")
	tidy("alone", "", "in/ab")
	put("in/a")
	if err := b.remove("in/a"); err != nil {
		t.Fatal(err)
	}
	put("in/a")
	tidy("over a marker", "", "in/a", "in/ab", "in/a (marker)")
}

// Without the right to list versions a marker is always laid.
func TestTidyWithoutListingVersions(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t)).versioned()
	s := b.deleting()
	if err := b.put("in/a", []byte("alone")); err != nil {
		t.Fatal(err)
	}
	mark := s.Mark(b.found(s, "in/a"))
	s.client = newClient(b.place(), b.stranger("s3:ListBucket", "s3:GetObject", "s3:GetObjectVersion", "s3:DeleteObject", "s3:DeleteObjectVersion"))
	if err := s.Tidy(t.Context(), mark, gantry.Done); err != nil {
		t.Fatal(err)
	}
	b.holds("unseen", "", "in/a (marker)")
}

// What is put over an object just before a marker would be is not covered.
func TestTidyCoversNothingNewer(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t)).versioned()
	s := b.deleting()
	b.replaced()
	mark := s.Mark(b.found(s, "in/a"))
	s.client = newClient(b.place(), signed{&faults{RoundTripper: b.egress.Transport(), after: func(r *http.Response) {
		if r.Request.URL.Query().Has("versions") {
			if err := b.put("in/a", []byte("newer")); err != nil {
				t.Error(err)
			}
		}
	}}})
	if err := s.Tidy(t.Context(), mark, gantry.Done); err != nil {
		t.Fatal(err)
	}
	b.holds("newer", "newer", "in/a", "in/a")
}

// In a bucket whose versions were switched off a marker would destroy one from before they were switched on.
func TestTidyOfSuspendedVersions(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	s := b.deleting()
	if err := b.put("in/a", []byte("without a version")); err != nil {
		t.Fatal(err)
	}
	b.versioned()
	if err := b.put("in/a", []byte("right")); err != nil {
		t.Fatal(err)
	}
	o := b.found(s, "in/a")
	b.keepVersions(types.BucketVersioningStatusSuspended)
	if err := s.Tidy(t.Context(), s.Mark(o), gantry.Done); err != nil {
		t.Fatal(err)
	}
	b.holds("suspended", "without a version", "in/a")
}

// A version that the bucket does not let go lies under no marker in the end.
func TestTidyLockedOverFormerVersion(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	b := newBucket(t, server)
	b.name += "-lock"
	if _, err := b.CreateBucket(t.Context(), &sdk.CreateBucketInput{Bucket: &b.name, ObjectLockEnabledForBucket: aws.Bool(true)}); err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{"former", "held"} {
		if _, err := b.PutObject(t.Context(), &sdk.PutObjectInput{Bucket: &b.name, Key: aws.String("in/a"), Body: strings.NewReader(body),
			ChecksumAlgorithm: types.ChecksumAlgorithmSha256, ObjectLockMode: types.ObjectLockModeCompliance, ObjectLockRetainUntilDate: aws.Time(time.Now().Add(time.Hour))}); err != nil {
			t.Fatal(err)
		}
	}
	s := b.deleting()
	mark := s.Mark(b.found(s, "in/a"))
	wantError(t, s.Tidy(t.Context(), mark, gantry.Done), gantry.Permanent, CodeLocked)
	s.now = func() time.Time { return time.Now().Add(2 * time.Hour) } // nobody looks before
	laid := false
	s.client = newClient(b.place(), signed{&faults{RoundTripper: b.egress.Transport(), before: func(r *http.Request) *http.Response {
		laid = laid || r.Method == http.MethodDelete && !r.URL.Query().Has("versionId")
		return nil
	}}})
	err := s.Tidy(t.Context(), mark, gantry.Done)
	if err == nil || gantry.KindOf(err).Retryable() || !laid {
		t.Errorf("the server let it go, or no marker was laid (%t): %v", laid, err)
	}
	b.holds("locked", "held", "in/a", "in/a")
}

// Where the server is away once the marker is laid, the next try finds the version under it.
func TestTidyUnderMarker(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	for name, get := range map[string]func(*bucket) *source{"delete": (*bucket).deleting, "move": (*bucket).moving} {
		b := newBucket(t, server).versioned()
		s := get(b)
		b.replaced()
		mark := s.Mark(b.found(s, "in/a"))
		tries := 0
		s.client = newClient(b.place(), signed{&faults{RoundTripper: b.egress.Transport(), before: func(r *http.Request) *http.Response {
			if r.Method != http.MethodDelete || !r.URL.Query().Has("versionId") {
				return nil
			}
			if tries++; tries > fewTries {
				return nil
			}
			return refusal(r, http.StatusServiceUnavailable, "SlowDown")
		}}})
		wantError(t, s.Tidy(t.Context(), mark, gantry.Done), gantry.Unavailable, CodeSlowDown)
		b.holds(name+" away", "", "in/a", "in/a", "in/a (marker)")
		if err := s.Tidy(t.Context(), mark, gantry.Done); err != nil {
			t.Error(err)
		}
		b.holds(name, "", "in/a", "in/a (marker)")
		wantError(t, s.Tidy(t.Context(), mark, gantry.Done), gantry.NotFound, gantry.CodeSourceGone)
	}
}
