package models

import (
	"bytes"
	"image"
	"image/draw"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// drawn makes a picture of lines of text: # is bright.
func drawn(lines string) *picture {
	rows := strings.Fields(lines)
	return painted(len(rows[0]), len(rows), 0xff, func(x, y int) int {
		if rows[y][x] == '#' {
			return 200
		}
		return 40
	})
}

// lines is a mask as text.
func (p *picture) lines() string {
	var b strings.Builder
	for i, v := range p.grey {
		if i > 0 && i%p.width == 0 {
			b.WriteByte('\n')
		}
		b.WriteByte(map[uint16]byte{0: '.', 255: '#'}[v])
	}
	return b.String()
}

// TestSegment takes specks off, fills pinholes, and keeps what is as large as the square, at the
// border too.
func TestSegment(t *testing.T) {
	t.Parallel()
	p := drawn(`
................
#...............
...#######....#.
...#######......
...#######....##
...###.###....##
...#######....##
...#######......
#..#######......
##..........###.
##..........###.
##..........#...`)
	segment(p)
	want := strings.TrimSpace(`
................
................
...#######......
...#######......
...#######....##
...#######....##
...#######....##
...#######......
...#######......
##..............
##..............
##..............`)
	got := p.lines()
	if d := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); d != "" {
		t.Error(d)
	}
	if p.top != 0xff || p.colour != nil {
		t.Errorf("of depth %d with colours %v", p.top, p.colour)
	}
}

// TestOtsu compares the threshold with the definition, worked out the slow way: the least variance
// within the classes.
func TestOtsu(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		r := random(seed)
		p := painted(60, 40, 0xff, func(x, y int) int { return 60 + x/30*90 + int(r.NormFloat64()*14) })
		best, want := 0.0, uint16(0)
		for cut := range uint16(255) {
			var n, sum, squares [2]float64
			for _, v := range p.grey {
				c := 0
				if v > cut {
					c = 1
				}
				n[c]++
				sum[c] += float64(v)
				squares[c] += float64(v) * float64(v)
			}
			if n[0] == 0 || n[1] == 0 {
				continue
			}
			within := squares[0] - sum[0]*sum[0]/n[0] + squares[1] - sum[1]*sum[1]/n[1]
			if best == 0 || within < best-1e-6 {
				best, want = within, cut
			}
		}
		if got := otsu(p); got != want {
			t.Errorf("seed %d: threshold %d, want %d", seed, got, want)
		}
	}
	flat := painted(9, 9, 0xffff, func(int, int) int { return 777 })
	if segment(flat); slices.Max(flat.grey) != 0 {
		t.Error("an even image has a mask")
	}
}

// TestMorph compares the sliding window with every pixel's own square.
func TestMorph(t *testing.T) {
	t.Parallel()
	r := random(3)
	for range 60 {
		w, h, radius, erode := 1+r.IntN(20), 1+r.IntN(20), 1+r.IntN(6), r.IntN(2) == 0
		p := painted(w, h, 0xff, func(int, int) int { return r.IntN(2) })
		want := slow(p, radius, erode)
		if p.morph(radius, erode); !slices.Equal(want, p.grey) {
			t.Fatalf("%d x %d, radius %d, erode %v", w, h, radius, erode)
		}
	}
}

func slow(p *picture, radius int, erode bool) []uint16 {
	out := make([]uint16, len(p.grey))
	for i := range out {
		all, any := uint16(1), uint16(0)
		for y := max(0, i/p.width-radius); y <= min(p.height-1, i/p.width+radius); y++ {
			for x := max(0, i%p.width-radius); x <= min(p.width-1, i%p.width+radius); x++ {
				all &= p.grey[y*p.width+x]
				any |= p.grey[y*p.width+x]
			}
		}
		if out[i] = any; erode {
			out[i] = all
		}
	}
	return out
}

// TestMaskService sends every kind of image; a mask has the image's size and two values.
func TestMaskService(t *testing.T) {
	t.Parallel()
	deep := image.NewGray16(xray().Rect)
	draw.Draw(deep, deep.Rect, xray(), image.Point{}, draw.Src)
	h := Handler(Options{})
	digests := map[string]string{}
	for name, body := range map[string][]byte{"png": encoded(t, xray()), "png16": encoded(t, deep), "dicom": slice(),
		"jpeg": jpegOf(t, xray()), "colour": encoded(t, colours(50, 40))} {
		w := call(h, "POST", "/v1/mask", bytes.NewReader(body))
		if w.Code != 200 || w.Header().Get("Content-Type") != gantry.MediaPNG {
			t.Fatalf("%s: %d %s", name, w.Code, w.Body)
		}
		m, ok := decoded(t, w.Body.Bytes()).(*image.Gray)
		p, err := newService(Options{}).decode(body)
		if err != nil || !ok || m.Rect != image.Rect(0, 0, p.width, p.height) {
			t.Fatalf("%s: became %v: %v", name, m, err)
		}
		white := 0
		for _, v := range m.Pix {
			if v != 0 && v != 255 {
				t.Fatalf("%s: a grey of %d", name, v)
			}
			white += int(v) / 255
		}
		if share := float64(white) / float64(len(m.Pix)); share < 0.1 || share > 0.9 {
			t.Errorf("%s: %.2f of it is white", name, share)
		}
		digests[name] = digest(t, w.Body.Bytes())
	}
	if digests["png"] != digests["png16"] {
		t.Errorf("16 bits make another mask: %v", digests)
	}
	if digests["png"] != "dcd57cc26ae4906b" || digests["dicom"] != "d1a81c913d1032e4" || masker().Version != "1.0.0" {
		t.Errorf("masks %v: a change needs another version", digests)
	}
}

// noisy is a picture for jpegOf and the like.
func noisy(w, h int, seed uint64) *image.Gray {
	r := rand.New(rand.NewPCG(seed, 2))
	m := image.NewGray(image.Rect(0, 0, w, h))
	for i := range m.Pix {
		m.Pix[i] = uint8(r.IntN(200) + 20)
	}
	return m
}
