package dicom

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func grey(rows, columns, bits int) *Layout {
	return &Layout{Rows: rows, Columns: columns, Frames: 1, Samples: 1, BitsAllocated: bits, BitsStored: bits, HighBit: bits - 1, Photometric: monochrome2}
}

func TestRLE(t *testing.T) {
	t.Parallel()
	rgb := grey(1, 3, 8)
	rgb.Samples = 3
	deep := grey(1, 2, 16)
	deep.Samples = 3
	for name, c := range map[string]struct {
		l      *Layout
		stream []byte
		want   []byte
	}{
		"8 bit":           {grey(2, 3, 8), rleFrame([]byte{1, 1, 1, 1, 2, 3}), []byte{1, 1, 1, 1, 2, 3}},
		"16 bit":          {grey(1, 3, 16), rleFrame([]byte{1, 2, 3}, []byte{4, 5, 6}), []byte{4, 1, 5, 2, 6, 3}},
		"32 bit":          {grey(1, 2, 32), rleFrame([]byte{1, 2}, []byte{3, 4}, []byte{5, 6}, []byte{7, 8}), []byte{7, 5, 3, 1, 8, 6, 4, 2}},
		"RGB":             {rgb, rleFrame([]byte{1, 2, 3}, []byte{4, 5, 6}, []byte{7, 8, 9}), []byte{1, 4, 7, 2, 5, 8, 3, 6, 9}},
		"RGB of 16":       {deep, rleFrame([]byte{1, 2}, []byte{3, 4}, []byte{5, 6}, []byte{7, 8}, []byte{9, 10}, []byte{11, 12}), []byte{3, 1, 7, 5, 11, 9, 4, 2, 8, 6, 12, 10}},
		"literal of 3":    {grey(1, 3, 8), append(rleFrame()[:0], rleRaw(2, 7, 8, 9)...), []byte{7, 8, 9}},
		"more than there": {grey(1, 3, 8), rleRaw(0x81, 5), []byte{5, 5, 5}},
		"literal over":    {grey(1, 3, 8), rleRaw(4, 1, 2, 3, 4, 5), []byte{1, 2, 3}},
	} {
		got, err := decodeRLE(nil, c.stream, c.l, FrameLimits{})
		if err != nil || !slices.Equal(got.values, c.want) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, c.want)
		}
	}
}

// rleRaw is a frame of one segment.
func rleRaw(segment ...byte) []byte {
	head := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, 1), rleHead)
	return append(append(head, make([]byte, rleHead-8)...), segment...)
}

func TestRLERefuses(t *testing.T) {
	t.Parallel()
	two := rleFrame([]byte{1, 2}, []byte{3, 4})
	moved := func(second uint32) []byte {
		b := slices.Clone(two)
		binary.LittleEndian.PutUint32(b[8:], second)
		return b
	}
	colours := grey(2, 2, 32)
	colours.Samples = 4
	for name, c := range map[string]struct {
		l      *Layout
		stream []byte
		code   gantry.Code
	}{
		"nothing":             {grey(1, 2, 16), nil, gantry.CodeMalformed},
		"half a head":         {grey(1, 2, 16), two[:63], gantry.CodeMalformed},
		"other segments":      {grey(1, 2, 8), two, gantry.CodeMalformed},
		"into the head":       {grey(1, 2, 16), moved(10), CodeLengthOutOfBounds},
		"past the end":        {grey(1, 2, 16), moved(1000), CodeLengthOutOfBounds},
		"4 GiB away":          {grey(1, 2, 16), moved(0xffffffff), CodeLengthOutOfBounds},
		"short":               {grey(1, 3, 16), two, gantry.CodeTruncated},
		"literal cut":         {grey(1, 9, 8), rleRaw(8, 1, 2, 3), gantry.CodeTruncated},
		"run cut":             {grey(1, 9, 8), rleRaw(0xf0), gantry.CodeTruncated},
		"only no operations":  {grey(1, 1, 8), rleRaw(0x80, 0x80, 0x80), gantry.CodeTruncated},
		"65535 x 65535 of 70": {grey(65535, 65535, 8), rleRaw(0x81, 1), gantry.CodeTruncated},
		"single bits":         {grey(8, 8, 1), rleRaw(0x81, 1), gantry.CodeUnsupportedFormat},
		"16 planes":           {colours, rleRaw(0x81, 1), gantry.CodeUnsupportedFormat},
	} {
		if _, err := decodeRLE(nil, c.stream, c.l, FrameLimits{}); gantry.CodeOf(err) != c.code || gantry.KindOf(err) != gantry.Illegal {
			t.Errorf("%s: %v (%s), want %s", name, err, gantry.CodeOf(err), c.code)
		}
	}
}

// TestRLEMemory: a stream that says much and has little costs nothing. 4 GiB would be needed.
func TestRLEMemory(t *testing.T) {
	stream := rleRaw(0x81, 1)
	l := grey(65535, 65535, 8)
	if n := testing.AllocsPerRun(10, func() { _, _ = decodeRLE(nil, stream, l, FrameLimits{}) }); n > 10 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzRLE(f *testing.F) {
	f.Add(uint8(2), uint8(3), uint8(0), rleFrame([]byte{1, 1, 1, 1, 2, 3}))
	f.Add(uint8(1), uint8(3), uint8(1), rleFrame([]byte{1, 2, 3}, []byte{4, 5, 6}))
	f.Add(uint8(1), uint8(3), uint8(2), rleFrame([]byte{1, 2, 3}, []byte{4, 5, 6}, []byte{1, 2, 3}))
	f.Fuzz(func(t *testing.T, rows, columns, kind uint8, stream []byte) {
		l := grey(int(rows)+1, int(columns)+1, []int{8, 16, 8, 32}[kind%4])
		if kind%4 == 2 {
			l.Samples = 3
		}
		got, err := decodeRLE(nil, stream, l, FrameLimits{})
		switch {
		case err != nil && gantry.KindOf(err) != gantry.Illegal:
			t.Fatalf("%v", err)
		case err == nil && len(got.values) != l.size():
			t.Fatalf("%d bytes, want %d", len(got.values), l.size())
		}
	})
}
