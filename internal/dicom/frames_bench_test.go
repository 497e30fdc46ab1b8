package dicom

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// slices512 is a file of frames of 512 x 512 of 12 bits, smooth with some noise, as CT is.
func slices512(frames int) []byte {
	px := make([]byte, 0, frames*512*512*2)
	noise := uint32(1)
	for n := range frames {
		for y := range 512 {
			for x := range 512 {
				noise = noise*1664525 + 1013904223
				v := uint16(1000+n*8+x+y) + uint16(noise>>28)
				if x*x/64+y*y/64 < 500 {
					v = 0
				}
				px = binary.LittleEndian.AppendUint16(px, v)
			}
		}
	}
	s := spec{set: map[uint32]val{tagRows: short(512), tagColumns: short(512), tagFrames: str("IS", "8"),
		tagBitsStored: short(12), tagHighBit: short(11), tagCenter: str("DS", "1200"), tagWidth: str("DS", "900"),
		tagPixelData: {"OW", px}}}
	return s.bytes()
}

// BenchmarkFrames renders frames of 512 x 512 of 16 bits on all processors; run it with -cpu 1,2.
func BenchmarkFrames(b *testing.B) {
	file := slices512(8)
	f, err := OpenFrames(bytes.NewReader(file), int64(len(file)), FrameLimits{})
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		as     gantry.Rendering
		window string
	}{{"png", gantry.RenderPNG, "file"}, {"png full", gantry.RenderPNG, "full"}, {"png stored", gantry.RenderPNG, "stored"},
		{"jpeg", gantry.RenderJPEG, "file"}, {"npy", gantry.RenderNPY, "file"}} {
		w, err := ParseWindow(c.window)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(512 * 512 * 2)
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					if err := f.Render(context.Background(), io.Discard, i%f.Len(), c.as, w); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

// BenchmarkOpenFrames opens a file of 1,000 frames.
func BenchmarkOpenFrames(b *testing.B) {
	px := make([]byte, 1000*64*64)
	file := spec{set: map[uint32]val{tagRows: short(64), tagColumns: short(64), tagFrames: str("IS", "1000"), tagBits: short(8),
		tagBitsStored: short(8), tagHighBit: short(7), tagPixelData: {"OB", px}}}.bytes()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := OpenFrames(bytes.NewReader(file), int64(len(file)), FrameLimits{}); err != nil {
			b.Fatal(err)
		}
	}
}
