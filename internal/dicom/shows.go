package dicom

import (
	"encoding/binary"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// maxSegments is the most that a palette in segments may have, in bytes: each entry by itself.
const maxSegments = 6 << 16

// show is how stored values become grey (PS3.3 sections C.11.1 and C.11.2).
type show struct {
	slope, intercept float64
	window           bool
	center, width    float64
	function         string // LINEAR, LINEAR_EXACT or SIGMOID
}

// shows is how all frames are shown.
type shows struct {
	all      show
	frames   map[int]show // those that have functional groups of their own, by number from 0
	modality *lut         // in the place of slope and intercept
	voi      *lut         // in the place of a window
}

// of is how frame i is shown.
func (s *shows) of(i int) show {
	if own, ok := s.frames[i]; ok {
		return own
	}
	return s.all
}

// look takes what the file says about showing its frames. The functional groups of one frame go
// before those of all, and these before the data set itself.
func (o *opening) look() (err error) {
	a, s := o.attributes, &o.f.shows
	s.all = show{slope: 1}
	if err = a.rescaling(place{}, &s.all); err == nil {
		err = a.window(place{}, &s.all)
	}
	if err == nil {
		err = a.group(shared, &s.all)
	}
	if err != nil {
		return err
	}
	s.frames = map[int]show{}
	for p := range a {
		if _, done := s.frames[p.frame-1]; p.frame < 1 || p.frame > o.f.layout.Frames || done {
			continue
		}
		own := s.all
		if err := a.group(p.frame, &own); err != nil {
			return err
		}
		s.frames[p.frame-1] = own
	}
	if s.modality, err = o.lookup(tagModalityLUT); err != nil {
		return err
	}
	if s.voi, err = o.lookup(tagVOILUT); err != nil {
		return err
	}
	return o.colours()
}

// group overlays what the functional groups of a frame say.
func (a attributes) group(frame int, s *show) error {
	if err := a.rescaling(place{frame: frame, within: tagTransformation}, s); err != nil {
		return err
	}
	return a.window(place{frame: frame, within: tagFrameVOI}, s)
}

// rescaling overlays slope and intercept, where they are.
func (a attributes) rescaling(at place, s *show) error {
	for tag, to := range map[uint32]*float64{tagSlope: &s.slope, tagIntercept: &s.intercept} {
		at.tag = tag
		x, there, err := a.decimal(at)
		if err != nil {
			return err
		}
		if there {
			*to = x
		}
	}
	return nil
}

// window overlays the first window, where there is a whole one. A width below what its function
// allows means none.
func (a attributes) window(at place, s *show) error {
	at.tag = tagCenter
	center, there, err := a.decimal(at)
	if err != nil {
		return err
	}
	at.tag = tagWidth
	width, both, err := a.decimal(at)
	if err != nil {
		return err
	}
	at.tag = tagFunction
	function := a.textAt(at)
	if function == "" {
		function = linear
	}
	if function != linear && function != linearExact && function != sigmoid {
		return refuse(CodeBadValue, tagFunction, a[at].at, "no function of this name")
	}
	if there && both && (width >= 1 || width > 0 && function != linear) {
		s.window, s.center, s.width, s.function = true, center, width, function
	}
	return nil
}

// lut is a lookup table (PS3.3 section C.11.1.1.1).
type lut struct {
	first   int // the value of the first entry
	entries []uint16
	bits    int // of each entry
}

// at is the entry of a value; what is outside takes the nearest one.
func (t *lut) at(x int) uint16 {
	return t.entries[min(max(x-t.first, 0), len(t.entries)-1)]
}

// lookup reads the table of the first item of a sequence; nil if there is none.
func (o *opening) lookup(within uint32) (*lut, error) {
	shape, ok := o.attributes[place{within: within, tag: tagLUTShape}]
	data, filled := o.attributes[place{within: within, tag: tagLUTData}]
	if !ok || !filled {
		return nil, nil
	}
	return o.f.lut(shape, data)
}

// lut reads a table: its descriptor has the number of entries, the first value and the bits.
func (f *Frames) lut(shape, data field) (*lut, error) {
	t, n, err := f.shape(shape)
	if err != nil {
		return nil, err
	}
	packed := data.length < int64(2*n) // two entries of 8 bits in each word
	if packed && (t.bits > 8 || data.length < int64(n)) {
		return nil, badLUT()
	}
	size := int64(2 * n)
	if packed {
		size = min(int64(n+n%2), data.length)
	}
	b, err := f.entries(data, size)
	if err != nil {
		return nil, err
	}
	if !packed {
		t.entries = words(b)
		return t, nil
	}
	t.entries = make([]uint16, n)
	for i := range t.entries {
		t.entries[i] = uint16(b[i])
	}
	return t, nil
}

// segmentedLUT reads a table of 16 bits that is stored in segments.
func (f *Frames) segmentedLUT(shape, data field) (*lut, error) {
	t, n, err := f.shape(shape)
	if err != nil {
		return nil, err
	}
	if t.bits != 16 {
		return nil, unreadable("a palette of 8 bits in segments")
	}
	if data.length > maxSegments {
		return nil, badSegments()
	}
	b, err := f.entries(data, data.length&^1)
	if err != nil {
		return nil, err
	}
	t.entries, err = segmented(words(b), n)
	return t, err
}

// shape reads a descriptor.
func (f *Frames) shape(shape field) (t *lut, n int, err error) {
	if len(shape.head) < 6 {
		return nil, 0, badLUT()
	}
	o := shape.order()
	t = &lut{first: int(o.Uint16(shape.head[2:])), bits: int(o.Uint16(shape.head[4:]))}
	if n = int(o.Uint16(shape.head)); n == 0 {
		n = 1 << 16
	}
	if f.layout.Signed || shape.vr == vrSS {
		t.first = int(int16(t.first))
	}
	if t.bits < 8 || t.bits > 16 {
		return nil, 0, badLUT()
	}
	return t, n, nil
}

func badLUT() error {
	return gantry.Errorf(gantry.Illegal, CodeBadValue, "frames: a lookup table of another size than it says")
}

// entries reads the first size bytes of a table.
func (f *Frames) entries(data field, size int64) ([]byte, error) {
	b, err := f.read(nil, size, data.at)
	if err == nil && data.big && data.vr != vrOB {
		swapUnits(b, 2)
	}
	return b, err
}

func words(b []byte) []uint16 {
	w := make([]uint16, len(b)/2)
	for i := range w {
		w[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return w
}
