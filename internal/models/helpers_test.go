package models

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/sample"
)

// xray is the phantom that most tests look at; nobody writes to it.
var xray = sync.OnceValue(func() *image.Gray { return sample.XRay(512) })

// slice is a DICOM file of a CT.
var slice = sync.OnceValue(func() []byte {
	files, err := sample.CT(1, 128)
	if err != nil {
		panic(err)
	}
	return files[0]
})

func random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func encoded(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func decoded(t testing.TB, b []byte) image.Image {
	t.Helper()
	m, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// painted is a picture whose values a function gives.
func painted(width, height int, top uint16, paint func(x, y int) int) *picture {
	p := &picture{top: top, scratch: new(scratch)}
	p.size(width, height)
	for i := range p.grey {
		p.grey[i] = uint16(min(max(paint(i%width, i/width), 0), int(top)))
	}
	return p
}

// of is a picture of an 8-bit image.
func of(m *image.Gray) *picture {
	return painted(m.Rect.Dx(), m.Rect.Dy(), 0xff, func(x, y int) int { return int(m.GrayAt(x, y).Y) })
}

// enhanced sends a body through the service, without HTTP.
func enhanced(t testing.TB, body []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	if _, err := newService(Options{}).enhance(body, &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// written is a DICOM file of a few samples, after a change.
func written(t testing.TB, change func(*dicom.Image)) []byte {
	t.Helper()
	m := dicom.Image{SOPClass: dicom.ClassCT, SOPInstance: "2.25.1", StudyInstance: "2.25.2", SeriesInstance: "2.25.3",
		FrameOfReference: "2.25.4", Rows: 2, Columns: 3, Samples: []uint16{0, 824, 1024, 1064, 1264, 4095},
		RescaleSlope: 1, RescaleIntercept: -1024, WindowCenter: 40, WindowWidth: 401}
	change(&m)
	var b bytes.Buffer
	if err := dicom.WriteImage(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// bare is a PNG of one header chunk, with the rest behind it.
func bare(width, height uint32, depth, colours byte, rest ...byte) []byte {
	h := binary.BigEndian.AppendUint32(nil, width)
	h = binary.BigEndian.AppendUint32(h, height)
	h = append(h, depth, colours, 0, 0, 0)
	return append(append([]byte(pngMagic), chunk("IHDR", h)...), rest...)
}

func chunk(kind string, data []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
	b = append(append(b, kind...), data...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[4:]))
}

// colours is a picture of many colours and degrees of transparency.
func colours(w, h int) *image.NRGBA {
	m := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			m.SetNRGBA(x, y, color.NRGBA{uint8(80 + x), uint8(100 + y/2), uint8(90 + (x+y)/3), uint8(255 - x/2)})
		}
	}
	return m
}
