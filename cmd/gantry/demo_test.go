package main

import (
	"archive/zip"
	"bytes"
	"encoding/xml"
	"image"
	_ "image/png"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
	"github.com/gantry-imaging/gantry/internal/sample"
)

// TestDemo runs the whole demonstration and follows every link of its page.
func TestDemo(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("GANTRY_VERSITYGW", s3test.Binary(t))
	code, out, errs := typed(t, "--home", filepath.Join(dir, "home"), "--database-url", postgrestest.DSN(t), "demo", "-o", filepath.Join(dir, "files"))
	if code != exitOK || errs != "" {
		t.Fatalf("%d\n%s%s", code, out, errs)
	}
	for _, want := range []string{"pipeline first-light", "pipeline cumulative", "pipeline fanout", "queued ", " > enhance ", " > mask ", " > models ",
		"pipeline multiframe", "pipeline video", "pipeline bucket",
		"9 tasks, 148 calls of models", filepath.Join(dir, "files", "index.html")} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	page, err := os.ReadFile(filepath.Join(dir, "files", "index.html"))
	if err != nil {
		t.Fatal(err)
	}
	links, pictures := followed(t, filepath.Join(dir, "files"), page)
	// Of each of the 41 images one picture was made. The other 47 of 88 answers are data, and each task
	// has a manifest. Of each of the two loops six frames are shown before and after, and the one result has a link. Two pictures stand for each pipeline.
	if pictures != 41+41+2*12+6*2 || links != 41+47+7+2*2 {
		t.Errorf("%d pictures and %d links", pictures, links)
	}
	for _, want := range []string{"took 101 images through 6 pipelines", "from bucket to bucket", "frame by frame", "30 frames in one file, application/dicom", "30 frames in one file, video/x-matroska", "score 0.408", "12 images, masks cover ", "200 ok", "mask covers "} {
		if !strings.Contains(string(page), want) {
			t.Errorf("no %q on the page", want)
		}
	}
	for _, never := range []string{"Phantom^", "PHANTOM", "2.25.", "<script", "http:", "https:", "//", dir, "ZgotmplZ"} {
		if strings.Contains(string(page), never) {
			t.Errorf("%q is on the page", never)
		}
	}
}

// followed reads a page as XML, so that every element must be closed, and opens what its links and
// pictures name, which must lie below the page.
func followed(t *testing.T, dir string, page []byte) (links, pictures int) {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(page))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	for {
		token, err := d.Token()
		if err == io.EOF {
			return links, pictures
		}
		if err != nil {
			t.Fatal(err)
		}
		e, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		for _, a := range e.Attr {
			if a.Name.Local != "href" && a.Name.Local != "src" {
				continue
			}
			if id, ok := strings.CutPrefix(a.Value, "#"); ok {
				if !bytes.Contains(page, []byte(` id="`+id+`"`)) {
					t.Errorf("a link to %s, which is not on the page", a.Value)
				}
				continue
			}
			u, err := url.Parse(a.Value)
			if err != nil || u.IsAbs() || u.Host != "" || !filepath.IsLocal(u.Path) {
				t.Errorf("a link to %s", a.Value)
				continue
			}
			f, err := os.Open(filepath.Join(dir, filepath.FromSlash(u.Path)))
			if err != nil {
				t.Error(err)
				continue
			}
			if e.Name.Local == "img" {
				pictures++
				if _, _, err := image.DecodeConfig(f); err != nil {
					t.Errorf("%s: %v", a.Value, err)
				}
				if !slices.ContainsFunc(e.Attr, func(a xml.Attr) bool { return a.Name.Local == "alt" && a.Value != "" }) {
					t.Errorf("%s has no words beside it", a.Value)
				}
			} else {
				links++
			}
			f.Close()
		}
	}
}

// TestDraw draws what can be drawn, once, and leaves out what cannot.
func TestDraw(t *testing.T) {
	t.Parallel()
	files, err := sample.CT(1, 64)
	if err != nil {
		t.Fatal(err)
	}
	d := &demo{page: filepath.Join(t.TempDir(), "index.html")}
	sha := strings.Repeat("ab", 32)
	name, err := d.draw(sha, files[0], "input")
	if err != nil || name != "thumbs/abababababababab.png" {
		t.Fatalf("%s, %v", name, err)
	}
	if again, err := d.draw(sha, nil, "input"); err != nil || again != name { // it is there
		t.Errorf("%s, %v", again, err)
	}
	other := strings.Repeat("cd", 32)
	for what, in := range map[string][]byte{"a loop": sample.Ultrasound(2, 16, 12), "text": []byte("none")} {
		if name, err := d.draw(other, in, "input"); err != nil || name != "" {
			t.Errorf("%s: %q, %v", what, name, err)
		}
	}
	if name, err := d.draw(other, files[0], "input#1"); err != nil || name != "" {
		t.Errorf("a frame: %q, %v", name, err)
	}
	d.page = filepath.Join(d.page, "x") // no folder can be made there
	if err := os.WriteFile(filepath.Dir(d.page), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.draw(other, files[0], "input"); err == nil {
		t.Error("below a file")
	}
}

// TestPageOfFailure shows why a task failed, as text.
func TestPageOfFailure(t *testing.T) {
	t.Parallel()
	p := &demoPage{Left: []string{"video: <u> is not there"}, Acts: []pageAct{{Name: "x", Tasks: []pageTask{{ID: "a", Input: "<b>.zip", State: "failed", Why: "malformed: <i>",
		Calls: []postgres.CallRow{{Stage: "quality", Outcome: "failed", Status: 422, DurationMS: 1.25, RequestBytes: 3 << 20, RequestSHA256: "abc"}}}}}}}
	path := filepath.Join(t.TempDir(), "index.html")
	if err := p.write(path); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"&lt;b&gt;.zip", "malformed: &lt;i&gt;", `class="no">422 failed`, "Left out on this machine", "video: &lt;u&gt; is not there", "3.0 MiB", ">abc<"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %q on the page", want)
		}
	}
	if err := p.write(filepath.Dir(path)); err == nil {
		t.Error("over a folder")
	}
}

// TestWay counts tries of a state as one and names stages.
func TestWay(t *testing.T) {
	t.Parallel()
	at := time.Unix(1000, 0)
	event := func(ms int, from, change string) postgres.EventRow {
		return postgres.EventRow{At: at.Add(time.Duration(ms) * time.Millisecond), From: from, Change: change}
	}
	p := &gantry.Pipeline{Stages: []gantry.Stage{{Name: "one"}, {Name: "two"}}}
	got := wayOf(p, postgres.TaskRow{CreatedAt: at}, []postgres.EventRow{event(5, "queued", "advance"), event(9, "inferring", "retry"),
		event(20, "inferring", "park"), event(25, "inferring", "advance"), event(40, "inferring", "advance"), event(41, "responding", "end")})
	ms := time.Millisecond
	want := []step{{"queued", "queued", 5 * ms}, {"one", "inferring", 20 * ms}, {"two", "inferring", 15 * ms}, {"responding", "responding", ms}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestLeaf finds files of archives within archives.
func TestLeaf(t *testing.T) {
	t.Parallel()
	pack := func(bodies ...[]byte) []byte {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		for _, x := range bodies {
			w, err := z.Create("a")
			if err != nil {
				t.Fatal(err)
			}
			w.Write(x)
		}
		z.Close()
		return b.Bytes()
	}
	in := pack([]byte("one"), pack([]byte("two"), []byte("three")))
	for path, want := range map[string]string{"input": string(in), "input#0": "one", "input#1#1": "three"} {
		if got, err := leaf(in, path); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	for _, path := range []string{"input#2", "input#-1", "input#x", "input#0#0"} {
		if _, err := leaf(in, path); err == nil {
			t.Errorf("%s was found", path)
		}
	}
}

func TestSays(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"score": 0.25}`: "score 0.250", `{"images": 1, "masks": 1, "mask_percent": 12.5}`: "report: mask covers 12.5 %",
		`{"images": 3, "masks": 3, "mask_percent": 7, "mean_score": 0.5}`: "3 images, masks cover 7.0 %, mean score 0.500",
		`{"x": 1}`: "data", "no JSON": "data",
	} {
		path := filepath.Join(t.TempDir(), "x.json")
		if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := says(path); got != want {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
	if got := []string{humanBytes(5), humanBytes(1536), humanBytes(3 << 20), count(1, "image"), count(0, "image")}; cmp.Diff([]string{"5 B", "1.5 KiB", "3.0 MiB", "1 image", "0 images"}, got) != "" {
		t.Error(got)
	}
}
