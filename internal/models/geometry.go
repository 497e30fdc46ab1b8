package models

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Geometry is where the slices of a series lie. Distances are in mm, along the normal of the first slice that says where
// it lies (PS3.3 section C.7.6.2.1.1).
type Geometry struct {
	Located      int        `json:"located"`       // slices that say where they lie
	PixelSpacing [2]float64 `json:"pixel_spacing"` // between rows, between columns; 0: not known
	Thickness    float64    `json:"thickness"`     // as the first slice says; 0: not known
	Spacing      float64    `json:"spacing"`       // the median from one place to the next; 0: there is one at most
	Extent       float64    `json:"extent"`        // from the first place to the last
	Gaps         []Gap      `json:"gaps"`          // where slices are missing
	Repeated     int        `json:"repeated"`      // slices that lie where another does
	Turned       int        `json:"turned"`        // slices that are oriented otherwise than the first
	Regular      bool       `json:"regular"`       // all slices are located, of one orientation, and equally far from one another, to 2 %
}

// Gap is a place where slices are missing.
type Gap struct {
	After   int `json:"after"`   // the number of the place before, from 1 in the order of places
	Missing int `json:"missing"` // slices
}

// pose is what one slice says of where it lies.
type pose struct {
	known     bool
	at        [3]float64 // of the first pixel's centre
	row, col  [3]float64 // directions
	spacing   [2]float64
	thickness float64
}

const (
	samePlace = 0.01 // mm
	sameTurn  = 1e-3
)

// poseOf reads Image Position, Image Orientation, Pixel Spacing and Slice Thickness.
func poseOf(tags map[string]string) (p pose) {
	at, turn := numbers(tags["ImagePositionPatient"], 3), numbers(tags["ImageOrientationPatient"], 6)
	if spacing := numbers(tags["PixelSpacing"], 2); spacing != nil {
		p.spacing = [2]float64{spacing[0], spacing[1]}
	}
	if t := numbers(tags["SliceThickness"], 1); t != nil {
		p.thickness = t[0]
	}
	if at == nil || turn == nil {
		return p
	}
	p.at, p.row, p.col = [3]float64(at), [3]float64(turn[:3]), [3]float64(turn[3:])
	n := cross(p.row, p.col)
	p.known = math.Abs(dot(n, n)-1) < 0.02 // two directions at right angles, of length 1
	return p
}

// numbers reads a multi-valued decimal string; nil unless it has n values of less than a kilometre.
func numbers(text string, n int) []float64 {
	list := strings.Split(text, `\`)
	if len(list) != n {
		return nil
	}
	out := make([]float64, n)
	for i, x := range list {
		v, err := strconv.ParseFloat(strings.TrimSpace(x), 64)
		if err != nil || !(math.Abs(v) < 1e6) {
			return nil
		}
		out[i] = v
	}
	return out
}

func cross(a, b [3]float64) [3]float64 {
	return [3]float64{a[1]*b[2] - a[2]*b[1], a[2]*b[0] - a[0]*b[2], a[0]*b[1] - a[1]*b[0]}
}

func dot(a, b [3]float64) float64 { return a[0]*b[0] + a[1]*b[1] + a[2]*b[2] }

// apart tells whether two directions differ.
func apart(a, b [3]float64) bool {
	return slices.ContainsFunc([]int{0, 1, 2}, func(i int) bool { return math.Abs(a[i]-b[i]) > sameTurn })
}

// geometryOf works out how the slices of a series lie, in whatever order they come.
func geometryOf(list []pose) Geometry {
	g := Geometry{Gaps: []Gap{}}
	for _, p := range list {
		g.PixelSpacing = cmp.Or(g.PixelSpacing, [2]float64{round(p.spacing[0]), round(p.spacing[1])})
		g.Thickness = cmp.Or(g.Thickness, round(p.thickness))
	}
	i := slices.IndexFunc(list, func(p pose) bool { return p.known })
	if i < 0 {
		return g
	}
	first := list[i]
	normal := cross(first.row, first.col)
	var along []float64
	for _, p := range list {
		if !p.known {
			continue
		}
		g.Located++
		if apart(p.row, first.row) || apart(p.col, first.col) {
			g.Turned++
			continue
		}
		along = append(along, dot(p.at, normal))
	}
	even := g.space(along)
	g.Regular = even && g.Located == len(list) && g.Turned == 0 && g.Repeated == 0
	return g
}

// space measures the distances of slices of one orientation, and tells whether they are alike.
func (g *Geometry) space(along []float64) (even bool) {
	slices.Sort(along)
	g.Extent = round(along[len(along)-1] - along[0])
	var steps []float64
	for i := 1; i < len(along); i++ {
		step := along[i] - along[i-1]
		if step < samePlace {
			g.Repeated++
			continue
		}
		steps = append(steps, step)
	}
	if len(steps) == 0 {
		return g.Repeated == 0
	}
	sorted := slices.Sorted(slices.Values(steps))
	usual := sorted[(len(sorted)-1)/2]
	g.Spacing, even = round(usual), true
	for i, step := range steps {
		if missing := int(math.Round(step/usual)) - 1; missing > 0 {
			g.Gaps = append(g.Gaps, Gap{After: i + 1, Missing: missing})
		}
		even = even && math.Abs(step-usual) <= usual*0.02
	}
	return even
}
