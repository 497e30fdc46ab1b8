package s3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// way is the SDK's, or the one without it.
type way struct {
	get func(context.Context, *client, *sdk.GetObjectInput) (*sdk.GetObjectOutput, error)
	put func(context.Context, *client, *sdk.PutObjectInput, gantry.Digest) error
}

var (
	withSDK = way{
		func(ctx context.Context, c *client, in *sdk.GetObjectInput) (*sdk.GetObjectOutput, error) {
			return c.GetObject(ctx, in)
		},
		func(ctx context.Context, c *client, in *sdk.PutObjectInput, sum gantry.Digest) error {
			_, err := c.PutObject(ctx, in, signedBody(sum))
			return err
		},
	}
	direct = way{
		func(ctx context.Context, c *client, in *sdk.GetObjectInput) (*sdk.GetObjectOutput, error) {
			return c.get(ctx, in)
		},
		func(ctx context.Context, c *client, in *sdk.PutObjectInput, sum gantry.Digest) error {
			return c.put(ctx, in, sum)
		},
	}
)

// request is what matters of one.
type request struct {
	method, url, body string
	size              int64
	header            http.Header
}

// shown gives what a request says, without what only the SDK says of itself.
func shown(r *http.Request) request {
	x := request{method: r.Method, size: r.ContentLength, header: r.Header.Clone()}
	u, q := *r.URL, r.URL.Query()
	q.Del("x-id")
	u.RawQuery = q.Encode()
	x.url = u.String()
	maps.DeleteFunc(x.header, func(name string, _ []string) bool {
		return strings.HasPrefix(name, "Amz-Sdk-") || name == "Content-Length" || name == "User-Agent" || name == "X-Amz-User-Agent"
	})
	if x.method == http.MethodGet {
		x.header.Del("X-Amz-Content-Sha256") // of nothing; who signs sets one
		x.header.Del("X-Amz-Checksum-Mode")
	}
	if r.Body != nil {
		b, _ := io.ReadAll(r.Body)
		x.body = string(b)
	}
	return x
}

// answer is what a server says.
func answer(r *http.Request, code int, body string, header ...string) *http.Response {
	resp := &http.Response{StatusCode: code, Header: http.Header{"Content-Length": {strconv.Itoa(len(body))}}, Request: r, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body))}
	for i := 0; i < len(header); i += 2 {
		resp.Header.Set(header[i], header[i+1])
	}
	return resp
}

// What is sent without the SDK is what it would send.
func TestSentAsBySDK(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", continueAbove+1)
	var gets []*sdk.GetObjectInput
	for _, key := range []string{"a", "in/a b+c%2F.zip", "Ä/ß~_-.!*'()", "a//b/", "/a", "x?y=z&#", "tab\t\x01", "a:b@c;=,$"} {
		gets = append(gets, &sdk.GetObjectInput{Key: &key})
	}
	gets = append(gets, &sdk.GetObjectInput{Key: aws.String("k"), IfMatch: aws.String(`"e"`), Range: aws.String("bytes=3-")},
		&sdk.GetObjectInput{Key: aws.String("k"), VersionId: aws.String("a b/+=")})
	puts := []*sdk.PutObjectInput{
		{Key: aws.String("out/é/1.json"), Body: strings.NewReader("{}"), ContentLength: aws.Int64(2), ContentType: aws.String("application/json"), IfNoneMatch: aws.String("*"),
			ChecksumSHA256: aws.String("c3Vt"), Metadata: map[string]string{ownSum: "abc", "stage": "find"}},
		{Key: aws.String("k"), Body: strings.NewReader(""), ContentLength: aws.Int64(0), ContentType: aws.String("text/plain")},
		{Key: aws.String("k"), Body: strings.NewReader(long), ContentLength: aws.Int64(int64(len(long))), ContentType: aws.String("image/png")},
		{Key: aws.String("k"), Body: strings.NewReader("b"), ContentLength: aws.Int64(1), ContentType: aws.String("image/png"), Tagging: aws.String("a=b&c=d"), StorageClass: types.StorageClassStandardIa,
			ACL: types.ObjectCannedACLPrivate, ServerSideEncryption: types.ServerSideEncryptionAwsKms, SSEKMSKeyId: aws.String("alias/k"), BucketKeyEnabled: aws.Bool(true)},
	}
	for _, p := range []place{{bucket: "scans", endpoint: "http://s3.test", pathStyle: true}, {bucket: "scans"}} {
		var sent request
		c := newClient(p, signed{&faults{before: func(r *http.Request) *http.Response { sent = shown(r); return answer(r, 200, "") }}})
		compare := func(f func(way) error) {
			t.Helper()
			var both [2]request
			for i, w := range []way{withSDK, direct} {
				if err := f(w); err != nil {
					t.Fatal(err)
				}
				both[i] = sent
			}
			if d := cmp.Diff(both[0], both[1], cmp.AllowUnexported(request{})); d != "" {
				t.Errorf("with the SDK, and without: %s", d)
			}
		}
		for _, in := range gets {
			in.Bucket = &p.bucket
			compare(func(w way) error { _, err := w.get(t.Context(), c, in); return err })
		}
		for _, in := range puts {
			in.Bucket = &p.bucket
			compare(func(w way) error {
				in.Body.(io.Seeker).Seek(0, io.SeekStart)
				return w.put(t.Context(), c, in, gantry.Digest{1, 2, 3})
			})
		}
	}
}

// What comes back is read as the SDK reads it: the object, and what each error means.
func TestAnswersReadAsBySDK(t *testing.T) {
	t.Parallel()
	xml := func(code string) string {
		return `<?xml version="1.0" encoding="UTF-8"?><Error><Code>` + code + `</Code><Message>no</Message></Error>`
	}
	type said struct {
		kind           gantry.Kind
		code           gantry.Code
		status         int
		body, etag, in string
		size           int64
		pause          int64
	}
	for name, x := range map[string]struct {
		code   int
		body   string
		header []string
	}{
		"object": {200, "bytes", []string{"ETag", `"e"`}}, "range": {206, "yte", []string{"ETag", `"e"`, "Content-Range", "bytes 1-3/5"}}, "no etag": {200, "", nil},
		"gone": {404, xml("NoSuchKey"), nil}, "no bucket": {404, xml("NoSuchBucket"), nil}, "silent": {404, "", nil}, "condition": {412, xml("PreconditionFailed"), nil},
		"slow": {503, xml("SlowDown"), []string{"Retry-After", "7"}}, "expired": {400, xml("ExpiredToken"), nil}, "denied": {403, xml("AccessDenied"), nil}, "page": {502, "<html><body>bad gateway<br></body>", nil},
		"text": {500, "no", nil}, "other root": {400, "<X><Code>SlowDown</Code></X>", nil}, "not implemented": {501, xml("NotImplemented"), nil}, "skewed": {403, xml("RequestTimeTooSkewed"), nil},
		"cut": {500, "<Error><Code>Sl", nil}, "too large": {400, xml("EntityTooLarge"), nil}, "conflict": {409, xml("ConditionalRequestConflict"), nil},
	} {
		c := newClient(place{bucket: "scans"}, signed{&faults{before: func(r *http.Request) *http.Response { return answer(r, x.code, x.body, x.header...) }}})
		look := func(w way) (got said) {
			out, err := w.get(t.Context(), c, &sdk.GetObjectInput{Bucket: aws.String("scans"), Key: aws.String("k")})
			if err != nil {
				got.status, err = status(err), classify(t.Context(), "read", err)
				got.kind, got.code, got.pause = gantry.KindOf(err), gantry.CodeOf(err), int64(gantry.RetryAfterOf(err))
				return got
			}
			b, _ := io.ReadAll(out.Body)
			return said{body: string(b), etag: aws.ToString(out.ETag), in: aws.ToString(out.ContentRange), size: aws.ToInt64(out.ContentLength)}
		}
		if a, b := look(withSDK), look(direct); a != b {
			t.Errorf("get, %s: with the SDK %+v, without %+v", name, a, b)
		}
		store := func(w way) (kind gantry.Kind, code gantry.Code) {
			err := w.put(t.Context(), c, &sdk.PutObjectInput{Bucket: aws.String("scans"), Key: aws.String("k"), Body: strings.NewReader("b"), ContentLength: aws.Int64(1)}, gantry.Digest{1})
			if err == nil {
				return 0, "stored"
			}
			err = classify(t.Context(), "put", err)
			return gantry.KindOf(err), gantry.CodeOf(err)
		}
		bodies := []string{x.body}
		if x.code < 300 { // an error may come after the status
			bodies = []string{"", xml("SlowDown"), xml("Whatever"), "<Error/>", "<Result><Code>SlowDown</Code></Result>", "no"}
		}
		for _, x.body = range bodies {
			ka, ca := store(withSDK)
			if kb, cb := store(direct); ka != kb || ca != cb {
				t.Errorf("put, %s, %q: with the SDK %v %s, without %v %s", name, x.body, ka, ca, kb, cb)
			}
		}
	}
}

// closed tells whether an answer was read to its end and closed, without which its connection is lost.
type closed struct {
	io.Reader
	ended, closed bool
}

func (c *closed) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.ended = c.ended || err == io.EOF
	return n, err
}

func (c *closed) Close() error { c.closed = true; return nil }

func TestAnswersAreReadToTheirEnd(t *testing.T) {
	t.Parallel()
	for _, code := range []int{200, 404, 500} {
		for _, body := range []string{"", "<Error><Code>NoSuchKey</Code></Error>   \n", "<a/>tail", strings.Repeat("no", 1000)} {
			b := &closed{Reader: strings.NewReader(body)}
			c := newClient(place{bucket: "scans"}, signed{&faults{before: func(r *http.Request) *http.Response {
				return &http.Response{StatusCode: code, Header: http.Header{}, Request: r, ContentLength: -1, Body: b}
			}}})
			c.put(t.Context(), &sdk.PutObjectInput{Key: aws.String("k"), Body: strings.NewReader("b"), ContentLength: aws.Int64(1)}, gantry.Digest{})
			if !b.ended || !b.closed {
				t.Errorf("%d %q: ended %t, closed %t", code, body, b.ended, b.closed)
			}
		}
	}
}

// An answer to a put that has no end is given up.
func TestEndlessAnswerToPut(t *testing.T) {
	t.Parallel()
	for _, head := range []string{"", "<Error>", "<Error><Code>"} {
		c := newClient(place{bucket: "scans"}, signed{&faults{before: func(r *http.Request) *http.Response {
			return &http.Response{StatusCode: 500, Header: http.Header{}, Request: r, ContentLength: -1, Body: io.NopCloser(io.MultiReader(strings.NewReader(head), spaces{}))}
		}}})
		err := c.put(t.Context(), &sdk.PutObjectInput{Key: aws.String("k"), Body: strings.NewReader("b"), ContentLength: aws.Int64(1)}, gantry.Digest{})
		wantError(t, classify(t.Context(), "put", err), gantry.BadResponse, gantry.CodeTooLarge)
	}
}

type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// FuzzAnswer gives the answer to a put: whatever it is, the error has a kind and says nothing that was read.
func FuzzAnswer(f *testing.F) {
	f.Add(200, []byte{})
	f.Add(200, []byte(`<Error><Code>InternalError</Code></Error>`))
	f.Add(503, []byte(`<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>secret</Message></Error>`))
	f.Add(412, []byte("<a><b></a>"))
	f.Fuzz(func(t *testing.T, code int, body []byte) {
		if code < 200 || code > 599 {
			return
		}
		var resp *http.Response
		c := newClient(place{bucket: "scans"}, signed{&faults{before: func(r *http.Request) *http.Response { resp = answer(r, code, string(body)); return resp }}})
		err := c.put(t.Context(), &sdk.PutObjectInput{Key: aws.String("k"), Body: strings.NewReader("b"), ContentLength: aws.Int64(1)}, gantry.Digest{})
		if err == nil {
			if code >= 300 {
				t.Errorf("status %d is success", code)
			}
			return
		}
		own := classify(t.Context(), "put", err)
		if _, ok := errors.AsType[*gantry.Error](own); !ok {
			t.Errorf("%v has no kind", own)
		}
		words := bytes.FieldsFunc(body, func(r rune) bool { return r == '<' || r == '>' })
		if slices.ContainsFunc(words, func(w []byte) bool { return len(w) > 20 && strings.Contains(own.Error(), string(w)) }) {
			t.Errorf("%v quotes the answer", own)
		}
	})
}
