package s3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// The declared target is where the SDK, and what goes without it, really send to, with every way to name a bucket.
func TestTargetIsWhereRequestsGo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		place place
		key   string
		url   string
	}{
		{place{bucket: "scans"}, "https://scans.s3.us-east-1.amazonaws.com", "https://scans.s3.us-east-1.amazonaws.com/a%20b"},
		{place{bucket: "scans", region: "eu-central-1"}, "https://scans.s3.eu-central-1.amazonaws.com", "https://scans.s3.eu-central-1.amazonaws.com/a%20b"},
		{place{bucket: "scans", region: "cn-north-1"}, "https://scans.s3.cn-north-1.amazonaws.com.cn", "https://scans.s3.cn-north-1.amazonaws.com.cn/a%20b"},
		{place{bucket: "scans", pathStyle: true}, "https://s3.us-east-1.amazonaws.com/scans", "https://s3.us-east-1.amazonaws.com/scans/a%20b"},
		{place{bucket: "my.scans"}, "https://s3.us-east-1.amazonaws.com/my.scans", "https://s3.us-east-1.amazonaws.com/my.scans/a%20b"},
		{place{bucket: "scans", endpoint: "http://127.0.0.1:9000"}, "http://127.0.0.1:9000/scans", "http://127.0.0.1:9000/scans/a%20b"},
		{place{bucket: "scans", endpoint: "http://[::1]:9000/"}, "http://::1:9000/scans", "http://[::1]:9000/scans/a%20b"},
		{place{bucket: "scans", endpoint: "https://store.local"}, "https://scans.store.local", "https://scans.store.local/a%20b"},
		{place{bucket: "scans", endpoint: "https://store.local:8443", pathStyle: true}, "https://store.local:8443/scans", "https://store.local:8443/scans/a%20b"},
	} {
		var sent *http.Request
		client := newClient(c.place, signed{&faults{before: func(r *http.Request) *http.Response { sent = r; return refusal(r, 404, "NoSuchKey") }}})
		in := &sdk.GetObjectInput{Bucket: &c.place.bucket, Key: aws.String("a b")}
		for _, get := range []func(){func() { client.GetObject(t.Context(), in) }, func() { client.get(t.Context(), in) }} {
			sent = nil
			get()
			if len(c.place.check()) > 0 || sent == nil {
				t.Errorf("%+v: %v, sent %v", c.place, c.place.check(), sent)
				continue
			}
			target := c.place.target()
			sent.URL.RawQuery = ""
			if target.Key() != c.key || sent.URL.String() != c.url || sent.URL.Hostname() != target.Host || sent.URL.Port() != target.Port || sent.Header.Get("Authorization") != "" {
				t.Errorf("%+v: target %s, sent to %s", c.place, target.Key(), sent.URL)
			}
		}
	}
}

func keys(found []gantry.FieldProblem) string {
	var out []string
	for _, p := range found {
		out = append(out, p.Key)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestConfigsAreChecked(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]SourceConfig{
		"bucket":   {},
		"region":   {Bucket: "abc", Region: "eu central"},
		"endpoint": {Bucket: "abc", Endpoint: "s3.local:9000"},
		"exclude":  {Bucket: "abc", Exclude: []string{""}},
		"pattern":  {Bucket: "abc", Pattern: "a/*"},
		"poll":     {Bucket: "abc", Poll: -time.Second},
		"settle":   {Bucket: "abc", Settle: 48 * time.Hour},
		"prefix":   {Bucket: "abc", Prefix: strings.Repeat("x", maxKey+1)},
		"":         {Bucket: "abc", Prefix: "in/", Exclude: []string{"in/done/"}, Endpoint: "http://s3.local:9000/", Region: "eu-west-1"},
	} {
		if got := keys(c.Check()); got != want {
			t.Errorf("source: problems with %q, want %q", got, want)
		}
		if _, err := NewSource(t.Context(), c, signed{}); (err == nil) != (want == "") {
			t.Errorf("%s: %v", want, err)
		}
	}
	for _, endpoint := range []string{"ftp://x", "http://", "http://user@x", "http://x/path", "http://x?q", "http://x#f", "http://[x", "/x"} {
		if got := keys(SinkConfig{Bucket: "abc", Endpoint: endpoint}.Check()); got != "endpoint" {
			t.Errorf("endpoint %s: %q", endpoint, got)
		}
	}
	for _, bucket := range []string{"ab", "Abc", "a/b", "-abc", "arn:aws:s3:us-east-1:1:accesspoint/x", strings.Repeat("a", 64)} {
		if got := keys(SinkConfig{Bucket: bucket}.Check()); got != "bucket" {
			t.Errorf("bucket %s: %q", bucket, got)
		}
	}
	for _, prefix := range []string{"/out/", "out//", "../out/", "out/./x"} {
		if got := keys(SinkConfig{Bucket: "abc", Prefix: prefix}.Check()); got != "prefix" {
			t.Errorf("prefix %s: %q", prefix, got)
		}
	}
	if got := keys(SinkConfig{Bucket: "abc", Checksums: "md5"}.Check()); got != "checksums" {
		t.Errorf("checksums: %q", got)
	}
	if _, err := NewSink(t.Context(), SinkConfig{}, signed{}); gantry.KindOf(err) != gantry.Illegal {
		t.Errorf("an empty sink: %v", err)
	}
}

// Results that lie where a source looks would be inputs again.
func TestTakesOwnResults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from SourceConfig
		to   any
		want bool
	}{
		{SourceConfig{Bucket: "abc"}, &SinkConfig{Bucket: "abc", Prefix: "out/"}, true},
		{SourceConfig{Bucket: "abc", Prefix: "a/"}, &SinkConfig{Bucket: "abc", Prefix: "a/out/", Region: "us-east-1"}, true},
		{SourceConfig{Bucket: "abc", Exclude: []string{"out/a"}}, &SinkConfig{Bucket: "abc", Prefix: "out/"}, true},
		{SourceConfig{Bucket: "abc", Exclude: []string{"x", "out"}}, &SinkConfig{Bucket: "abc", Prefix: "out/"}, false},
		{SourceConfig{Bucket: "abc", Prefix: "in/"}, &SinkConfig{Bucket: "abc", Prefix: "out/"}, false},
		{SourceConfig{Bucket: "abc", Prefix: "in/"}, &SinkConfig{Bucket: "abc"}, false},
		{SourceConfig{Bucket: "abc"}, &SinkConfig{Bucket: "abd"}, false},
		{SourceConfig{Bucket: "abc"}, &SinkConfig{Bucket: "abc", Endpoint: "http://127.0.0.1:9000"}, false},
		{SourceConfig{Bucket: "abc", Pattern: "*.dcm"}, &SinkConfig{Bucket: "abc"}, true}, // 000001.dcm
		{SourceConfig{Bucket: "abc", Pattern: "[0-9]*"}, &SinkConfig{Bucket: "abc"}, true},
		{SourceConfig{Bucket: "abc", Pattern: "*.nii"}, &SinkConfig{Bucket: "abc"}, false},
		{SourceConfig{Bucket: "abc"}, nil, false},
		{SourceConfig{Bucket: "abc", PathStyle: true}, &SinkConfig{Bucket: "abc"}, true},
		{SourceConfig{Bucket: "abc", Region: "eu-west-1"}, &SinkConfig{Bucket: "abc", Endpoint: "https://s3.us-east-1.amazonaws.com"}, true},
		{SourceConfig{Bucket: "abc", Region: "cn-north-1"}, &SinkConfig{Bucket: "abc"}, false},
		{SourceConfig{Bucket: "abc", Region: "us-gov-west-1"}, &SinkConfig{Bucket: "abc"}, false},
		{SourceConfig{Bucket: "abc", Endpoint: "http://Store.local"}, &SinkConfig{Bucket: "abc", Endpoint: "http://store.local:80/", PathStyle: true}, true},
		{SourceConfig{Bucket: "abc", Endpoint: "http://store.local:81"}, &SinkConfig{Bucket: "abc", Endpoint: "http://store.local"}, false},
		{SourceConfig{Bucket: "abc", Endpoint: "http://store.local."}, &SinkConfig{Bucket: "abc", Endpoint: "http://store.local"}, true},
		{SourceConfig{Bucket: "abc", Endpoint: "http://127.0.0.1:9000"}, &SinkConfig{Bucket: "abc", Endpoint: "http://localhost:9000"}, true},
		{SourceConfig{Bucket: "abc", Endpoint: "http://127.0.1.1:9000"}, &SinkConfig{Bucket: "abc", Endpoint: "http://[::1]:9000"}, true},
		{SourceConfig{Bucket: "abc", Endpoint: "http://LocalHost.:9000"}, &SinkConfig{Bucket: "abc", Endpoint: "http://[::ffff:127.0.0.1]:9000"}, true},
		{SourceConfig{Bucket: "abc", Endpoint: "http://127.0.0.1:9000"}, &SinkConfig{Bucket: "abc", Endpoint: "http://localhost:9001"}, false},
		{SourceConfig{Bucket: "abc", Endpoint: "http://127.0.0.1:9000"}, &SinkConfig{Bucket: "abc", Endpoint: "http://10.0.0.1:9000"}, false},
		{SourceConfig{Bucket: "abc", Prefix: "out/a"}, &SinkConfig{Bucket: "abc", Prefix: "out/"}, true}, // ids that begin with a
		{SourceConfig{Bucket: "abc", Prefix: "out/in/"}, &SinkConfig{Bucket: "abc", Prefix: "out/"}, false},
		{SourceConfig{Bucket: "abc", Prefix: "in"}, &SinkConfig{Bucket: "abc"}, true},
		{SourceConfig{Bucket: "abc", Prefix: "in", Exclude: []string{"i"}}, &SinkConfig{Bucket: "abc"}, false},
	} {
		if got := gantry.TakesResults(c.from, c.to, ""); got != c.want {
			t.Errorf("%+v takes %+v: %t", c.from, c.to, got)
		}
	}
}

// What is on record of a place is the same in every version, however the bucket is addressed.
func TestPlaceOnRecord(t *testing.T) {
	t.Parallel()
	for want, list := range map[string][]SourceConfig{
		"s3 aws/abc": {{Bucket: "abc"}, {Bucket: "abc", Region: "eu-west-1", Prefix: "in/", PathStyle: true}, {Bucket: "abc", Endpoint: "https://s3.dualstack.eu-west-1.amazonaws.com"},
			{Bucket: "abc", Endpoint: "https://bucket.vpce-1a2b-3c4d.s3.us-east-1.vpce.amazonaws.com"}, {Bucket: "abc", Endpoint: "https://s3-accelerate.dualstack.amazonaws.com"},
			{Bucket: "abc", Endpoint: "https://s3-eu-west-1.amazonaws.com"}, {Bucket: "abc", Endpoint: "https://S3.Amazonaws.com.:443"}},
		"s3 ec2-192-0-2-1.eu-west-1.compute.amazonaws.com:9000/abc": {{Bucket: "abc", Endpoint: "http://ec2-192-0-2-1.eu-west-1.compute.amazonaws.com:9000"}}, // a server of one's own
		"s3 s3-gateway-123.us-east-1.elb.amazonaws.com:443/abc":     {{Bucket: "abc", Endpoint: "https://s3-gateway-123.us-east-1.elb.amazonaws.com"}},
		"s3 gateway-123.elb.cn-north-1.amazonaws.com.cn:443/abc":    {{Bucket: "abc", Endpoint: "https://gateway-123.elb.cn-north-1.amazonaws.com.cn"}},
		"s3 aws/abd":                 {{Bucket: "abd"}},
		"s3 aws-cn/abc":              {{Bucket: "abc", Region: "cn-north-1"}, {Bucket: "abc", Endpoint: "https://s3.dualstack.cn-northwest-1.amazonaws.com.cn"}},
		"s3 aws-us-gov/abc":          {{Bucket: "abc", Region: "us-gov-west-1"}, {Bucket: "abc", Endpoint: "https://s3-fips.us-gov-east-1.amazonaws.com"}},
		"s3 store.local:80/abc":      {{Bucket: "abc", Endpoint: "http://store.local"}, {Bucket: "abc", Endpoint: "http://Store.local.:80/", PathStyle: true, Region: "eu-west-1"}},
		"s3 store.local:443/abc":     {{Bucket: "abc", Endpoint: "https://store.local"}},
		"s3 store.local:9000/abc":    {{Bucket: "abc", Endpoint: "https://store.local:9000"}, {Bucket: "abc", Endpoint: "http://store.local:9000"}},
		"s3 localhost:9000/abc":      {{Bucket: "abc", Endpoint: "http://127.0.0.1:9000"}, {Bucket: "abc", Endpoint: "http://localhost:9000"}, {Bucket: "abc", Endpoint: "http://[::1]:9000"}},
		"s3 [2001:db8::1]:9000/abc":  {{Bucket: "abc", Endpoint: "http://[2001:DB8::1]:9000"}},
		"s3 localhost:9001/abc.d-ef": {{Bucket: "abc.d-ef", Endpoint: "http://127.0.0.1:9001"}},
	} {
		for _, c := range list {
			if got := c.Place(); got != want {
				t.Errorf("%+v: %s, want %s", c, got, want)
			}
		}
	}
}

func TestKeysThatCannotBe(t *testing.T) {
	t.Parallel()
	refuse := signed{&faults{before: func(r *http.Request) *http.Response { t.Error("it was sent"); return refusal(r, 500, "") }}}
	src, err := NewSource(t.Context(), SourceConfig{Bucket: "abc"}, refuse)
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"", strings.Repeat("k", maxKey+1)} {
		_, err := src.Open(t.Context(), ref)
		wantError(t, err, gantry.Illegal, CodeBadPath)
	}
	snk, err := NewSink(t.Context(), SinkConfig{Bucket: "abc"}, refuse)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, snk.Deliver(t.Context(), delivery(strings.Repeat("k", maxKey+1), []byte("x"))), gantry.Permanent, CodeNameTooLong)
}

// A piece is what it was measured to be, or it does not end.
func TestBodyHoldsBack(t *testing.T) {
	t.Parallel()
	content := []byte("0123456789")
	whole, pieces, err := measure(t.Context(), bytes.NewReader(content), 4)
	if err != nil || whole.size != 10 || len(pieces) != 3 || pieces[2].size != 2 {
		t.Fatalf("%+v %+v %v", whole, pieces, err)
	}
	r := bytes.NewReader(content)
	for i, p := range pieces {
		if got, err := io.ReadAll(newBody(t.Context(), r, p, i == 2)); err != nil || int64(len(got)) != p.size {
			t.Errorf("piece %d: %q, %v", i, got, err)
		}
	}
	for name, sent := range map[string]string{"fewer": "012345678", "more": "0123456789x", "other": "012345678X"} {
		got, err := io.ReadAll(newBody(t.Context(), strings.NewReader(sent), whole, true))
		if err == nil || gantry.KindOf(err) != gantry.Transient || len(got) > 9 {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	b := newBody(t.Context(), bytes.NewReader(content), whole, true)
	b.stop()
	if _, err := b.Read(make([]byte, 1)); err != io.ErrClosedPipe {
		t.Errorf("after stop: %v", err)
	}
	empty, pieces, err := measure(t.Context(), strings.NewReader(""), 4)
	if err != nil || empty.size != 0 || len(pieces) != 1 {
		t.Errorf("nothing: %+v %+v %v", empty, pieces, err)
	}
}

// FuzzListing gives the answer to a listing: whatever it is, Watch ends or announces what could be
// there, and says nothing that it read.
func FuzzListing(f *testing.F) {
	f.Add([]byte(`<ListBucketResult><Name>b</Name><EncodingType>url</EncodingType><Contents><Key>a%20b</Key><Size>1</Size><ETag>"e"</ETag><LastModified>2026-01-01T00:00:00Z</LastModified></Contents></ListBucketResult>`))
	f.Add([]byte(`<ListBucketResult><Name>b</Name><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken></ListBucketResult>`))
	f.Add([]byte(`<Error><Code>SlowDown</Code></Error>`))
	f.Add([]byte("<a><b></a>"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		rt := &faults{before: func(r *http.Request) *http.Response {
			return &http.Response{StatusCode: 200, Header: http.Header{}, Request: r, ContentLength: int64(len(answer)), Body: io.NopCloser(bytes.NewReader(answer))}
		}}
		s, err := NewSource(t.Context(), SourceConfig{Bucket: "bucket", Endpoint: "http://s3.test", PathStyle: true}, signed{rt})
		if err != nil {
			t.Fatal(err)
		}
		w := newWatcher(s.(*source), newMemory(), func(_ context.Context, o gantry.Object) error {
			if o.Ref == "" || len(o.Ref) > maxKey || o.Size < 0 || strings.HasSuffix(o.Ref, "/") {
				t.Errorf("announced %+v", o)
			}
			return nil
		})
		if err := w.look(t.Context()); err != nil {
			if _, own := errors.AsType[*gantry.Error](err); !own {
				t.Errorf("%v has no kind", err)
			}
		}
	})
}
