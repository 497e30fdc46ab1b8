package dicom

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// maxSamples bounds the memory of one frame: 128 MiB.
const maxSamples = 64 << 20

// Pixels is the one frame of a greyscale image (PS3.3 section C.7.6.3).
type Pixels struct {
	Rows, Columns int
	BitsStored    int      // of each sample, 1 to 16
	Signed        bool     // samples are two's complement of BitsStored bits
	Samples       []uint16 // row by row, only the stored bits
	Photometric   string   // MONOCHROME1 or MONOCHROME2

	RescaleSlope     float64 // 1 if the file has none
	RescaleIntercept float64
	Window           bool // the file has a window; the first of several
	WindowCenter     float64
	WindowWidth      float64
}

// Stored is sample i as the file means it, with its sign.
func (p *Pixels) Stored(i int) int {
	n := int(p.Samples[i])
	if p.Signed && n>>(p.BitsStored-1) != 0 {
		n -= 1 << p.BitsStored
	}
	return n
}

// Value is sample i after rescaling: Hounsfield units for CT (PS3.3 section C.11.1.1.2).
func (p *Pixels) Value(i int) float64 {
	return float64(p.Stored(i))*p.RescaleSlope + p.RescaleIntercept
}

// Frame reads the samples of a DICOM file of size bytes that holds one uncompressed greyscale
// frame of 8 or 16 bits. It scans the file first and refuses what Scan refuses; any other layout
// is a Permanent error with code unsupported_format.
func Frame(r io.ReaderAt, size int64) (*Pixels, error) {
	in, err := Scan(io.NewSectionReader(r, 0, size), size, DefaultLimits())
	if err != nil {
		return nil, err
	}
	if err := in.oneGreyFrame(); err != nil {
		return nil, err
	}
	tags, err := Tags(io.NewSectionReader(r, 0, size), size)
	if err != nil {
		return nil, err
	}
	p := &Pixels{Rows: in.Rows, Columns: in.Columns, Photometric: in.Photometric}
	if err := p.describe(tags, in.BitsAllocated); err != nil {
		return nil, err
	}
	n := in.Rows * in.Columns
	raw := make([]byte, n*in.BitsAllocated/8)
	if _, err := io.ReadFull(io.NewSectionReader(r, in.PixelOffset, int64(len(raw))), raw); err != nil {
		return nil, fmt.Errorf("read pixels at byte %d: %w", in.PixelOffset, err)
	}
	p.Samples = make([]uint16, n)
	p.fill(raw, in.BitsAllocated, in.TransferSyntax == syntaxBig)
	return p, nil
}

func (in *Info) oneGreyFrame() error {
	grey := in.Photometric == "MONOCHROME1" || in.Photometric == "MONOCHROME2"
	switch {
	case in.Encapsulated:
		return unsupported("compressed pixel data")
	case in.PixelOffset < 0:
		return unsupported("no pixel data, or in a deflated data set")
	case in.Frames != 1:
		return unsupported("several frames")
	case in.SamplesPerPixel != 1 || !grey:
		return unsupported("not greyscale")
	case in.BitsAllocated != 8 && in.BitsAllocated != 16:
		return unsupported("samples of neither 8 nor 16 bits")
	case in.ModalityLUT:
		return unsupported("a modality lookup table")
	case in.BitsAllocated == 8 && in.TransferSyntax == syntaxBig: // bytes may be swapped in words or not
		return unsupported("8-bit samples in big endian")
	case in.Rows*in.Columns > maxSamples:
		return unsupported("too many samples in a frame")
	}
	return nil
}

func unsupported(what string) error {
	return gantry.Errorf(gantry.Permanent, gantry.CodeUnsupportedFormat, "pixels: %s", what)
}

// describe takes what the tags say about the samples.
func (p *Pixels) describe(tags map[string]string, allocated int) error {
	stored, err := number(tags, "BitsStored", float64(allocated))
	if err != nil {
		return err
	}
	high, err := number(tags, "HighBit", stored-1)
	if err != nil {
		return err
	}
	if stored < 1 || stored > float64(allocated) || high != stored-1 {
		return unsupported("stored bits that are not the lowest")
	}
	p.BitsStored, p.Signed = int(stored), tags["PixelRepresentation"] == "1"
	if p.RescaleSlope, err = number(tags, "RescaleSlope", 1); err != nil {
		return err
	}
	if p.RescaleIntercept, err = number(tags, "RescaleIntercept", 0); err != nil {
		return err
	}
	if tags["WindowCenter"] == "" || tags["WindowWidth"] == "" {
		return nil
	}
	p.Window = true
	if p.WindowCenter, err = number(tags, "WindowCenter", 0); err != nil {
		return err
	}
	p.WindowWidth, err = number(tags, "WindowWidth", 0)
	return err
}

// number is the first value of a tag.
func number(tags map[string]string, keyword string, without float64) (float64, error) {
	t, _, _ := strings.Cut(tags[keyword], `\`)
	if t = strings.TrimSpace(t); t == "" {
		return without, nil
	}
	n, err := strconv.ParseFloat(t, 64)
	if err != nil || math.IsInf(n, 0) || math.IsNaN(n) {
		return 0, gantry.Errorf(gantry.Illegal, CodeBadValue, "pixels: %s is no number", keyword)
	}
	return n, nil
}

// fill takes the samples from their bytes. Bits above the stored ones may hold an old overlay
// (PS3.5 section 8.1.1) and are dropped.
func (p *Pixels) fill(raw []byte, allocated int, big bool) {
	mask := uint16(1<<p.BitsStored - 1)
	switch {
	case allocated == 8:
		for i, b := range raw {
			p.Samples[i] = uint16(b) & mask
		}
	case big:
		for i := range p.Samples {
			p.Samples[i] = binary.BigEndian.Uint16(raw[2*i:]) & mask
		}
	default:
		for i := range p.Samples {
			p.Samples[i] = binary.LittleEndian.Uint16(raw[2*i:]) & mask
		}
	}
}
