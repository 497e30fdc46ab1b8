package dicom

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"math/bits"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// CodeBadOffsetTable means that an offset table says other places than the fragments have.
const CodeBadOffsetTable gantry.Code = "bad_offset_table"

// Layout is how a file stores its frames (PS3.3 section C.7.6.3, PS3.5 section 8).
type Layout struct {
	Rows, Columns, Frames int
	Samples               int    // of each pixel: 1 or 3
	BitsAllocated         int    // 1, 8, 16 or 32; 64 only as Float
	BitsStored, HighBit   int    // the bits that count, and the highest of them
	Signed                bool   // two's complement of BitsStored bits
	Float                 bool   // float or double float pixel data
	Photometric           string // Photometric Interpretation, as the file says
	Planar                bool   // native colour by plane
	TransferSyntax        string
	Lossy                 bool // a lossy compression is in the history or the transfer syntax
}

// bytes is the size of one decoded value.
func (l *Layout) bytes() int { return (l.BitsAllocated + 7) / 8 }

// pixels is the number of pixels of a frame.
func (l *Layout) pixels() int { return l.Rows * l.Columns }

// size is the number of bytes of a decoded frame.
func (l *Layout) size() int { return l.pixels() * l.Samples * l.bytes() }

// piece is a run of bytes of the pixel data.
type piece struct{ at, length int64 }

// opening is the state of OpenFrames.
type opening struct {
	f          *Frames
	s          *scanner
	attributes attributes
	pixels     element // the head of native pixel data
	pixelsAt   int64
	table      piece // the Basic Offset Table
	tooMany    bool
}

// scan goes through the file. Nothing is hashed, so what is long and not looked at is not read.
func (o *opening) scan(at io.ReaderAt, size int64) error {
	file := io.NewSectionReader(at, 0, size)
	o.s = newScanner(file, size, o.f.lim.Scan)
	o.s.raw.hash, o.s.raw.seek = nil, file
	o.s.leaves = func(e element) error { return o.attributes.note(o.s, e) }
	o.s.spans = o.span
	if err := o.s.run(); err != nil {
		return err
	}
	if o.s.code.at == 0 {
		return gantry.Errorf(gantry.Illegal, CodeNoPixelData, "open frames: no pixel data")
	}
	if o.tooMany {
		return o.tooLarge("over %d fragments", o.f.lim.Frames)
	}
	return nil
}

func (o *opening) span(e element, table bool) {
	p := piece{o.s.src.pos(), e.length}
	switch {
	case !o.s.ts.encapsulated:
		o.pixels, o.pixelsAt = e, p.at
	case table:
		o.table = p
	case len(o.f.pieces) >= max(o.f.lim.Frames, 1<<16):
		o.tooMany = true
	default:
		o.f.pieces = append(o.f.pieces, p)
	}
}

func (o *opening) tooLarge(format string, args ...any) error {
	return gantry.Errorf(gantry.Illegal, gantry.CodeTooLarge, "open frames: "+format, args...)
}

// unreadable is the verdict on samples of a kind that is not decoded here.
func unreadable(what string) error {
	return gantry.Errorf(gantry.Illegal, gantry.CodeUnsupportedFormat, "frames: %s", what)
}

// layout takes what the file says about its samples and holds it against the limits.
func (o *opening) layout() error {
	in, a := o.s.info, o.attributes
	l := Layout{
		Rows: in.Rows, Columns: in.Columns, Frames: in.Frames, Samples: in.SamplesPerPixel,
		BitsAllocated: in.BitsAllocated, Photometric: in.Photometric, TransferSyntax: in.TransferSyntax,
		Float:  o.s.code.tag == tagFloatPixels || o.s.code.tag == tagDoublePixel,
		Planar: a.short(tagPlanar, 0) == 1,
		Signed: a.short(tagSigned, 0) == 1,
		Lossy:  lossySyntax(in.TransferSyntax) || a.text(tagLossy) == "01",
	}
	l.BitsStored = a.short(tagBitsStored, l.BitsAllocated)
	l.HighBit = a.short(tagHighBit, l.BitsStored-1)
	if l.Float {
		l.BitsStored, l.HighBit, l.Signed = l.BitsAllocated, l.BitsAllocated-1, true
	}
	o.f.layout = l
	if err := l.check(o.s.code.tag); err != nil {
		return err
	}
	lim := &o.f.lim
	hi, size := bits.Mul64(uint64(l.pixels()), uint64(l.Samples*l.bytes()))
	over, total := bits.Mul64(size, uint64(l.Frames))
	switch {
	case l.Frames > lim.Frames:
		return o.tooLarge("over %d frames", lim.Frames)
	case hi != 0 || size > uint64(lim.FrameBytes):
		return o.tooLarge("a frame of over %d bytes", lim.FrameBytes)
	case over != 0 || total > uint64(lim.TotalBytes):
		return o.tooLarge("frames of over %d bytes in all", lim.TotalBytes)
	}
	return nil
}

func (l *Layout) check(pixels uint32) error {
	switch {
	case l.Samples != 1 && l.Samples != 3:
		return unreadable("neither one nor three samples for each pixel")
	case l.Samples == 3 && l.BitsAllocated != 8 && l.BitsAllocated != 16:
		return unreadable("colour of neither 8 nor 16 bits")
	case l.Float && (l.BitsAllocated != 32 || pixels != tagFloatPixels) && (l.BitsAllocated != 64 || pixels != tagDoublePixel):
		return gantry.Errorf(gantry.Illegal, CodeBadValue, "frames: (0028,0100) is not that of float pixel data")
	case !l.Float && l.BitsAllocated != 1 && l.BitsAllocated != 8 && l.BitsAllocated != 16 && l.BitsAllocated != 32:
		return unreadable("samples of other than 1, 8, 16 or 32 bits")
	case l.BitsStored < 1 || l.HighBit < l.BitsStored-1 || l.HighBit >= l.BitsAllocated:
		return gantry.Errorf(gantry.Illegal, CodeBadValue, "frames: (0028,0101) and (0028,0102) do not fit (0028,0100)")
	}
	return nil
}

// inflate holds the deflated data set in memory: only so can frames be read in any order.
func (f *Frames) inflate(at io.ReaderAt, size int64) error {
	file := io.NewSectionReader(at, 0, size)
	s := newScanner(file, size, f.lim.Scan)
	if err := s.readMeta(); err != nil {
		return s.blame(err)
	}
	start := s.raw.pos()
	set, err := io.ReadAll(io.LimitReader(flate.NewReader(io.NewSectionReader(at, start, size-start)), f.lim.InflatedBytes+1))
	if err != nil {
		return fmt.Errorf("inflate: %w", err)
	}
	if int64(len(set)) > f.lim.InflatedBytes {
		return gantry.Errorf(gantry.Illegal, CodeArchiveBomb, "open frames: inflated to over %d bytes", f.lim.InflatedBytes)
	}
	f.at = bytes.NewReader(set)
	return nil
}
