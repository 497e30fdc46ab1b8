package blob

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestParsePlace holds addresses of stores to their form.
func TestParsePlace(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Place{
		"s3://gantry":          {Bucket: "gantry"},
		"s3://gantry/":         {Bucket: "gantry"},
		"s3://gantry/prod/one": {Bucket: "gantry", Prefix: "prod/one"},
	} {
		if got, err := ParsePlace(text); got != want || err != nil {
			t.Errorf("%s is %+v: %v", text, got, err)
		}
	}
	for _, text := range []string{"", "/srv/blobs", "s3:/gantry", "s3://", "s3://UP", "s3://gantry/a//b", "s3://gantry/../x", "s3://gantry/a b", "s3://gantry//", "s3://user:pass@host/x"} {
		if got, err := ParsePlace(text); err == nil {
			t.Errorf("%q is %+v", text, got)
		}
	}
}

func FuzzParsePlace(f *testing.F) {
	f.Add("s3://gantry/prod")
	f.Add("s3://a.b.c/../..")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePlace(text)
		if err == nil && (p.Check() != nil || strings.Contains(p.Prefix, "..//") || strings.HasPrefix(p.Prefix, "/") || strings.HasSuffix(p.Prefix, "/") || p.Target().Key() == "") {
			t.Errorf("%q is %+v", text, p)
		}
	})
}

// FuzzJudge holds what a server says of a range to what was asked for.
func FuzzJudge(f *testing.F) {
	f.Add("bytes 0-1048575/3145728", "tag", int64(1<<20))
	f.Add("bytes 0-9/10", "tag", int64(10))
	f.Add("bytes */10", "", int64(-1))
	f.Add("bytes 0-9/-1", "tag", int64(0))
	f.Fuzz(func(t *testing.T, head, tag string, length int64) {
		o := &object{size: -1}
		if err := o.judge(&sdk.GetObjectOutput{ContentRange: &head, ETag: &tag, ContentLength: &length}, 0, blockSize); err != nil {
			if o.size >= 0 || gantry.KindOf(err) != gantry.BadResponse {
				t.Errorf("refused with %v, and the size is %d", err, o.size)
			}
			return
		}
		if want := min(o.size, blockSize); o.size <= 0 || length != want || !strings.HasPrefix(head, fmt.Sprintf("bytes 0-%d/", want-1)) || aws.ToString(o.etag) != tag {
			t.Errorf("took %q, %d bytes, for a range of a blob of %d", head, length, o.size)
		}
	})
}

// TestObjectsPages lists more than a page, and nothing that only looks like a blob.
func TestObjectsPages(t *testing.T) {
	t.Parallel()
	p := newPail(t, s3test.Start(t))
	b := p.open()
	want := map[string]bool{}
	for i := range 7 {
		want[keep(t, b, body(20_000, uint64(i)))] = true
	}
	for _, name := range []string{"x", "ab/" + strings.Repeat("z", 62), "abc/" + strings.Repeat("0", 61), "AB/" + strings.Repeat("0", 62)} {
		p.put("one/store/sha256/"+name, []byte("foreign"))
	}
	got := map[string]bool{}
	err := b.Objects(t.Context(), func(page []gantry.KeptBlob) error {
		for _, x := range page {
			got[x.Location] = true
			if x.Size != 20_000 || time.Since(x.At) > time.Hour || location.String(location{sha: x.SHA}) != x.Location {
				t.Errorf("listed %+v", x)
			}
		}
		return nil
	})
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("listed %v, want %v: %v", got, want, err)
	}
	if err := b.Remove(t.Context(), "sha/"+strings.Repeat("ab", 32)); err != nil {
		t.Errorf("remove what is not there: %v", err)
	}
	wantErr(t, b.Remove(t.Context(), "seg/1/1/4096/10"), gantry.Illegal, gantry.CodeMalformed)
}
