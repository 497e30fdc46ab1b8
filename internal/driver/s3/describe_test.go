package s3

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// tell counts requests, and answers some itself.
func tell(heads, tags, gets *atomic.Int32, instead func(*http.Request) *http.Response) *faults {
	return &faults{before: func(r *http.Request) *http.Response {
		switch {
		case r.Method == http.MethodHead:
			heads.Add(1)
		case r.URL.Query().Has("tagging"):
			tags.Add(1)
		case r.Method == http.MethodGet:
			gets.Add(1)
		}
		if instead != nil {
			return instead(r)
		}
		return nil
	}}
}

// A source says what a real server knows of an object, and asks no more than it was asked.
func TestDescribe(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	body := bytes.Repeat([]byte("0123456789"), 20_000)
	key := "in/DOE^JANE.dcm"
	if _, err := b.PutObject(t.Context(), &sdk.PutObjectInput{Bucket: &b.name, Key: &key, Body: bytes.NewReader(body), ContentType: aws.String("application/dicom"),
		Metadata: map[string]string{"Ward": "7 b"}, Tagging: aws.String("site=north&x-y=z")}); err != nil {
		t.Fatal(err)
	}
	head, err := b.HeadObject(t.Context(), &sdk.HeadObjectInput{Bucket: &b.name, Key: &key})
	if err != nil {
		t.Fatal(err)
	}
	o := gantry.Object{Ref: key, Version: strings.Trim(aws.ToString(head.ETag), `"`), Size: int64(len(body))}
	for _, c := range []struct {
		want              gantry.Facts
		heads, tags, gets int32
	}{{0, 0, 0, 0}, {gantry.FactHead, 1, 0, 0}, {gantry.FactTags, 0, 1, 0}, {gantry.FactHead | gantry.FactTags, 1, 1, 0}} {
		var heads, tags, gets atomic.Int32
		d, err := b.over("auto", tell(&heads, &tags, &gets, nil)).Describe(t.Context(), o, c.want)
		if err != nil {
			t.Fatal(err)
		}
		if heads.Load() != c.heads || tags.Load() != c.tags || gets.Load() != c.gets {
			t.Errorf("%02b: %d HEAD, %d of tags, %d GET", c.want, heads.Load(), tags.Load(), gets.Load())
		}
		if c.want.Has(gantry.FactHead) != (d.ContentType == "application/dicom" && d.Metadata["ward"] == "7 b") ||
			c.want.Has(gantry.FactTags) != (len(d.Tags) == 2 && d.Tags["site"] == "north" && d.Tags["x-y"] == "z") {
			t.Errorf("%02b: %+v", c.want, d)
		}
	}
	src := b.over("auto", &faults{})
	for _, c := range []struct{ from, n int64 }{{0, 10}, {5, 64 << 10}, {int64(len(body)) - 1, 1}} {
		r, err := src.Peek(t.Context(), o, c.from, c.n)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if r.Close(); err != nil || !bytes.Equal(got, body[c.from:c.from+c.n]) {
			t.Errorf("from %d: %d bytes, %v", c.from, len(got), err)
		}
	}
	for _, c := range []struct{ from, n int64 }{{-1, 2}, {0, 0}, {1, o.Size}} {
		_, err := src.Peek(t.Context(), o, c.from, c.n)
		wantError(t, err, gantry.Illegal, CodeBadPath)
	}
	if err := b.put(key, []byte("another took its place")); err != nil {
		t.Fatal(err)
	}
	_, err = src.Describe(t.Context(), o, gantry.FactHead)
	wantError(t, err, gantry.NotFound, gantry.CodeSourceGone)
	_, err = src.Peek(t.Context(), o, 0, 10)
	wantError(t, err, gantry.NotFound, gantry.CodeSourceGone)
	o.Ref = "in/none"
	_, err = src.Describe(t.Context(), o, gantry.FactTags)
	wantError(t, err, gantry.NotFound, gantry.CodeSourceGone)
}

// What asking again would not change is told from what somebody or time mends.
func TestDescribeRefused(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	o := b.announced("in/a.dcm", []byte("abc"))
	for _, c := range []struct {
		status int
		answer string
		kind   gantry.Kind
		code   gantry.Code
	}{
		{403, "AccessDenied", gantry.Permanent, CodeTagsDenied}, {403, "ExpiredToken", gantry.Unavailable, CodeExpired}, {403, "RequestTimeTooSkewed", gantry.Denied, CodeClockSkew},
		{401, "AccessDenied", gantry.Denied, CodeAccessDenied}, {501, "NotImplemented", gantry.Permanent, CodeNotImplemented},
		{503, "SlowDown", gantry.Unavailable, CodeSlowDown}, {500, "InternalError", gantry.Transient, CodeServerError},
	} {
		var heads, tags, gets atomic.Int32
		src := b.over("auto", tell(&heads, &tags, &gets, func(r *http.Request) *http.Response { return refusal(r, c.status, c.answer) }))
		_, err := src.Describe(t.Context(), o, gantry.FactTags)
		wantError(t, err, c.kind, c.code)
		if tags.Load() != 1 {
			t.Errorf("%s: asked %d times", c.answer, tags.Load())
		}
	}
	var heads, tags, gets atomic.Int32
	src := b.over("auto", tell(&heads, &tags, &gets, func(r *http.Request) *http.Response { return refusal(r, 403, "") }))
	_, err := src.Describe(t.Context(), o, gantry.FactHead)
	wantError(t, err, gantry.Denied, CodeAccessDenied) // a HEAD has no body that says more
	for _, ref := range []string{"", "\xff", strings.Repeat("k", maxKey+1)} {
		_, err := src.Describe(t.Context(), gantry.Object{Ref: ref}, gantry.FactHead)
		wantError(t, err, gantry.Illegal, CodeBadPath)
	}
	huge := b.over("auto", tell(&heads, &tags, &gets, func(r *http.Request) *http.Response {
		x := refusal(r, 200, "")
		x.Body = io.NopCloser(io.MultiReader(strings.NewReader("<Tagging><TagSet>"), endless{}))
		x.ContentLength = -1
		return x
	}))
	_, err = huge.Describe(t.Context(), o, gantry.FactTags)
	wantError(t, err, gantry.BadResponse, gantry.CodeTooLarge)
}

// endless is an answer without end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}
