package dicom

import (
	"math"
	"strconv"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// The functions of a window (PS3.3 section C.11.2.1.3).
const (
	linear      = "LINEAR"
	linearExact = "LINEAR_EXACT"
	sigmoid     = "SIGMOID"
)

// Window says how values become grey. The zero Window is that of the file.
type Window struct {
	kind          windowKind
	center, width float64
}

type windowKind uint8

const (
	windowFile windowKind = iota
	windowFull
	windowStored
	windowGiven
)

// ParseWindow reads file, full, stored, or the center and the width of a window in values after
// rescaling, such as -600/1500, the width being at least 1; nothing means file. Its errors are
// Illegal, code bad_value.
func ParseWindow(s string) (Window, error) {
	switch s {
	case "", "file":
		return Window{}, nil
	case "full":
		return Window{kind: windowFull}, nil
	case "stored":
		return Window{kind: windowStored}, nil
	}
	c, w, _ := strings.Cut(s, "/")
	center, err := strconv.ParseFloat(c, 64)
	width, bad := strconv.ParseFloat(w, 64)
	if err != nil || bad != nil || math.IsInf(center, 0) || math.IsNaN(center) || math.IsInf(width, 0) || !(width >= 1) {
		return Window{}, gantry.Errorf(gantry.Illegal, CodeBadValue,
			"parse window: neither file, full, stored nor a center and a width from 1, such as -600/1500")
	}
	return Window{kind: windowGiven, center: center, width: width}, nil
}

// String is the window as ParseWindow reads it.
func (w Window) String() string {
	switch w.kind {
	case windowFull:
		return "full"
	case windowStored:
		return "stored"
	case windowGiven:
		return strconv.FormatFloat(w.center, 'g', -1, 64) + "/" + strconv.FormatFloat(w.width, 'g', -1, 64)
	}
	return "file"
}

// grey is where x lies in a window, from 0 to 1 (PS3.3 sections C.11.2.1.2 and C.11.2.1.3).
func (s *show) grey(x float64) float64 {
	switch s.function {
	case linearExact:
		return (x-s.center)/s.width + 0.5
	case sigmoid:
		return 1 / (1 + math.Exp(-4*(x-s.center)/s.width))
	}
	low := s.center - 0.5 - (s.width-1)/2
	if x <= low { // also where the width is 1
		return 0
	}
	return (x - low) / (s.width - 1)
}

// shade turns stored values of one frame into grey.
type shade struct {
	show
	modality, voi *lut
	same          bool // grey is the stored value
	top           byte // the largest grey of those
	inverted      bool
}

// value is a stored value after the modality's transformation (PS3.3 section C.11.1).
func (s *shade) value(stored float64) float64 {
	if s.modality != nil {
		return float64(s.modality.at(int(stored)))
	}
	return stored*s.slope + s.intercept
}

// of is the grey of a stored value. What is no number is black.
func (s *shade) of(stored float64) byte {
	var g byte
	if s.same {
		g = byte(stored)
		if s.inverted {
			return s.top - g
		}
		return g
	}
	x := s.value(stored)
	if s.voi != nil {
		x = float64(s.voi.at(whole16(x))) / float64(int(1)<<s.voi.bits-1)
	} else {
		x = s.grey(x)
	}
	switch {
	case !(x > 0):
	case x >= 1:
		g = 255
	default:
		g = byte(x*255 + 0.5)
	}
	if s.inverted {
		return 255 - g
	}
	return g
}

// whole16 is the nearest whole number in the range of any table.
func whole16(x float64) int {
	if !(x > -1<<20) {
		return -1 << 20
	}
	return int(math.Round(min(x, 1<<20)))
}

// shading chooses how frame i is shown through w.
func (f *Frames) shading(i int, p *Picture, w Window) shade {
	s := shade{show: f.shows.of(i), modality: f.shows.modality, inverted: p.Photometric == monochrome1}
	switch {
	case w.kind == windowGiven:
		s.window, s.center, s.width, s.function = true, w.center, w.width, linear
		return s
	case w.kind == windowFile && f.shows.voi != nil:
		s.voi = f.shows.voi
		return s
	case w.kind == windowFile && s.window:
		return s
	case w.kind == windowFile && !p.Signed && p.BitsStored <= 8:
		s.same, s.top = true, byte(int(1)<<p.BitsStored-1)
		if f.layout.BitsAllocated > 1 {
			return s
		}
		s.same = false // single bits are black and white
	}
	low, high := p.extent(&s)
	s.window, s.center, s.width, s.function = true, low/2+high/2, high-low, linearExact
	if f.layout.BitsAllocated == 1 {
		s.center, s.width = 0.5, 1
	}
	if !(s.width > 0) {
		s.center, s.width = math.Inf(1), 1 // one value only: black
	}
	return s
}
