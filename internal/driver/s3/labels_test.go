package s3

import (
	"bytes"
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

const testTask = "abcdefghijklmnopqrstuvwxyz"

// output is a delivery with all that is known of it.
func output(below string, leg, number int16, body []byte) gantry.Delivery {
	d := delivery("", body)
	d.About = gantry.About{Pipeline: "echo", Task: testTask, Created: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), Leg: leg, Delivery: number,
		Source: func(context.Context) (string, error) { return "inbox", nil }, Stage: "find", Processor: "finder",
		Call: testTask + "/0/find/finder/1/0", Below: below}
	if d.Manifest = below == gantry.ManifestName; d.Manifest {
		d.About.Stage, d.About.Processor, d.About.Call = "", "", ""
	}
	d.Path = d.About.Path()
	return d
}

func (b *bucket) sinkOf(egress gantry.Egress, set func(*SinkConfig)) *sink {
	b.t.Helper()
	c := SinkConfig{Bucket: b.name, Prefix: "out/", Endpoint: b.server.Endpoint, PathStyle: true}
	set(&c)
	s, err := NewSink(b.t.Context(), c, egress)
	if err != nil {
		b.t.Fatal(err)
	}
	return s.(*sink)
}

// A redrive lays its results beside those of before, and each manifest is at the top of what it names.
func TestKeysOfDeliveries(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	for key, want := range map[string][]string{
		"": {testTask + "/find/000001.json", testTask + "/" + gantry.ManifestName, testTask + "/leg1/r1/find/000001.json", testTask + "/leg1/r1/" + gantry.ManifestName},
		"{pipeline}/{date}/{task}/v{delivery}/{path}": {"echo/2026-03-01/" + testTask + "/v0/find/000001.json", "echo/2026-03-01/" + testTask + "/v0/" + gantry.ManifestName,
			"echo/2026-03-01/" + testTask + "/v1/leg1/find/000001.json", "echo/2026-03-01/" + testTask + "/v1/leg1/" + gantry.ManifestName},
	} {
		s := b.sinkOf(b.egress, func(c *SinkConfig) { c.Key, c.Prefix = key, "at"+key[:min(1, len(key))]+"/" })
		for n := range int16(2) {
			for _, below := range []string{"find/000001.json", gantry.ManifestName} {
				for range 2 { // the second changes nothing
					if err := s.Deliver(t.Context(), output(below, n, n, []byte{'0' + byte(n)})); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		got, err := b.list(s.prefix)
		if err != nil || !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(slices.Values(want))) {
			t.Errorf("%q: %v, %v", key, slices.Sorted(maps.Keys(got)), err)
		}
		if string(got[want[0]]) != "0" || string(got[want[2]]) != "1" {
			t.Errorf("%q: deliveries are mixed up", key)
		}
	}
}

// Metadata and tags lie at the objects of a real server, small and in pieces; what has no value is left out.
func TestLabelsLie(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	s := b.sinkOf(b.egress, func(c *SinkConfig) {
		c.Metadata = map[string]string{"gantry-task": "{task}", "gantry-call": "{call}", "by": "{processor} of {pipeline}"}
		c.Tags = map[string]string{"Gantry Stage": "{stage}", "when": "{date} + {leg}"}
	})
	s.piece = 5 << 20
	for below, body := range map[string][]byte{"find/000001.json": []byte("{}"), "find/000002.dcm": bytes.Repeat([]byte("0123456789abcdef"), 11<<16),
		gantry.ManifestName: []byte("{}")} {
		out := output(below, 0, 0, body)
		if err := s.Deliver(t.Context(), out); err != nil {
			t.Fatal(err)
		}
		key := aws.String("out/" + out.Path)
		head, err := b.HeadObject(t.Context(), &sdk.HeadObjectInput{Bucket: &b.name, Key: key})
		if err != nil {
			t.Fatal(err)
		}
		tags, err := b.GetObjectTagging(t.Context(), &sdk.GetObjectTaggingInput{Bucket: &b.name, Key: key})
		if err != nil {
			t.Fatal(err)
		}
		meta, labels := map[string]string{ownSum: out.SHA.String(), "gantry-task": testTask, "gantry-call": out.About.Call, "by": "finder of echo"}, map[string]string{"when": "2026-03-01 + 0", "Gantry Stage": "find"}
		if out.Manifest {
			delete(meta, "gantry-call")
			delete(labels, "Gantry Stage")
			meta["by"] = "of echo" // a header has no space before it
		}
		got := map[string]string{}
		for _, x := range tags.TagSet {
			got[aws.ToString(x.Key)] = aws.ToString(x.Value)
		}
		if !maps.Equal(head.Metadata, meta) || !maps.Equal(got, labels) || aws.ToString(head.ContentType) != gantry.MediaDICOM {
			t.Errorf("%s: %v, %v, %s", below, head.Metadata, got, aws.ToString(head.ContentType))
		}
	}
}

// headers keeps the headers of requests that begin an object.
type headers struct {
	faults
	mu  sync.Mutex
	got []http.Header
}

// RoundTrip answers as a server would that takes everything.
func (h *headers) RoundTrip(req *http.Request) (*http.Response, error) {
	begins := req.Method == http.MethodPut && !req.URL.Query().Has("partNumber") || req.Method == http.MethodPost && req.URL.Query().Has("uploads")
	if begins {
		h.mu.Lock()
		h.got = append(h.got, req.Header.Clone())
		h.mu.Unlock()
	}
	for name := range req.Header { // the gateway of the tests knows none of these
		if strings.HasPrefix(strings.ToLower(name), "x-amz-server-side") || name == "X-Amz-Storage-Class" || name == "X-Amz-Acl" {
			req.Header.Del(name)
		}
	}
	return h.faults.RoundTrip(req)
}

// What the server is to do with an object is asked of it in whole puts and uploads alike.
func TestKeepingIsAsked(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	signer := sign(t, drivertest.Egress(t).Transport(), b.server)
	h := &headers{faults: faults{RoundTripper: signer.Transport()}}
	s := b.sinkOf(signed{h}, func(c *SinkConfig) {
		c.StorageClass, c.ACL = "STANDARD_IA", "bucket-owner-full-control"
		c.Encryption = Encryption{Kind: "aws:kms", KeyID: "alias/results", BucketKey: true}
	})
	s.piece = 5 << 20
	for below, body := range map[string][]byte{"a": []byte("small"), "b": bytes.Repeat([]byte("0123456789abcdef"), 11<<16)} {
		if err := s.Deliver(t.Context(), output(below, 0, 0, body)); err != nil {
			t.Fatal(err)
		}
	}
	if len(h.got) != 2 {
		t.Fatalf("%d objects began", len(h.got))
	}
	for _, x := range h.got {
		for name, want := range map[string]string{"X-Amz-Storage-Class": "STANDARD_IA", "X-Amz-Acl": "bucket-owner-full-control", "X-Amz-Server-Side-Encryption": "aws:kms",
			"X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": "alias/results", "X-Amz-Server-Side-Encryption-Bucket-Key-Enabled": "true"} {
			if x.Get(name) != want {
				t.Errorf("%s is %q", name, x.Get(name))
			}
		}
	}
}

func TestSinkConfigLabels(t *testing.T) {
	t.Parallel()
	many := map[string]string{}
	for i := range maxTags + 1 {
		many[strings.Repeat("t", i+1)] = ""
	}
	for name, c := range map[string]struct {
		set  func(*SinkConfig)
		key  string
		text string
	}{
		"a key without task":    {func(c *SinkConfig) { c.Key = "{date}/{path}" }, "key", "{task} is missing"},
		"a name of a patient":   {func(c *SinkConfig) { c.Key = "{PatientName}/{task}/{path}" }, "key", "is no variable"},
		"metadata of a tag":     {func(c *SinkConfig) { c.Metadata = map[string]string{"a": "{dicom.PatientID}"} }, "metadata", "is no variable"},
		"a name with a capital": {func(c *SinkConfig) { c.Metadata = map[string]string{"A": ""} }, "metadata", "no name"},
		"our own name":          {func(c *SinkConfig) { c.Metadata = map[string]string{ownSum: ""} }, "metadata", "no name"},
		"no ASCII":              {func(c *SinkConfig) { c.Metadata = map[string]string{"a": "ä"} }, "metadata", "ASCII"},
		"too much":              {func(c *SinkConfig) { c.Metadata = map[string]string{"a": strings.Repeat("x", 1900), "b": "{call}"} }, "metadata", "2048 at most"},
		"too many tags":         {func(c *SinkConfig) { c.Tags = many }, "tags", "10 at most"},
		"a tag of AWS":          {func(c *SinkConfig) { c.Tags = map[string]string{"AWS:x": ""} }, "tags", "no name of a tag"},
		"a long tag":            {func(c *SinkConfig) { c.Tags = map[string]string{"x": "{path}{call}"} }, "tags", "256 at most"},
		"a strange tag":         {func(c *SinkConfig) { c.Tags = map[string]string{"x": "a;b"} }, "tags", "only letters"},
		"a class":               {func(c *SinkConfig) { c.StorageClass = "cold" }, "storage_class", "no name of a class"},
		"a key id without kind": {func(c *SinkConfig) { c.Encryption.KeyID = "k" }, "encryption", "go with kind"},
		"a key id for AES256":   {func(c *SinkConfig) { c.Encryption = Encryption{Kind: "AES256", KeyID: "k"} }, "encryption", "go with kind"},
		"a bucket key for dsse": {func(c *SinkConfig) { c.Encryption = Encryption{Kind: "aws:kms:dsse", BucketKey: true} }, "encryption", "does not go with"},
		"a key id with a break": {func(c *SinkConfig) { c.Encryption = Encryption{Kind: "aws:kms", KeyID: "a\nb"} }, "encryption", "no id"},
		"nothing wrong at all": {func(c *SinkConfig) {
			c.Tags = map[string]string{"x": "{task} of {pipeline}"}
			c.Encryption.Kind = "AES256"
		}, "", ""},
		"variables in brackets}": {func(c *SinkConfig) { c.Tags = map[string]string{"x": "}"} }, "tags", "closes nothing"},
	} {
		conf := SinkConfig{Bucket: "results"}
		c.set(&conf)
		found := conf.Check()
		if c.key == "" && len(found) == 0 {
			continue
		}
		if len(found) != 1 || found[0].Key != c.key || !strings.Contains(found[0].Text, c.text) {
			t.Errorf("%s: %v", name, found)
		}
	}
}

// A template whose variables may lead below the source's prefix is refused, as a prefix that does.
func TestTakesByTemplate(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]bool{"{task}/{path}": false, "{pipeline}/{task}/{path}": true, "{date}/{task}/{path}": false, "drop/{task}/{path}": true,
		"drop-{pipeline}/{task}/{path}": false} {
		src := SourceConfig{Bucket: "b-1", Prefix: "drop/"}
		if got := gantry.TakesResults(src, &SinkConfig{Bucket: "b-1", Key: key}, ""); got != want {
			t.Errorf("%s: %v", key, got)
		}
	}
}
