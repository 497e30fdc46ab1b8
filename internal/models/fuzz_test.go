package models

import (
	"bytes"
	"image"
	"image/png"
	"testing"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// FuzzEnhance sends any bytes through decoding and the models of one image. What is taken must give
// a PNG of its size, a score from 0 to 1 and a mask; what is not must say so as a refusal.
func FuzzEnhance(f *testing.F) {
	f.Add(encoded(f, colours(9, 7)))
	f.Add(encoded(f, image.NewGray16(image.Rect(0, 0, 40, 3))))
	for _, m := range stored(image.NewGray(image.Rect(0, 0, 6, 6))) {
		f.Add(encoded(f, m))
	}
	f.Add(bare(65535, 65535, 16, 6))
	small := written(f, func(*dicom.Image) {})
	f.Add(small)
	f.Add(bytes.Replace(small, []byte("MONOCHROME2"), []byte("MONOCHROME1"), 1))
	f.Add(jpegOf(f, noisy(9, 12, 1)))
	f.Add(jpegOf(f, colours(17, 5)))
	f.Add([]byte("PK\x03\x04"))
	s := newService(Options{})
	s.maxPixels = 1 << 16
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := s.decode(body)
		if err != nil {
			if q := problemOf(err); q.Status != 415 && q.Status != 422 || gantry.KindOf(err) == gantry.Transient && err != errNoImage {
				t.Fatalf("%d for %v", q.Status, err)
			}
			return
		}
		defer s.scratch.Put(p.scratch)
		if p.width < 1 || p.height < 1 || len(p.grey) != p.width*p.height || len(p.grey) > s.maxPixels {
			t.Fatalf("%d x %d of %d", p.width, p.height, len(p.grey))
		}
		for _, v := range p.grey {
			if v > p.top {
				t.Fatalf("a grey of %d above %d", v, p.top)
			}
		}
		if q := assess(p); !(q.Score >= 0 && q.Score <= 1) || !(q.Sharpness >= 0) || !(q.Noise >= 0) || !(q.Contrast >= 0 && q.Contrast <= 1) {
			t.Fatalf("%+v", q)
		}
		equalise(p, defaultTiles, defaultClip)
		var out bytes.Buffer
		if err := p.encode(&out, &s.encoders); err != nil {
			t.Fatal(err)
		}
		c, err := png.DecodeConfig(&out)
		if err != nil || c.Width != p.width || c.Height != p.height {
			t.Fatalf("%d x %d became %d x %d: %v", p.width, p.height, c.Width, c.Height, err)
		}
		if m := p.shrunk(max(1, p.width/2), max(1, p.height/3)); m.Bounds().Empty() {
			t.Fatal("an empty thumbnail")
		}
		segment(p)
		if _, _, binary := p.sums(); !binary || p.top != 0xff {
			t.Fatal("a mask of more than two values")
		}
	})
}
