package dicom

import (
	"bytes"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// FuzzRewrite reads data sets of all kinds, takes every element apart, appends to every sequence
// and reads what was written.
func FuzzRewrite(f *testing.F) {
	for _, s := range goods() {
		f.Add(s.bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		rw, err := newRewriter(bytes.NewReader(b), int64(len(b)), Limits{})
		if err != nil {
			if k := gantry.KindOf(err); k != gantry.Illegal && k != gantry.Permanent {
				t.Fatalf("%v", err)
			}
			return
		}
		for tag := range rw.elements {
			if v, value := rw.parts(tag); v == vrSQ || v == vrUN && len(value) == 0 {
				rw.appendItem(tag, func(item *itemWriter) { item.code(0x0040a170, "1", "one") })
			}
		}
		var out bytes.Buffer
		if err := writeMeta(&out, ClassSecondaryCapture, goodUID, rw.syntax()); err != nil {
			t.Fatal(err)
		}
		if err := rw.write(&out); err != nil {
			t.Fatal(err)
		}
		again, err := newRewriter(bytes.NewReader(out.Bytes()), int64(out.Len()), Limits{})
		if err != nil {
			t.Fatalf("what was written: %v", err)
		}
		if len(again.elements) != len(rw.elements) {
			t.Fatalf("%d elements, %d were written", len(again.elements), len(rw.elements))
		}
	})
}

// FuzzJoin joins the answers of an identity to whatever file has frames; the result is a sound file.
func FuzzJoin(f *testing.F) {
	for _, s := range layouts() {
		f.Add(s.bytes(), byte(0))
		f.Add(s.bytes(), byte(1))
		f.Add(s.bytes(), byte(2))
	}
	f.Fuzz(func(t *testing.T, b []byte, way byte) {
		lim := FrameLimits{Frames: 64, FrameBytes: 1 << 16, TotalBytes: 1 << 20}
		src, err := OpenFrames(bytes.NewReader(b), int64(len(b)), lim)
		if err != nil {
			return
		}
		if _, err := Scan(bytes.NewReader(b), int64(len(b)), lim.Scan); err != nil {
			return
		}
		j := Joining{Source: bytes.NewReader(b), Size: int64(len(b)), UID: "2.25.1", SeriesUID: "2.25.2", Frames: src.Len(),
			Sent: gantry.RenderPNG, Window: Window{kind: windowStored}, Limits: lim}
		media := gantry.MediaPNG
		switch way % 3 {
		case 1:
			j.Sent, media = gantry.RenderNPY, gantry.MediaNPY
		case 2:
			j.Window.kind = windowFull
		}
		var out bytes.Buffer
		err = Join(t.Context(), &out, j, func(i int) (*Picture, error) {
			var answer bytes.Buffer
			if err := src.Render(t.Context(), &answer, i, j.Sent, j.Window); err != nil {
				return nil, err
			}
			return PictureOf(&answer, media, lim)
		})
		if err != nil {
			return
		}
		if _, err := Scan(&out, -1, Limits{}); err != nil {
			t.Fatalf("the result: %v", err)
		}
	})
}
