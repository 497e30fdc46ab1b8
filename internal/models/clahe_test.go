package models

import (
	"image/color"
	"math"
	"slices"
	"testing"
)

func TestFlatStaysFlat(t *testing.T) {
	t.Parallel()
	for _, size := range [][2]int{{1, 1}, {1, 500}, {17, 3}, {200, 100}} {
		for _, top := range []uint16{0xff, 0xffff} {
			for _, v := range []int{0, 1, 100, int(top)} {
				p := painted(size[0], size[1], top, func(int, int) int { return v })
				equalise(p, defaultTiles, defaultClip)
				if i := slices.IndexFunc(p.grey, func(g uint16) bool { return int(g) != v }); i >= 0 {
					t.Errorf("%v of %d: pixel %d is %d", size, v, i, p.grey[i])
				}
			}
		}
	}
}

// TestPlainEqualisation holds one tile without a limit against the textbook: a pixel becomes the
// share of pixels that are not brighter.
func TestPlainEqualisation(t *testing.T) {
	t.Parallel()
	r := random(1)
	for name, p := range map[string]*picture{
		"phantom": of(xray()),
		"8 bits":  painted(97, 61, 0xff, func(x, y int) int { return 40 + x/2 + int(8*r.NormFloat64()) }),
		"12 bits": painted(160, 150, 0xffff, func(x, y int) int { return 1000 + 9*x + int(300*r.NormFloat64()) }),
	} {
		for _, clip := range []float64{0, math.Inf(1), 1e300} {
			q := *p
			q.grey, q.scratch = slices.Clone(p.grey), new(scratch)
			equalise(&q, 1, clip)
			sorted := slices.Sorted(slices.Values(p.grey))
			for i, v := range p.grey {
				below, _ := slices.BinarySearch(sorted, v+1)
				want := uint16(math.Round(float64(below) * float64(p.top) / float64(len(sorted))))
				if q.grey[i] != want {
					t.Fatalf("%s, clip %v: pixel %d of value %d is %d, want %d", name, clip, i, v, q.grey[i], want)
				}
			}
		}
	}
}

// TestMonotone checks that no tile's curve ever falls, starts at 0 and ends at the top, and so
// that a picture of one tile keeps its order of greys.
func TestMonotone(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		r := random(seed)
		top := []uint16{0xff, 0xffff}[seed%2]
		spread := float64(top) / float64(2+r.IntN(60))
		p := painted(20+r.IntN(150), 20+r.IntN(150), top, func(x, y int) int {
			return int(float64(top)*0.5 + spread*r.NormFloat64() + float64(x)*spread/50)
		})
		low, high := slices.Min(p.grey), slices.Max(p.grey)
		clip := []float64{0, 1, 1.5, 4, 40}[seed%5]
		m := newCurves(p, low, high, 1+int(seed%9), clip)
		for c := range slices.Chunk(m.table, m.bins+1) {
			if c[0] != 0 || c[m.bins] != top || !slices.IsSorted(c) {
				t.Fatalf("seed %d: a curve from %d to %d, sorted %v", seed, c[0], c[m.bins], slices.IsSorted(c))
			}
		}
		before := slices.Clone(p.grey)
		equalise(p, 1, clip)
		order := make([]int, len(before))
		for i := range order {
			order[i] = i
		}
		slices.SortFunc(order, func(a, b int) int { return int(before[a]) - int(before[b]) })
		for k := 1; k < len(order); k++ {
			a, b := order[k-1], order[k]
			if p.grey[a] > p.grey[b] || before[a] == before[b] && p.grey[a] != p.grey[b] {
				t.Fatalf("seed %d: %d and %d became %d and %d", seed, before[a], before[b], p.grey[a], p.grey[b])
			}
		}
	}
}

// TestLimit checks what makes it contrast-limited: no count above the limit, none lost, none but
// those above it cut.
func TestLimit(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		r := random(seed)
		counts := make([]uint32, 1+r.IntN(300))
		n := 0
		for i := range counts {
			if r.IntN(4) == 0 {
				counts[i] = uint32(r.IntN(1 << r.IntN(12)))
			}
			n += int(counts[i])
		}
		clip := 1 + 4*r.Float64()
		before := slices.Clone(counts)
		limit(counts, n, clip)
		most := max(1, uint32(clip*float64(n)/float64(len(counts))))
		sum := 0
		for i, c := range counts {
			sum += int(c)
			if c > most || c < min(before[i], most) {
				t.Fatalf("seed %d: count %d of %d became %d, limit %d", seed, i, before[i], c, most)
			}
		}
		if room := int(most) * len(counts); sum != min(n, room) {
			t.Fatalf("seed %d: %d counts became %d, room for %d", seed, n, sum, room)
		}
	}
}

// TestSlope checks the promise to the eye: no difference grows by more than clip says.
func TestSlope(t *testing.T) {
	t.Parallel()
	p := of(xray())
	low, high := slices.Min(p.grey), slices.Max(p.grey)
	m := newCurves(p, low, high, 8, 3)
	most := 3*255/float64(m.bins) + 1
	for c := range slices.Chunk(m.table, m.bins+1) {
		for i := range m.bins {
			if d := float64(c[i+1] - c[i]); d > most {
				t.Fatalf("a step of %v, at most %v allowed", d, most)
			}
		}
	}
}

// blockContrast is the mean standard deviation within blocks of the lungs, in grey levels.
func blockContrast(p *picture) float64 {
	const block = 32
	total, n := 0.0, 0
	for y := p.height / 4; y+block < p.height*5/8; y += block {
		for x := p.width / 5; x+block < p.width*4/5; x += block {
			var sum, squares float64
			for k := range block * block {
				v := float64(p.grey[(y+k/block)*p.width+x+k%block])
				sum, squares = sum+v, squares+v*v
			}
			mean := sum / (block * block)
			total += math.Sqrt(max(0, squares/(block*block)-mean*mean))
			n++
		}
	}
	return total / float64(n) * 255 / float64(p.top)
}

func TestContrastRises(t *testing.T) {
	t.Parallel()
	p := of(xray())
	before, spreadBefore := blockContrast(p), spread(p)
	equalise(p, defaultTiles, defaultClip)
	after, spreadAfter := blockContrast(p), spread(p)
	if after < 1.8*before || spreadAfter < 1.5*spreadBefore {
		t.Errorf("local contrast %.2f became %.2f, spread %.2f became %.2f", before, after, spreadBefore, spreadAfter)
	}
}

// TestNoSeams looks for the borders of tiles: an even ramp must not jump at them.
func TestNoSeams(t *testing.T) {
	t.Parallel()
	p := painted(512, 512, 0xffff, func(x, y int) int { return 20000 + 24*x + 13*y })
	equalise(p, 8, defaultClip)
	most := 0
	for y := range 512 {
		for x := 1; x < 512; x++ {
			most = max(most, int(p.grey[y*512+x])-int(p.grey[y*512+x-1]), int(p.grey[y*512+x-1])-int(p.grey[y*512+x]))
		}
	}
	// The whole range over one row would be steps of 128; clipped curves stay near that.
	if most > 128*3 {
		t.Errorf("a step of %d", most)
	}
}

// TestMirror checks that left and right, top and bottom are treated alike, but for rounding.
func TestMirror(t *testing.T) {
	t.Parallel()
	src := xray()
	p := of(src)
	q := painted(512, 512, 0xff, func(x, y int) int { return int(src.GrayAt(511-x, 511-y).Y) })
	equalise(p, 8, defaultClip)
	equalise(q, 8, defaultClip)
	for i, v := range p.grey {
		if d := int(v) - int(q.grey[len(q.grey)-1-i]); d > 1 || d < -1 {
			t.Fatalf("pixel %d: %d, mirrored %d", i, v, q.grey[len(q.grey)-1-i])
		}
	}
}

// TestDeep checks that an image of 65,536 values is not reduced to the bins of a histogram.
func TestDeep(t *testing.T) {
	t.Parallel()
	p := painted(256, 256, 0xffff, func(x, y int) int { return y*256 + x })
	equalise(p, 1, 0)
	for i, v := range p.grey {
		if d := int(v) - i; d > 1 || d < -1 { // a uniform histogram changes nothing
			t.Fatalf("value %d became %d", i, v)
		}
	}
}

// TestPlaces checks the weights: whole at a centre, even between two, one tile at the edges.
func TestPlaces(t *testing.T) {
	t.Parallel()
	got := places(8, []int{0, 4, 8}) // centres at 1.5 and 5.5
	want := []place{{0, 0, 0}, {0, 0, 0}, {0, 1, 512}, {0, 1, 1536}, {0, 1, 2560}, {0, 1, 3584}, {1, 1, 0}, {1, 1, 0}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	for n := 1; n < 300; n++ {
		b := borders(n, 8)
		if b[0] != 0 || b[len(b)-1] != n || !slices.IsSorted(b) || len(b) > 2 && n/(len(b)-1) < minTile {
			t.Fatalf("%d pixels: borders %v", n, b)
		}
		for _, p := range places(n, b) {
			if p.weight >= unit || p.a > p.b || p.b > p.a+1 || p.b >= len(b)-1 {
				t.Fatalf("%d pixels: %+v", n, p)
			}
		}
	}
}

// TestColour checks that colours keep their differences and their transparency, and that a grey
// image comes out the same whichever way it is stored.
func TestColour(t *testing.T) {
	t.Parallel()
	in := colours(120, 90)
	out := decoded(t, enhanced(t, encoded(t, in)))
	brighter := 0
	for y := range 90 {
		for x := range 120 {
			a, b := in.NRGBAAt(x, y), color.NRGBAModel.Convert(out.At(x, y)).(color.NRGBA)
			if a.A != b.A {
				t.Fatalf("alpha %d became %d", a.A, b.A)
			}
			whole := min(b.R, b.G, b.B) > 0 && max(b.R, b.G, b.B) < 255
			if whole && (int(a.R)-int(a.G) != int(b.R)-int(b.G) || int(a.R)-int(a.B) != int(b.R)-int(b.B)) {
				t.Fatalf("%v became %v", a, b)
			}
			if a != b {
				brighter++
			}
		}
	}
	if brighter < 1000 {
		t.Errorf("%d pixels changed", brighter)
	}
	grey := xray()
	want := decoded(t, enhanced(t, encoded(t, grey)))
	for name, m := range stored(grey) {
		got := decoded(t, enhanced(t, encoded(t, m)))
		for i := range 512 * 512 {
			a, _, _, _ := want.At(i%512, i/512).RGBA()
			b, _, _, _ := got.At(i%512, i/512).RGBA()
			if a>>8 != b>>8 {
				t.Fatalf("%s: pixel %d is %d, want %d", name, i, b>>8, a>>8)
			}
		}
	}
}

func BenchmarkEnhance(b *testing.B) {
	body := encoded(b, xray())
	s := newService(Options{})
	b.ReportAllocs()
	b.SetBytes(512 * 512)
	for b.Loop() {
		out := s.buffer()
		if _, err := s.enhance(body, out); err != nil {
			b.Fatal(err)
		}
		s.release(out)
	}
}
