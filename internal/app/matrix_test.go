package app_test

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/sample"
)

// matrix asks three stages about each leaf: two pictures are drawn of it, a note is written on both, and the last
// stage, of any mode, looks at what comes to it.
func matrix(url, mode, each string) string {
	call, more := "a", ""
	if mode == "fanout" {
		call, more = "[b, a]", `
  b: {kind: http, url: "`+url+`/look", body: zip, limits: {concurrency: 8}}`
	}
	return head("matrix") + `
extract: {frames: png, window: stored}
stages:
  - {name: two, call: two}
  - {name: note, call: note}
  - {name: look, mode: ` + mode + `, each: ` + each + strings.Repeat(", max: 2", btoi(each == "batch")) + `, call: ` + call + `}
processors:
  two: {kind: http, url: "` + url + `/two", body: zip, limits: {concurrency: 8}}
  note: {kind: http, url: "` + url + `/note", body: zip, limits: {concurrency: 8}}
  a: {kind: http, url: "` + url + `/look", body: zip, limits: {concurrency: 8}}` + more + "\n"
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// drawn is one of the two pictures of a leaf.
func drawn(leaf []byte, n byte) []byte { return noise(20, sha256.Sum256(append([]byte{n}, leaf...))) }

// noted is what is said of items.
func noted(items [][]byte) []byte {
	var of []string
	for _, x := range items {
		of = append(of, digest(x))
	}
	b, err := json.Marshal(map[string]any{"of": of})
	if err != nil {
		panic(err) // strings
	}
	return b
}

// matrixService is the service of the matrix: it knows its requests by their bytes alone.
func matrixService(t *testing.T) *service {
	return serve(t, func(w http.ResponseWriter, r *http.Request, body []byte, _ int) {
		items, _ := entriesOf(t, body)
		if r.URL.Path != "/two" {
			w.Header().Set("Content-Type", gantry.MediaJSON)
			w.Write(noted(items))
			return
		}
		m := multipart.NewWriter(w)
		w.Header().Set("Content-Type", "multipart/mixed; boundary="+m.Boundary())
		for n := range byte(2) {
			p, err := m.CreatePart(textproto.MIMEHeader{"Content-Type": {gantry.MediaPNG}})
			if err == nil {
				_, err = p.Write(drawn(items[0], n))
			}
			if err != nil {
				t.Error(err)
			}
		}
		m.Close()
	})
}

// entriesOf gives the entries of a zip and their names.
func entriesOf(t *testing.T, b []byte) (items [][]byte, names []string) {
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Error(err)
		return nil, nil
	}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Error(err)
			return nil, nil
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Error(err)
		}
		items, names = append(items, body), append(names, f.Name)
	}
	return items, names
}

// exchange is a call of the last stage, worked out from the rules alone.
type exchange struct {
	about string // in the manifest
	items [][]byte
}

// exchanges are the calls of one processor of the last stage, by ordinal.
func exchanges(leaves [][]byte, paths []string, mode, each string) (out []exchange) {
	pictures := func(leaf []byte) [][]byte { return [][]byte{drawn(leaf, 0), drawn(leaf, 1)} }
	reads := func(leaves ...[]byte) (items [][]byte) {
		var notes [][]byte
		if mode == "cumulative" {
			items = append(items, leaves...) // first the originals, then what each stage made
		}
		for _, leaf := range leaves {
			items = append(items, pictures(leaf)...)
			notes = append(notes, noted(pictures(leaf)))
		}
		if mode == "cumulative" {
			items = append(items, notes...)
		}
		return items
	}
	switch each {
	case "task":
		return []exchange{{"input", reads(leaves...)}}
	case "batch":
		for i := 0; i < len(leaves); i += 2 {
			out = append(out, exchange{paths[i], reads(leaves[i:min(i+2, len(leaves))]...)})
		}
		return out
	}
	for i, leaf := range leaves {
		items := reads(leaf)
		if each == "part" {
			out = append(out, exchange{paths[i], items})
			continue
		}
		for _, x := range items {
			out = append(out, exchange{paths[i], [][]byte{x}})
		}
	}
	return out
}

// kinds gives the names that items have in a zip.
func kinds(items [][]byte) (names []string) {
	for i, x := range items {
		suffix := ".json"
		if bytes.HasPrefix(x, []byte("\x89PNG")) {
			suffix = ".png"
		}
		names = append(names, fmt.Sprintf("%06d%s", i+1, suffix))
	}
	return names
}

// TestModeMatrix sends an archive within an archive, with pictures and a file of frames, through each mode with each
// grain: every request holds the bytes that the rules say, in their order, under the key of its place, and the manifest
// lists the answers by origin and processor.
func TestModeMatrix(t *testing.T) {
	t.Parallel()
	s := matrixService(t)
	r := newRig(t, nil)
	a, b, c := noise(30, [32]byte{3}), noise(31, [32]byte{1}), noise(32, [32]byte{2})
	loop := sample.Ultrasound(2, 16, 16)
	in := file(t, "study.zip", packed(t, entry{name: "z.png", body: a}, entry{name: "in.zip", body: packed(t, entry{name: "y.png", body: b},
		entry{name: "m.dcm", body: loop})}, entry{name: "b.png", body: c}))
	frames := rendered(t, loop)
	leaves := [][]byte{a, b, frames[0], frames[1], c}
	paths := []string{"input#0", "input#1#0", "input#1#1#0", "input#1#1#1", "input#2"}
	for _, mode := range []string{"sequential", "cumulative", "fanout"} {
		for _, each := range []string{"part", "item", "batch", "task"} {
			t.Run(mode+" "+each, func(t *testing.T) {
				o := r.one(matrix(s.URL, mode, each), in)
				mustBeDone(t, o)
				holdMatrix(t, r, s, o.ID, exchanges(leaves, paths, mode, each), map[bool][]string{true: {"b", "a"}, false: {"a"}}[mode == "fanout"])
			})
		}
	}
}

// holdMatrix compares requests and manifest of a task with the calls that were to be made of some processors.
func holdMatrix(t *testing.T, r *rig, s *service, id string, want []exchange, processors []string) {
	t.Helper()
	requests := map[string]seen{}
	for _, x := range s.all() {
		if strings.HasPrefix(x.key, id+"/0/look/") {
			requests[x.key] = x
		}
	}
	if len(requests) != len(want)*len(processors) {
		t.Errorf("%d requests, want %d of each of %v", len(requests), len(want), processors)
	}
	answers := map[string][]string{} // by what they are about and processor
	for i, x := range want {
		for _, p := range processors {
			answers[x.about+" "+p] = append(answers[x.about+" "+p], digest(noted(x.items)))
			items, names := entriesOf(t, requests[fmt.Sprintf("%s/0/look/%s/%d/0", id, p, i)].body)
			if diff := cmp.Diff(string(noted(x.items)), string(noted(items))); diff != "" {
				t.Errorf("call %d of %s (-want +got):\n%s", i, p, diff)
			}
			if diff := cmp.Diff(kinds(x.items), names); diff != "" {
				t.Errorf("call %d of %s (-want +got):\n%s", i, p, diff)
			}
		}
	}
	var should, are []string
	last := ""
	for _, x := range want {
		if x.about == last {
			continue
		}
		last = x.about
		for _, p := range processors {
			for _, sum := range answers[x.about+" "+p] {
				should = append(should, x.about+" "+p+" "+sum)
			}
		}
	}
	m, _ := manifestOf(t, r.out, id)
	for _, x := range m.Outputs {
		if x.Stage == "look" {
			are = append(are, x.Parent+" "+x.Processor+" "+x.SHA256)
		}
	}
	if diff := cmp.Diff(should, are); diff != "" {
		t.Errorf("answers in the manifest (-want +got):\n%s", diff)
	}
}

// rendered gives each frame of a file of grey pictures as the PNG that is made of it: one of the pixels at its end.
func rendered(t *testing.T, b []byte) (out [][]byte) {
	t.Helper()
	f, err := dicom.OpenFrames(bytes.NewReader(b), int64(len(b)), dicom.DefaultFrameLimits())
	if err != nil {
		t.Fatal(err)
	}
	window, err := dicom.ParseWindow("stored")
	if err != nil {
		t.Fatal(err)
	}
	for i := range f.Len() {
		var p bytes.Buffer
		if err := f.Render(t.Context(), &p, i, gantry.RenderPNG, window); err != nil {
			t.Fatal(err)
		}
		m, err := png.Decode(bytes.NewReader(p.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		pixels := m.(*image.Gray).Pix
		if from := len(b) - (f.Len()-i)*len(pixels); !bytes.Equal(pixels, b[from:from+len(pixels)]) {
			t.Errorf("frame %d is not that of the file", i)
		}
		out = append(out, p.Bytes())
	}
	return out
}
