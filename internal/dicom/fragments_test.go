package dicom

import (
	"context"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// packBits encodes a segment of RLE: runs of three and more, the rest as it is.
func packBits(b []byte) []byte {
	var out []byte
	for i := 0; i < len(b); {
		run := 1
		for i+run < len(b) && run < 128 && b[i+run] == b[i] {
			run++
		}
		if run > 2 {
			out = append(out, byte(257-run), b[i])
		} else {
			run = 1
			out = append(out, 0, b[i])
		}
		i += run
	}
	if len(out)%2 == 1 {
		out = append(out, 0x80) // no operation
	}
	return out
}

// rleFrame encodes planes of bytes.
func rleFrame(planes ...[]byte) []byte {
	o := binary.LittleEndian
	head := o.AppendUint32(nil, uint32(len(planes)))
	var body []byte
	for _, p := range planes {
		head = o.AppendUint32(head, uint32(rleHead+len(body)))
		body = append(body, packBits(p)...)
	}
	return append(append(head, make([]byte, rleHead-len(head))...), body...)
}

// encapsulated is an image of 2 x 2 and 8 bits with the given fragments.
func encapsulated(ts string, frames int, table []byte, fragments ...[]byte) spec {
	s := image2(8, frames, nil, nil)
	s.ts, s.raw = ts, map[uint32][]byte{tagPixelData: encap(table, fragments...)}
	return s
}

// table32 is a Basic Offset Table.
func table32(at ...uint32) []byte {
	var b []byte
	for _, n := range at {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	return b
}

// table64 is an Extended Offset Table.
func table64(at ...uint64) val {
	v := val{"OV", nil}
	for _, n := range at {
		v.b = binary.LittleEndian.AppendUint64(v.b, n)
	}
	return v
}

// TestFragments puts frames together from fragments in each way that there is. Fragments of 8 + 2
// bytes begin 10 bytes from each other.
func TestFragments(t *testing.T) {
	t.Parallel()
	half := [][]byte{{1, 2}, {3, 4}, {5, 6}, {7, 8}, {9, 10}, {11, 12}}
	extended := encapsulated(syntaxFragments, 3, nil, half...)
	extended.set[tagOffsets] = table64(0, 20, 40)
	both := encapsulated(syntaxFragments, 3, table32(0, 10, 20), half...)
	both.set[tagOffsets] = table64(0, 20, 40)
	for name, c := range map[string]struct {
		file spec
		want []int // of the last frame
	}{
		"one each":                   {encapsulated(syntaxFragments, 2, nil, []byte{1, 2, 3, 4}, []byte{5, 6, 7, 8}), []int{5, 6, 7, 8}},
		"one each, wrong table":      {encapsulated(syntaxFragments, 2, table32(0, 2), []byte{1, 2, 3, 4}, []byte{5, 6, 7, 8}), []int{5, 6, 7, 8}},
		"one of all":                 {encapsulated(syntaxFragments, 1, table32(0), half[:2]...), []int{1, 2, 3, 4}},
		"basic table":                {encapsulated(syntaxFragments, 3, table32(0, 20, 40), half...), []int{9, 10, 11, 12}},
		"extended table":             {extended, []int{9, 10, 11, 12}},
		"extended before basic":      {both, []int{9, 10, 11, 12}},
		"frames of several lengths":  {encapsulated(syntaxFragments, 2, table32(0, 40), half...), []int{9, 10, 11, 12}},
		"RLE":                        {encapsulated(syntaxRLE, 2, nil, rleFrame([]byte{7, 7, 7, 7}), rleFrame([]byte{1, 2, 2, 3})), []int{1, 2, 2, 3}},
		"RLE, the offsets are of it": {encapsulated(syntaxRLE, 2, table32(0, 76), rleFrame([]byte{7, 7, 7, 7}), rleFrame([]byte{9, 9, 9, 9})), []int{9, 9, 9, 9}},
	} {
		f := opened(t, c.file)
		if got := values(t, f, f.Len()-1); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestFragmentsByStream splits JPEG frames of two fragments without any table.
func TestFragmentsByStream(t *testing.T) {
	t.Parallel()
	a, b := greyJPEG(t, 2, 2, 40), greyJPEG(t, 2, 2, 200)
	cut := len(a) / 2 &^ 1
	padded := append(slices.Clone(b), 0)[:(len(b)+1)&^1]
	f := opened(t, encapsulated(syntaxBaseline, 2, nil, a[:cut], a[cut:], padded[:cut], padded[cut:]))
	for i, want := range []int{40, 200} {
		if got := values(t, f, i); max(got[0]-want, want-got[0]) > 2 {
			t.Errorf("frame %d: %v, want about %d", i, got, want)
		}
	}
	refusedFrames(t, "three of two", encapsulated(syntaxBaseline, 3, nil, a[:cut], a[cut:], padded[:cut], padded[cut:]), FrameLimits{}, CodePixelSize)
	refusedFrames(t, "no end", encapsulated(syntaxBaseline, 2, nil, a[:cut], padded[:cut], padded[cut:]), FrameLimits{}, CodePixelSize)
	refusedFrames(t, "RLE cannot be told apart", encapsulated(syntaxRLE, 2, nil, rleFrame([]byte{1, 2, 3, 4}), rleFrame([]byte{1, 2, 3, 4}),
		rleFrame([]byte{1, 2, 3, 4})), FrameLimits{}, CodePixelSize)
}

// TestOffsetTables refuses tables that are not true where they are needed.
func TestOffsetTables(t *testing.T) {
	t.Parallel()
	half := [][]byte{{1, 2}, {3, 4}, {5, 6}, {7, 8}}
	for name, table := range map[string][]byte{
		"not from 0": table32(10, 20), "no fragment there": table32(0, 12), "the same twice": table32(0, 0), "backwards": table32(20, 0),
		"past the end": table32(0, 40), "far past the end": table32(0, 0xfffffff0), "one too few": table32(0), "one too many": table32(0, 10, 20),
	} {
		refusedFrames(t, name, encapsulated(syntaxFragments, 2, table, half...), FrameLimits{}, CodeBadOffsetTable)
	}
	for name, table := range map[string]val{
		"extended, past 63 bits": table64(0, 1<<63), "extended, wraps round": table64(0, 1<<64-10), "extended, one": table64(0),
		"extended, odd length": {"OV", make([]byte, 12)},
	} {
		s := encapsulated(syntaxFragments, 2, table32(0, 20), half...)
		s.set[tagOffsets] = table
		refusedFrames(t, name, s, FrameLimits{}, CodeBadOffsetTable)
	}
}

// TestManyFragments bounds their number.
func TestManyFragments(t *testing.T) {
	t.Parallel()
	fragments := make([][]byte, 1<<16)
	refusedFrames(t, "65,537", encapsulated(syntaxFragments, 1, nil, append(fragments, []byte{1, 2})...), FrameLimits{Frames: 1}, gantry.CodeTooLarge)
	f := opened(t, encapsulated(syntaxFragments, 1, nil, append(fragments[1:], []byte{1, 2, 3, 4})...))
	if p, err := f.Picture(context.Background(), 0); err != nil || !slices.Equal(p.Values, []byte{1, 2, 3, 4}) {
		t.Errorf("65,536: %v", err)
	}
}
