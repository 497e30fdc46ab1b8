package s3

import (
	"bytes"
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// found gives the object that the source announces of a key.
func (b *bucket) found(s *source, key string) (o gantry.Object) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	defer cancel()
	err := s.Watch(ctx, func(_ context.Context, x gantry.Object) error {
		if x.Ref == key {
			o = x
			cancel()
		}
		return nil
	})
	if err != nil || o.Ref == "" {
		b.t.Fatal(err)
	}
	return o
}

func (b *bucket) tags(key string) map[string]string {
	b.t.Helper()
	out, err := b.GetObjectTagging(b.t.Context(), &sdk.GetObjectTaggingInput{Bucket: &b.name, Key: &key})
	if err != nil {
		b.t.Fatal(err)
	}
	all := map[string]string{}
	for _, x := range out.TagSet {
		all[aws.ToString(x.Key)] = aws.ToString(x.Value)
	}
	return all
}

func (b *bucket) tidying(set func(*SourceConfig)) *source {
	return b.source(func(c *SourceConfig) {
		c.Prefix, c.Exclude, c.FailedTo, c.AfterFailed = "in/", []string{"in/done/"}, "failed/", "move"
		set(c)
	})
}

const awkward = "in/DOE^JANE + ä%2F=?&#.dcm"

// TestTidy tags, moves and deletes at a real server, each twice, with and without versions.
func TestTidy(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	for name, b := range map[string]*bucket{"without versions": newBucket(t, server), "with versions": newBucket(t, server).versioned()} {
		put := func(key string) { // with what has to come along
			t.Helper()
			_, err := b.PutObject(t.Context(), &sdk.PutObjectInput{Bucket: &b.name, Key: &key, Body: strings.NewReader("bytes of " + key),
				Metadata: map[string]string{"from": "ct"}, Tagging: aws.String("ward=7"), ContentType: aws.String("application/dicom")})
			if err != nil {
				t.Fatal(err)
			}
		}
		for way, want := range map[string][]string{"tag": {awkward}, "move": {"in/done/" + strings.TrimPrefix(awkward, "in/")}, "delete": nil} {
			s := b.tidying(func(c *SourceConfig) {
				if c.After = way; way == "move" {
					c.MoveTo = "in/done/"
				}
			})
			put(awkward)
			mark := s.Mark(b.found(s, awkward))
			for range 2 {
				if err := s.Tidy(t.Context(), mark, gantry.Done, nothing); err != nil && gantry.CodeOf(err) != gantry.CodeSourceGone {
					t.Errorf("%s, %s: %v", name, way, err)
				}
			}
			got, err := b.list("")
			if keys := slices.Sorted(maps.Keys(got)); err != nil || !slices.Equal(keys, want) {
				t.Errorf("%s, %s: %q, %v", name, way, keys, err)
				continue
			}
			for _, key := range want {
				tags := b.tags(key)
				head, err := b.HeadObject(t.Context(), &sdk.HeadObjectInput{Bucket: &b.name, Key: &key})
				if err != nil || string(got[key]) != "bytes of "+awkward || tags["ward"] != "7" || head.Metadata["from"] != "ct" ||
					(way == "tag") != (tags["gantry"] == "done") {
					t.Errorf("%s, %s: %q %v %v, %v", name, way, got[key], tags, head, err)
				}
				if err := b.remove(key); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// What took the object's place meanwhile is left alone, also by way of a server that takes conditions for nothing.
func TestTidyLeavesNewer(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	for _, way := range []string{"tag", "delete"} {
		for _, b := range []*bucket{newBucket(t, server), newBucket(t, server).versioned()} {
			s := b.tidying(func(c *SourceConfig) { c.After = way })
			if err := b.put("in/a", []byte("first")); err != nil {
				t.Fatal(err)
			}
			mark := s.Mark(b.found(s, "in/a"))
			if err := b.put("in/a", []byte("newer")); err != nil {
				t.Fatal(err)
			}
			wantError(t, s.Tidy(t.Context(), mark, gantry.Done, nothing), gantry.NotFound, gantry.CodeSourceGone)
			plain := &unconditional{sign(t, drivertest.Egress(t).Transport(), server).Transport()}
			s.client = newClient(b.place(), signed{plain})
			wantError(t, s.Tidy(t.Context(), mark, gantry.Done, nothing), gantry.NotFound, gantry.CodeSourceGone)
			if got, _ := b.list("in/"); string(got["a"]) != "newer" || len(b.tags("in/a")) != 0 {
				t.Errorf("%s: the newer object was touched: %q", way, got)
			}
		}
	}
}

// unconditional takes If-Match away before a request is signed.
type unconditional struct{ http.RoundTripper }

// RoundTrip sends without the condition.
func (u *unconditional) RoundTrip(req *http.Request) (*http.Response, error) {
	req.Header.Del("If-Match")
	return u.RoundTripper.RoundTrip(req)
}

// A version that was read in place is what goes, though others lie above it.
func TestTidyVersion(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t)).versioned()
	s := b.tidying(func(c *SourceConfig) { c.After = "delete" })
	if err := b.put("in/a", []byte("first")); err != nil {
		t.Fatal(err)
	}
	place, err := s.Locate(t.Context(), b.found(s, "in/a"))
	if err != nil || place == "" {
		t.Fatal(place, err)
	}
	if err := b.put("in/a", []byte("newer")); err != nil {
		t.Fatal(err)
	}
	if err := s.Tidy(t.Context(), place, gantry.Done, nothing); err != nil {
		t.Fatal(err)
	}
	if got, _ := b.list("in/"); string(got["a"]) != "newer" || len(b.all()) != 1 {
		t.Errorf("%q, %q", got, b.all())
	}
	wantError(t, s.Tidy(t.Context(), place, gantry.Done, nothing), gantry.NotFound, gantry.CodeSourceGone)
}

// What lies where an object is to go is not replaced: the object goes beside it, and once, however often it is tried.
func TestMoveBeside(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	s := b.tidying(func(c *SourceConfig) { c.After, c.MoveTo = "move", "in/done/" })
	for _, body := range []string{"first", "other", "third"} {
		if err := b.put("in/a", []byte(body)); err != nil {
			t.Fatal(err)
		}
		o := b.found(s, "in/a")
		stuck := &faults{RoundTripper: b.egress.Transport(), before: func(r *http.Request) *http.Response {
			if r.Method == http.MethodDelete {
				return refusal(r, http.StatusServiceUnavailable, "SlowDown")
			}
			return nil
		}}
		half := b.tidying(func(c *SourceConfig) { c.After, c.MoveTo = "move", "in/done/" })
		half.client = newClient(b.place(), signed{stuck})
		wantError(t, half.Tidy(t.Context(), s.Mark(o), gantry.Done, nothing), gantry.Unavailable, CodeSlowDown)
		if err := s.Tidy(t.Context(), s.Mark(o), gantry.Done, nothing); err != nil {
			t.Fatal(err)
		}
	}
	got, err := b.list("in/")
	var bodies []string
	for key, body := range got {
		if key == "a" || key == "done/a" && string(body) != "first" {
			t.Errorf("%s is %q", key, body)
		}
		bodies = append(bodies, string(body))
	}
	if slices.Sort(bodies); err != nil || !slices.Equal(bodies, []string{"first", "other", "third"}) {
		t.Errorf("%q, %v", bodies, err)
	}
}

// A copy that is not what was copied costs the original nothing.
func TestMoveKeepsUntilCopied(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	s := b.tidying(func(c *SourceConfig) { c.After, c.MoveTo = "move", "done/" })
	if err := b.put("in/a", []byte("bytes")); err != nil {
		t.Fatal(err)
	}
	mark := s.Mark(b.found(s, "in/a"))
	f := &faults{RoundTripper: b.egress.Transport(), after: func(r *http.Response) {
		if r.Request.Method == http.MethodHead && strings.Contains(r.Request.URL.Path, "/done/") && r.StatusCode == http.StatusOK {
			r.Header.Set("Content-Length", "4")
		}
	}}
	s.client = newClient(b.place(), signed{f})
	err := s.Tidy(t.Context(), mark, gantry.Done, nothing)
	if err == nil || !gantry.KindOf(err).Retryable() {
		t.Errorf("a short copy: %v", err)
	}
	s.client = newClient(b.place(), b.egress)
	if got, _ := b.list("in/"); !bytes.Equal(got["a"], []byte("bytes")) {
		t.Error("the original is gone")
	}
}

// Credentials that may only read, and a bucket that holds its objects, say so; another try changes nothing.
func TestTidyRefused(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	b := newBucket(t, server)
	if err := b.put("in/a", []byte("bytes")); err != nil {
		t.Fatal(err)
	}
	reader := b.stranger("s3:GetObject", "s3:ListBucket", "s3:GetObjectTagging")
	for _, way := range []string{"tag", "move", "delete"} {
		s := b.tidying(func(c *SourceConfig) {
			if c.After = way; way == "move" {
				c.MoveTo = "done/"
			}
		})
		mark := s.Mark(b.found(s, "in/a"))
		s.client = newClient(b.place(), reader)
		wantError(t, s.Tidy(t.Context(), mark, gantry.Done, nothing), gantry.Denied, CodeAccessDenied)
	}
	expired := b.tidying(func(c *SourceConfig) { c.After = "delete" })
	mark := expired.Mark(b.found(expired, "in/a"))
	expired.client = newClient(b.place(), signed{&faults{before: func(r *http.Request) *http.Response { return refusal(r, 400, "ExpiredToken") }}})
	if err := expired.Tidy(t.Context(), mark, gantry.Done, nothing); !gantry.KindOf(err).Retryable() {
		t.Errorf("credentials that ran out are new some day: %v", err)
	}
	if got, _ := b.list(""); len(got) != 1 || len(b.tags("in/a")) != 0 {
		t.Errorf("%q", got)
	}
	full := b.tidying(func(c *SourceConfig) { c.After = "tag" })
	var tags []types.Tag
	for i := range maxTags {
		tags = append(tags, types.Tag{Key: aws.String(string(rune('a' + i))), Value: aws.String("x")})
	}
	if _, err := b.PutObjectTagging(t.Context(), &sdk.PutObjectTaggingInput{Bucket: &b.name, Key: aws.String("in/a"), Tagging: &types.Tagging{TagSet: tags}}); err != nil {
		t.Fatal(err)
	}
	wantError(t, full.Tidy(t.Context(), mark, gantry.Done, nothing), gantry.Permanent, CodeTooManyTags)
}

// An object under a legal hold or a retention stays, and so does the bucket as it is: no copy is made of it.
func TestTidyLocked(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	b := newBucket(t, server)
	locked := &bucket{Client: b.Client, t: t, server: server, egress: b.egress, name: b.name + "-lock"}
	if _, err := b.CreateBucket(t.Context(), &sdk.CreateBucketInput{Bucket: &locked.name, ObjectLockEnabledForBucket: aws.Bool(true)}); err != nil {
		t.Fatal(err)
	}
	for key, lock := range map[string]func(*sdk.PutObjectInput){
		"in/hold": func(in *sdk.PutObjectInput) { in.ObjectLockLegalHoldStatus = types.ObjectLockLegalHoldStatusOn },
		"in/term": func(in *sdk.PutObjectInput) {
			in.ObjectLockMode, in.ObjectLockRetainUntilDate = types.ObjectLockModeCompliance, aws.Time(time.Now().Add(time.Hour))
		},
	} {
		in := &sdk.PutObjectInput{Bucket: &locked.name, Key: &key, Body: strings.NewReader("bytes"), ChecksumAlgorithm: types.ChecksumAlgorithmSha256}
		lock(in)
		if _, err := b.PutObject(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		for _, way := range []string{"move", "delete"} {
			s := locked.tidying(func(c *SourceConfig) {
				if c.After = way; way == "move" {
					c.MoveTo = "done/"
				}
			})
			o := locked.found(s, key)
			wantError(t, s.Tidy(t.Context(), s.Mark(o), gantry.Done, nothing), gantry.Permanent, CodeLocked)
			s.now = func() time.Time { return time.Now().Add(2 * time.Hour) } // the control: nobody looks before
			err := s.Tidy(t.Context(), s.Mark(o), gantry.Done, nothing)
			if err == nil || gantry.KindOf(err).Retryable() {
				t.Errorf("%s %s: the server let it go: %v", way, key, err)
			}
		}
	}
	if got, err := locked.list("in/"); len(got) != 2 || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}
