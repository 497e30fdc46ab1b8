package s3

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// versioned switches the bucket's versions on.
func (b *bucket) versioned() *bucket {
	b.t.Helper()
	b.keepVersions(types.BucketVersioningStatusEnabled)
	return b
}

// stranger gives a way to the bucket without credentials, which a policy allows some actions.
func (b *bucket) stranger(actions ...string) gantry.Egress {
	b.t.Helper()
	var list []string
	for _, a := range actions {
		list = append(list, fmt.Sprintf("%q", a))
	}
	policy := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":[%s],"Resource":["arn:aws:s3:::%s","arn:aws:s3:::%[2]s/*"]}]}`,
		strings.Join(list, ","), b.name)
	if _, err := b.PutBucketPolicy(b.t.Context(), &sdk.PutBucketPolicyInput{Bucket: &b.name, Policy: &policy}); err != nil {
		b.t.Fatal(err)
	}
	return drivertest.Egress(b.t)
}

// all lists every version and marker that the bucket holds.
func (b *bucket) all() (keys []string) {
	b.t.Helper()
	out, err := b.ListObjectVersions(b.t.Context(), &sdk.ListObjectVersionsInput{Bucket: &b.name})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, x := range out.Versions {
		keys = append(keys, aws.ToString(x.Key))
	}
	for _, x := range out.DeleteMarkers {
		keys = append(keys, aws.ToString(x.Key)+" (marker)")
	}
	return slices.DeleteFunc(keys, func(k string) bool { return strings.HasSuffix(k, "/") }) // folders of the gateway
}

func wantProbes(t *testing.T, found []gantry.Probe, want ...string) {
	t.Helper()
	var got []string
	for _, p := range found {
		mark := "ok"
		switch {
		case p.Bad:
			mark = "bad"
		case p.Advice != "":
			mark = "doubt"
		}
		got = append(got, mark+" "+p.Check)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q\n%+v", got, found)
	}
}

// TestProbe tries a real server out, with and without versions, and leaves nothing.
func TestProbe(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	for _, b := range []*bucket{newBucket(t, server), newBucket(t, server).versioned()} {
		s := b.sinkOf(b.egress, func(c *SinkConfig) { c.Tags = map[string]string{"gantry": "{task}"} })
		wantProbes(t, s.Probe(t.Context()), "ok write", "ok conditional puts", "ok read", "ok tags", "ok versioning", "ok delete")
		off := b.sinkOf(b.egress, func(c *SinkConfig) { c.Conditional = "off" })
		wantProbes(t, off.Probe(t.Context()), "ok write", "ok conditional puts", "ok read", "ok versioning", "ok delete")
		_, egress := liar(t, b)
		wantProbes(t, b.sink(egress).Probe(t.Context()), "ok write", "doubt conditional puts", "ok read", "ok versioning", "ok delete")
		l, egress := liar(t, b)
		l.refuse = http.StatusNotImplemented
		wantProbes(t, b.sink(egress).Probe(t.Context()), "doubt conditional puts", "ok write", "ok read", "ok versioning", "ok delete")
		if got := b.all(); len(got) != 0 {
			t.Errorf("left behind: %q", got)
		}
	}
}

// A server that says yes and does otherwise is told of.
func TestProbeOfBadServers(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	h := &headers{faults: faults{RoundTripper: b.egress.Transport()}} // drops what is asked for
	signer := sign(t, drivertest.Egress(t).Transport(), b.server)
	h.RoundTripper = signer.Transport()
	s := b.sinkOf(signed{h}, func(c *SinkConfig) { c.Encryption.Kind = "AES256" })
	wantProbes(t, s.Probe(t.Context()), "ok write", "ok conditional puts", "ok read", "bad encryption", "ok versioning", "ok delete")
	s = b.sinkOf(b.egress, func(c *SinkConfig) { c.Bucket = "nowhere-at-all" })
	wantProbes(t, s.Probe(t.Context()), "bad write")
	other := &faults{RoundTripper: b.egress.Transport(), after: func(r *http.Response) {
		if r.Request.Method == http.MethodGet && strings.Contains(r.Request.URL.Path, "probe-") {
			r.Body = http.NoBody
		}
	}}
	wantProbes(t, b.sink(signed{other}).Probe(t.Context()), "ok write", "ok conditional puts", "bad read", "ok versioning", "ok delete")
}

// What the credentials may not do is said, and only what deliveries need is a problem.
func TestProbeRights(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	for _, c := range []struct{ may, want []string }{
		{[]string{"s3:PutObject", "s3:GetObject", "s3:ListBucket"}, []string{"ok write", "ok conditional puts", "ok read", "ok versioning", "doubt delete"}},
		{[]string{"s3:PutObject"}, []string{"ok write", "ok conditional puts", "doubt read", "ok versioning", "doubt delete"}},
		{[]string{"s3:GetObject"}, []string{"bad write"}},
	} {
		found := b.sink(b.stranger(c.may...)).Probe(t.Context())
		wantProbes(t, found, c.want...)
		for _, p := range found {
			if strings.Contains(p.Text, "<") {
				t.Errorf("it quotes the server: %s", p.Text)
			}
		}
	}
}
