package app_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/sample"
)

// TestRejoinByStudy divides an archive by study, each study into shards, and puts each study's part of the archive
// together again: what lies within what, in order, and nothing of another study.
func TestRejoinByStudy(t *testing.T) {
	t.Parallel()
	s := serve(t, mirror(nil))
	r := newRig(t, nil)
	a, b, p := sample.Ultrasound(6, 32, 32), sample.Ultrasound(5, 32, 32), noise(12, [32]byte{4})
	inner := packed(t, entry{name: "q.dcm", body: b}, entry{name: "r.dcm", body: a})
	archive := packed(t, entry{name: "p.dcm", body: a}, entry{name: "in.zip", body: inner}, entry{name: "x.png", body: p})
	src := strings.Replace(rejoined(s.URL), "extract: {", "group: {by: study}\nextract: {shard: 2, ", 1)
	o := r.one(src, file(t, "two.zip", archive))
	mustBeDone(t, o)
	text, err := os.ReadFile(filepath.Join(r.out, o.ID, "_manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var m struct {
		Children []struct{ Task, State string }
	}
	if err := json.Unmarshal(text, &m); err != nil || len(m.Children) != 3 {
		t.Fatalf("%d children: %v", len(m.Children), err)
	}
	of := func(i int) (names []string, content [][]byte) {
		return unzipped(t, filepath.Join(r.out, m.Children[i].Task, "same", "rejoined.zip"))
	}
	names, content := of(0)
	if diff := cmp.Diff([]string{"p.dcm", "in.zip"}, names); diff != "" {
		t.Fatalf("the first study (-want +got):\n%s", diff)
	}
	holdFrames(t, a, content[0])
	inside, frames := unzipped(t, file(t, "in.zip", content[1]))
	if diff := cmp.Diff([]string{"r.dcm"}, inside); diff != "" {
		t.Fatalf("the first study's archive (-want +got):\n%s", diff)
	}
	holdFrames(t, a, frames[0])
	names, content = of(1)
	inside, frames = unzipped(t, file(t, "in.zip", content[0]))
	if diff := cmp.Diff([]string{"in.zip", "q.dcm"}, append(names, inside...)); diff != "" {
		t.Fatalf("the second study (-want +got):\n%s", diff)
	}
	holdFrames(t, b, frames[0])
	names, content = of(2)
	if diff := cmp.Diff([]string{"x.png"}, names); diff != "" || !bytes.Equal(content[0], p) {
		t.Errorf("what is no DICOM (-want +got):\n%s", diff)
	}
	if n := len(s.all()); n != 18 {
		t.Errorf("%d requests for 17 frames and a picture", n)
	}
}

// holdFrames wants two files to have the same stored values.
func holdFrames(t *testing.T, was, is []byte) {
	t.Helper()
	a, b := framesOf(t, file(t, "was.dcm", was)), framesOf(t, file(t, "is.dcm", is))
	if len(a) != len(b) {
		t.Errorf("%d frames of %d", len(b), len(a))
		return
	}
	for i := range a {
		if !bytes.Equal(a[i].Values, b[i].Values) {
			t.Errorf("frame %d differs", i)
		}
	}
}

// TestRefusedAmongMany refuses a broken archive among more entries than go into one commit, wherever among them it
// lies: its row says so, and the manifest.
func TestRefusedAmongMany(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	r := newRig(t, nil)
	broken := tarred(t, true, entry{name: "a.png", body: noise(8, [32]byte{})})[:60]
	const n = 520
	var inputs []string
	places := []int{498, 499} // the last row of the first commit, since the archive has one too, and the first of the second
	for _, at := range places {
		var list []entry
		for i := range n {
			e := entry{name: fmt.Sprint(i), body: noise(8, [32]byte{byte(i), byte(i >> 8)}), stored: true}
			if i == at {
				e.body = broken
			}
			list = append(list, e)
		}
		inputs = append(inputs, file(t, "many.zip", packed(t, list...)))
	}
	src := strings.Replace(strict(s.URL), "on_error: fail", "on_error: skip", 1)
	src = strings.NewReplacer("call: score}", "call: score, each: task}", `/score"}`, `/score", body: zip}`).Replace(src)
	for i, o := range r.run(src, r.out, inputs...) {
		mustBeDone(t, o)
		m, _ := manifestOf(t, r.out, o.ID)
		want := fmt.Sprintf("input#%d", places[i])
		if len(m.Errors) != 1 || m.Errors[0].Item != want || m.Errors[0].Code != "truncated" || len(m.Items) != n-1 {
			t.Errorf("%d items and errors %v, want one of %s", len(m.Items), m.Errors, want)
		}
		for _, x := range r.items(o.ID) {
			refused := x.Stage == gantry.OriginalStage && x.Parent != gantry.NoItem && int(x.Ordinal) == places[i]
			if x.Rejected != refused || refused && x.Reason != "truncated" {
				t.Errorf("entry %d is on record with reason %q, refused: %v", x.Ordinal, x.Reason, x.Rejected)
			}
		}
	}
}
