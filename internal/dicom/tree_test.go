package dicom

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// tree makes random data sets: the same content whatever the encoding.
type tree struct {
	implicit bool
	shape    *rand.Rand // what stands in the data set
	lengths  *rand.Rand // which lengths are given and which are open
}

func (g *tree) el(tag uint32, v val, length ...uint32) []byte {
	return el(false, g.implicit, tag, v, length...)
}

// sequence is one with up to three items, each a data set of its own.
func (g *tree) sequence(tag uint32, depth int) []byte {
	var items [][]byte
	for range g.shape.IntN(4) {
		items = append(items, it(g.lengths.IntN(2) == 0, g.dataset(depth-1)))
	}
	b := slices.Concat(items...)
	if g.lengths.IntN(2) == 0 {
		return slices.Concat(g.el(tag, val{"SQ", nil}, undefined), b, head(tagSeqEnd, 0))
	}
	return g.el(tag, val{"SQ", b})
}

// dataset is a few elements in ascending order, all in the standard's dictionary so that they
// have a VR without one in the file.
func (g *tree) dataset(depth int) []byte {
	var out []byte
	for _, tag := range []uint32{0x00080100, 0x00080104, 0x00081140, 0x00081199, 0x0040a043, 0x0040a730} {
		switch {
		case g.shape.IntN(3) == 0:
		case tag == 0x00080100:
			out = append(out, g.el(tag, str("SH", "CODE"))...)
		case tag == 0x00080104:
			out = append(out, g.el(tag, str("LO", string(bytes.Repeat([]byte{'m'}, g.shape.IntN(60)))))...)
		case depth > 0:
			out = append(out, g.sequence(tag, depth)...)
		}
	}
	return out
}

// file is the sound image with random sequences.
func (g *tree) file(depth int) []byte {
	s := spec{raw: map[uint32][]byte{}}
	if g.implicit {
		s.ts = syntaxImplicit
	}
	for _, tag := range []uint32{0x00081140, 0x0040a043, 0x0040a730} {
		s.raw[tag] = g.sequence(tag, depth)
	}
	return s.bytes()
}

func grow(seed uint64, implicit bool, lengths uint64) *tree {
	return &tree{implicit: implicit, shape: rand.New(rand.NewPCG(seed, 0)), lengths: rand.New(rand.NewPCG(seed, lengths))}
}

// Sound trees are accepted in every encoding of their lengths, and say the same.
func TestTrees(t *testing.T) {
	t.Parallel()
	inner := 0
	for seed := range uint64(150) {
		var want map[string]string
		for k := range uint64(4) {
			b := grow(seed, k%2 == 1, k).file(4)
			inner += len(b)
			in, err := Scan(bytes.NewReader(b), int64(len(b)), DefaultLimits())
			if err != nil || len(in.Warnings) > 0 || in.PixelLength != 32 {
				t.Fatalf("seed %d, encoding %d: %v, %+v", seed, k, err, in)
			}
			got := tags(t, b)
			delete(got, keywordSyntax)
			if want == nil {
				want = got
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("seed %d, encoding %d:\n%s", seed, k, d)
			}
		}
	}
	if inner < 1_000_000 {
		t.Errorf("only %d bytes of trees", inner)
	}
}

// No tree is accepted when it is cut, wherever that is.
func TestTreesCut(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		b := grow(seed, seed%2 == 1, seed).file(3)
		for n := 0; n < len(b); n += 3 {
			if _, err := cutAt(b, n); gantry.KindOf(err) != gantry.Illegal {
				t.Fatalf("seed %d cut at %d of %d: %v", seed, n, len(b), err)
			}
		}
	}
}

// Bytes taken out of the middle or put in shift all that follows: whatever comes of it, the walk
// ends, and what it accepts the rest of the package can read.
func TestTreesShifted(t *testing.T) {
	t.Parallel()
	refused := 0
	for seed := range uint64(8) {
		b := grow(seed, seed%2 == 1, seed).file(3)
		for at := 300; at < len(b); at += 17 {
			for _, c := range [][]byte{slices.Delete(slices.Clone(b), at, min(at+2, len(b))), slices.Insert(slices.Clone(b), at, 0, 0)} {
				readAll(t, c)
				if _, err := cutAt(c, len(c)); err != nil {
					refused++
				}
			}
		}
	}
	if refused < 100 {
		t.Errorf("%d refused, want at least 100", refused)
	}
}
