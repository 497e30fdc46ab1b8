package app_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/models"
	"github.com/gantry-imaging/gantry/internal/pipeline"
	"github.com/gantry-imaging/gantry/internal/sample"
)

// TestSeriesByPrefix runs the pipeline that ships: slices of two series come into a bucket in one mixture, a note among them and one
// slice missing, and each folder leads to one result in the other bucket, whose keys name nobody.
func TestSeriesByPrefix(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(models.Handler(models.Options{}))
	t.Cleanup(s.Close)
	env := map[string]string{}
	r := newRig(t, env)
	d := newDepot(t, env, false)
	env["S3_ACCESS_KEY"], env["S3_SECRET_KEY"] = env["ID"], env["SECRET"]
	if _, err := d.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("outbox")}); err != nil {
		t.Fatal(err)
	}
	src, err := os.ReadFile("../../pipelines/series-by-prefix.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("http://127.0.0.1:8095", s.URL, "http://127.0.0.1:7070", d.front, "demo-in", "inbox", "demo-out", "outbox",
		"quiet: 10s", "quiet: 400ms", "poll: 1s", "poll: 100ms").Replace(string(src))
	p, err := pipeline.Parse("series-by-prefix.yaml", []byte(text), all.Drivers(), r.Lookup)
	if err != nil {
		t.Fatal(err)
	}
	first, err1 := sample.CT(12, 32)
	second, err2 := sample.CT(8, 32)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	second = slices.Delete(second, 3, 4)
	d.put("series/DOE^JANE/_complete", []byte("x")) // the server mixes up what comes when
	for i := range first {
		d.put(fmt.Sprintf("series/DOE^JANE/%02d.dcm", i), first[i])
		if i < len(second) {
			d.put(fmt.Sprintf("series/ROE^JOHN/ct/%02d", i), second[i])
		}
	}
	d.put("series/ROE^JOHN/ct/notes.txt", []byte("the patient moved"))
	d.put("series/ROE^JOHN/ct/_complete", []byte("x"))
	r.serveUntilDone(p, 2)
	list, err := d.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("outbox")})
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	seen := map[int]models.Volume{}
	for _, o := range list.Contents {
		_, path, _ := strings.Cut(strings.TrimPrefix(*o.Key, "results/"), "/")
		if kinds = append(kinds, path); strings.Contains(*o.Key, "OE^") {
			t.Errorf("a key names somebody")
		}
		if path != "volume/task.json" {
			continue
		}
		got, err := d.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("outbox"), Key: o.Key})
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(got.Body)
		got.Body.Close()
		var v models.Volume
		if err != nil || json.Unmarshal(b, &v) != nil {
			t.Fatalf("%s: %v", b, err)
		}
		seen[v.Slices] = v
	}
	if want := "_manifest.json _manifest.json volume/task-2.png volume/task-2.png volume/task.json volume/task.json"; strings.Join(sorted(kinds), " ") != want {
		t.Errorf("delivered %v", kinds)
	}
	whole, gap := seen[12].Geometry, seen[7].Geometry
	if !whole.Regular || whole.Extent != 55 || gap.Regular || len(gap.Gaps) != 1 || gap.Gaps[0] != (models.Gap{After: 3, Missing: 1}) {
		t.Errorf("%+v", seen)
	}
	for _, x := range r.tasks() {
		if x.State != "done" || x.Originals != 12 && x.Originals != 8 {
			t.Errorf("%+v", x)
		}
	}
}
