package models

import (
	"image"
	"image/color"
	"image/draw"
	"slices"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestThumbnail draws every kind of image; the mean grey stays what it was.
func TestThumbnail(t *testing.T) {
	t.Parallel()
	deep := image.NewGray16(xray().Rect)
	draw.Draw(deep, deep.Rect, xray(), image.Point{}, draw.Src)
	wide := image.NewNRGBA64(image.Rect(0, 0, 300, 20))
	draw.Draw(wide, wide.Rect, image.NewUniform(color.NRGBA{200, 100, 50, 255}), image.Point{}, draw.Src)
	wide.SetNRGBA64(299, 0, color.NRGBA64{0xffff, 0, 0, 0x8000}) // so that it is stored with alpha
	mean := func(m image.Image) float64 {
		sum, b := 0.0, m.Bounds()
		for i := range b.Dx() * b.Dy() {
			sum += float64(color.GrayModel.Convert(m.At(i%b.Dx(), i/b.Dx())).(color.Gray).Y)
		}
		return sum / float64(b.Dx()*b.Dy())
	}
	for name, c := range map[string]struct {
		body []byte
		size image.Point
		like image.Image
	}{
		"png":    {encoded(t, xray()), image.Pt(96, 96), xray()},
		"png16":  {encoded(t, deep), image.Pt(96, 96), xray()},
		"jpeg":   {jpegOf(t, xray()), image.Pt(96, 96), xray()},
		"dicom":  {slice(), image.Pt(96, 96), nil},
		"colour": {encoded(t, colours(192, 100)), image.Pt(96, 50), colours(192, 100)},
		"deep":   {encoded(t, wide), image.Pt(96, 6), wide},
		"small":  {encoded(t, colours(40, 30)), image.Pt(40, 30), colours(40, 30)},
	} {
		b, err := Thumbnail(c.body, 96)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		m := decoded(t, b)
		if m.Bounds().Size() != c.size {
			t.Errorf("%s: %v, want %v", name, m.Bounds(), c.size)
		}
		if c.like == nil {
			continue
		}
		if was, is := mean(c.like), mean(m); is < was-2 || is > was+2 {
			t.Errorf("%s: a mean of %.1f became %.1f", name, was, is)
		}
	}
	same, err := Thumbnail(encoded(t, xray()), 512)
	if err != nil || !slices.Equal(decoded(t, same).(*image.Gray).Pix, xray().Pix) {
		t.Errorf("at its own size it is another picture: %v", err)
	}
	for name, body := range map[string][]byte{"nothing": nil, "text": []byte("hello"), "cut": slice()[:9000]} {
		if _, err := Thumbnail(body, 96); gantry.KindOf(err) != gantry.Illegal {
			t.Errorf("%s: %v", name, err)
		}
	}
}
