package s3

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// seen makes a source with a way of its own to the bucket.
func (b *bucket) seen(egress gantry.Egress, set func(*SourceConfig)) *source {
	b.t.Helper()
	c := SourceConfig{Bucket: b.name, Prefix: "in/", Endpoint: b.server.Endpoint, PathStyle: true}
	if set != nil {
		set(&c)
	}
	s, err := NewSource(b.t.Context(), c, egress)
	if err != nil {
		b.t.Fatal(err)
	}
	return s.(*source)
}

// TestProbeSource looks at buckets of a real server, with and without versions, full and empty, and changes nothing.
func TestProbeSource(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	plain, versions := newBucket(t, server), newBucket(t, server).versioned()
	wantProbes(t, plain.seen(plain.egress, nil).Probe(t.Context()), "ok list", "ok versioning")
	for _, b := range []*bucket{plain, versions} {
		if err := b.put("in/DOE^JANE ü.dcm", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	never := func(c *SourceConfig) { c.Copy = copyNever }
	wantProbes(t, plain.seen(plain.egress, nil).Probe(t.Context()), "ok list", "ok read", "ok versioning")
	wantProbes(t, plain.seen(plain.egress, never).Probe(t.Context()), "ok list", "ok read", "doubt versioning")
	for _, set := range []func(*SourceConfig){nil, never, func(c *SourceConfig) { c.Copy = copyAlways }} {
		found := versions.seen(versions.egress, set).Probe(t.Context())
		wantProbes(t, found, "ok list", "ok read", "ok versioning")
		if !strings.Contains(found[2].Text, "keeps versions") {
			t.Errorf("%+v", found[2])
		}
	}
	wantProbes(t, plain.seen(plain.egress, func(c *SourceConfig) { c.Bucket = "nowhere-at-all" }).Probe(t.Context()), "bad list")
	if got := plain.all(); len(got) != 1 {
		t.Errorf("it left %d objects", len(got))
	}
}

// What the credentials may not do, and a server that is not well, is said, without a name of an object.
func TestProbeSourceRights(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	if err := b.put("in/DOE^JANE.dcm", []byte("x")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		may, want []string
		advice    string
	}{
		{[]string{"s3:GetObject"}, []string{"bad list"}, "s3:ListBucket"},
		{[]string{"s3:ListBucket"}, []string{"ok list", "bad read", "ok versioning"}, "s3:GetObject"},
		{[]string{"s3:ListBucket", "s3:GetObject"}, []string{"ok list", "ok read", "ok versioning"}, ""},
	} {
		found := b.seen(b.stranger(c.may...), nil).Probe(t.Context())
		wantProbes(t, found, c.want...)
		for _, p := range found {
			if strings.Contains(p.Text+p.Advice, "DOE^JANE") || strings.Contains(p.Text, "<") || p.Bad && !strings.Contains(p.Advice, c.advice) {
				t.Errorf("%+v", p)
			}
		}
	}
	ill := &faults{RoundTripper: b.egress.Transport(), after: func(r *http.Response) {
		if r.Request.URL.Query().Has("versioning") {
			r.StatusCode, r.Body = http.StatusServiceUnavailable, http.NoBody
		}
	}}
	wantProbes(t, b.seen(signed{ill}, nil).Probe(t.Context()), "ok list", "ok read", "doubt versioning")
}

// Where after takes objects away and versions are or were kept, or nobody says whether, they have to be listed.
func TestProbeFormers(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	plain, enabled, suspended := newBucket(t, server), newBucket(t, server).versioned(), newBucket(t, server).versioned()
	suspended.keepVersions(types.BucketVersioningStatusSuspended)
	moving := func(c *SourceConfig) { c.AfterFailed, c.FailedTo = "move", "failed/" }
	deleting := func(c *SourceConfig) { c.After = "delete" }
	tagging := func(c *SourceConfig) { c.After, c.AfterFailed = "tag", "tag" }
	listing := []string{"s3:ListBucket"}
	asking := append(listing, "s3:GetBucketVersioning")
	for _, c := range []struct {
		b    *bucket
		set  func(*SourceConfig)
		may  []string // nil: everything
		want []string
	}{
		{plain, deleting, nil, []string{"ok list", "ok versioning"}},
		{enabled, tagging, nil, []string{"ok list", "ok versioning"}},
		{enabled, deleting, nil, []string{"ok list", "ok versioning", "ok former versions"}},
		{suspended, moving, nil, []string{"ok list", "ok versioning", "ok former versions"}},
		{enabled, moving, asking, []string{"ok list", "ok versioning", "doubt former versions"}},
		{suspended, deleting, asking, []string{"ok list", "ok versioning", "doubt former versions"}},
		{plain, deleting, asking, []string{"ok list", "ok versioning"}},
		{plain, deleting, listing, []string{"ok list", "ok versioning", "doubt former versions"}},
		{plain, tagging, listing, []string{"ok list", "ok versioning"}},
	} {
		egress := c.b.egress
		if c.may != nil {
			egress = c.b.stranger(c.may...)
		}
		wantProbes(t, c.b.seen(egress, c.set).Probe(t.Context()), c.want...)
	}
}

// TestProbeQueue looks at queues of a real server and takes no message.
func TestProbeQueue(t *testing.T) {
	t.Parallel()
	b, queues := newBucket(t, s3test.Start(t)), s3test.StartQueues(t)
	l := newLine(t, queues)
	l.send("one", "two")
	look := func(settings map[string]string) []gantry.Probe {
		t.Helper()
		if len(settings) > 0 {
			if _, err := l.SetQueueAttributes(t.Context(), &sqs.SetQueueAttributesInput{QueueUrl: &l.url, Attributes: settings}); err != nil {
				t.Fatal(err)
			}
		}
		s, _ := b.queued(l, l.endpoint, nil)
		return s.Probe(t.Context())
	}
	found := look(map[string]string{"VisibilityTimeout": "60"})
	wantProbes(t, found, "ok list", "ok versioning", "ok queue", "ok visibility")
	if !strings.Contains(found[2].Text, "about 2 messages") || !strings.Contains(found[3].Text, "60 s") {
		t.Errorf("%+v", found)
	}
	wantProbes(t, look(map[string]string{"VisibilityTimeout": "5"}), "ok list", "ok versioning", "ok queue", "doubt visibility")
	if all, hidden := l.left(); all != "2" || hidden != "0" {
		t.Errorf("%s messages are left, %s of them hidden", all, hidden)
	}
	if _, err := l.DeleteQueue(t.Context(), &sqs.DeleteQueueInput{QueueUrl: &l.url}); err != nil {
		t.Fatal(err)
	}
	wantProbes(t, look(nil), "ok list", "ok versioning", "bad queue")
	refusing := drivertest.Egress(t)
	s := b.seen(ways{b.egress, signed{&faults{RoundTripper: refusing.Transport(), after: func(r *http.Response) { r.StatusCode = http.StatusForbidden }}}}, func(c *SourceConfig) {
		c.Discover, c.QueueURL, c.QueueEndpoint = []string{"sqs"}, l.url, l.endpoint
	})
	wantProbes(t, s.Probe(t.Context()), "ok list", "ok versioning", "doubt queue")
}

// TestProbeSettings says what is unwise about a queue, in whatever form servers give it.
func TestProbeSettings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		is   map[string]string
		want []string
	}{
		{nil, []string{"ok queue"}},
		{map[string]string{"VisibilityTimeout": "30", "MessageRetentionPeriod": "1209600", "DelaySeconds": "0", "RedrivePolicy": `{"maxReceiveCount":"50"}`}, []string{"ok queue", "ok visibility"}},
		{map[string]string{"MessageRetentionPeriod": "600", "DelaySeconds": "5", "RedrivePolicy": `{"deadLetterTargetArn":"a","maxReceiveCount":3}`},
			[]string{"ok queue", "doubt retention", "doubt delay", "doubt dead letters"}},
		{map[string]string{"RedrivePolicy": `{"maxReceiveCount":"9"}`}, []string{"ok queue", "doubt dead letters"}},
		{map[string]string{"VisibilityTimeout": "soon", "MessageRetentionPeriod": "-1", "RedrivePolicy": `{"maxReceiveCount":{}}`}, []string{"ok queue"}},
		{map[string]string{"RedrivePolicy": "[" + strings.Repeat(" ", maxPolicy)}, []string{"ok queue"}},
		{map[string]string{"RedrivePolicy": `{`}, []string{"ok queue"}},
	} {
		p := &sourceProbe{source: &source{hearing: &hearing{queue: &queue{hidden: 30 * time.Second}}}, ctx: t.Context()}
		p.settings(c.is)
		wantProbes(t, p.found, c.want...)
	}
}

// FuzzSettings reads a queue's settings as any server may give them.
func FuzzSettings(f *testing.F) {
	f.Add("30", "1209600", `{"deadLetterTargetArn":"a","maxReceiveCount":"3"}`)
	f.Add("-1", "99999999999999999999", `{"maxReceiveCount":[[]]}`)
	f.Fuzz(func(t *testing.T, hidden, kept, policy string) {
		p := &sourceProbe{source: &source{hearing: &hearing{queue: &queue{hidden: 30 * time.Second}}}, ctx: t.Context()}
		p.settings(map[string]string{"VisibilityTimeout": hidden, "MessageRetentionPeriod": kept, "DelaySeconds": kept, "ApproximateNumberOfMessages": hidden, "RedrivePolicy": policy})
		for _, x := range p.found {
			if x.Bad || len(x.Text)+len(x.Advice) > 400 {
				t.Errorf("%+v", x)
			}
		}
	})
}
