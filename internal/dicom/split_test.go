package dicom

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/iotest"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// split reads a file to its end.
func split(b []byte, wrap func(io.Reader) io.Reader) (Object, []byte, error) {
	o, data, err := Split(wrap(bytes.NewReader(b)))
	if err != nil {
		return o, nil, err
	}
	rest, err := io.ReadAll(data)
	return o, rest, err
}

// languages is a sequence that stands before the UIDs, in itself.
func languages(levels int) []byte {
	up := append(ex(0x00080006, val{"SQ", nil}, undefined), head(tagItem, undefined)...)
	down := append(head(tagItemEnd, 0), head(tagSeqEnd, 0)...)
	return append(bytes.Repeat(up, levels), bytes.Repeat(down, levels)...)
}

func TestSplit(t *testing.T) {
	t.Parallel()
	plain := func(r io.Reader) io.Reader { return r }
	for _, ts := range []string{syntaxImplicit, syntaxExplicit, syntaxBig, syntaxDeflated} {
		for name, wrap := range map[string]func(io.Reader) io.Reader{"at once": plain, "bytes": iotest.OneByteReader, "end with data": iotest.DataErrReader} {
			for _, pixels := range []int{32, 300_000, 3 << 20} {
				s := spec{ts: ts, meta: "2.25.1", class: "1.2.3", set: map[uint32]val{tagPixelData: {"OW", bytesTo(pixels)}}}
				body := s.body(ts)
				o, rest, err := split(s.bytes(), wrap)
				want := Object{Class: ClassSecondaryCapture, Instance: goodUID, Transfer: ts, At: int64(len(s.bytes()) - len(body))}
				if err != nil || o != want || !bytes.Equal(rest, body) {
					t.Errorf("%s, %s, %d: %v, %v, %d bytes, want %d", ts, name, pixels, o, err, len(rest), len(body))
				}
			}
		}
	}
}

func TestSplitRefuses(t *testing.T) {
	t.Parallel()
	long := bytes.Repeat([]byte("x "), maxSplit/2)
	for name, c := range map[string]struct {
		b    []byte
		code gantry.Code
	}{
		"nothing":           {nil, gantry.CodeEmpty},
		"no file":           {bytes.Repeat([]byte("no"), 200), CodeNotDICOM},
		"no syntax":         {spec{ts: "-"}.bytes(), CodeMissingSyntax},
		"a syntax of none":  {spec{ts: "1.2.3.4"}.header("1.2.3.4"), CodeUnsupportedSyntax},
		"no class":          {spec{drop: []uint32{tagClass}}.bytes(), CodeMissingUID},
		"no instance":       {spec{drop: []uint32{tagInstance}}.bytes(), CodeMissingUID},
		"hostile instance":  {spec{set: map[uint32]val{tagInstance: str("UI", "../../etc/passwd")}}.bytes(), CodeBadUID},
		"a long instance":   {spec{set: map[uint32]val{tagInstance: {"UI", bytes.Repeat([]byte("1"), 300)}}}.bytes(), CodeBadUID},
		"cut in its meta":   {spec{}.bytes()[:200], gantry.CodeTruncated},
		"too much before":   {spec{set: map[uint32]val{0x00080001: {"UN", long}}}.bytes(), gantry.CodeTooLarge},
		"a directory":       {spec{class: classDirectory, drop: []uint32{tagClass, tagInstance}}.bytes(), CodeMissingUID},
		"nested too deeply": {spec{raw: map[uint32][]byte{0x00080006: languages(40)}}.bytes(), CodeTooDeep},
	} {
		if _, _, err := split(c.b, func(r io.Reader) io.Reader { return r }); gantry.KindOf(err) != gantry.Illegal || gantry.CodeOf(err) != c.code {
			t.Errorf("%s: %v (%s), want %s", name, err, gantry.CodeOf(err), c.code)
		}
	}
}

// TestSplitPasses shows that an error of the reader comes out as it is, wherever it happens.
func TestSplitPasses(t *testing.T) {
	t.Parallel()
	errMine := errors.New("mine")
	b := spec{set: map[uint32]val{tagPixelData: {"OW", bytesTo(200_000)}}}.bytes()
	for _, at := range []int{0, 1, 131, 300, 600, 70_000, len(b) - 1, len(b)} {
		r := io.MultiReader(bytes.NewReader(b[:at]), iotest.ErrReader(errMine))
		_, data, err := Split(r)
		if err == nil {
			_, err = io.ReadAll(data)
		}
		if !errors.Is(err, errMine) {
			t.Errorf("after %d bytes: %v", at, err)
		}
	}
}

func TestCorpusSplit(t *testing.T) {
	t.Parallel()
	rows, read := corpus(t)
	seen := 0
	for _, r := range rows {
		if r.Kind != "dicom" || r.Expect != "accept" {
			continue
		}
		b := read(t, r.Path)
		o, rest, err := split(b, func(r io.Reader) io.Reader { return r })
		if err != nil || !bytes.HasSuffix(b, rest) || o.Transfer != r.TransferSyntax || o.Class != r.SOPClass {
			t.Errorf("%s: %v, %d of %d bytes", r.Path, err, len(rest), len(b))
		}
		seen++
	}
	if seen < 100 {
		t.Errorf("%d files", seen)
	}
}

// FuzzSplit holds Split to this: what it takes, it takes apart without losing or adding a byte, and within its bounds.
func FuzzSplit(f *testing.F) {
	for _, ts := range []string{syntaxImplicit, syntaxExplicit, syntaxBig, syntaxDeflated} {
		f.Add(spec{ts: ts}.bytes())
	}
	f.Add(spec{raw: map[uint32][]byte{0x00080006: languages(20)}}.bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		o, rest, err := split(b, func(r io.Reader) io.Reader { return r })
		if err != nil {
			if gantry.KindOf(err) != gantry.Illegal {
				t.Fatal(fmt.Errorf("%w: %s", err, gantry.KindOf(err)))
			}
			return
		}
		if !bytes.HasSuffix(b, rest) || len(rest) >= len(b) || !ValidUID(o.Class) || !ValidUID(o.Instance) {
			t.Fatal("what was split is not what came")
		}
	})
}
