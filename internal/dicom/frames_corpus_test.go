package dicom

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// decoded are the transfer syntaxes whose frames are read here.
func decodedHere(uid string) bool {
	ts, ok := syntaxOf(uid)
	if !ok || !ts.encapsulated {
		return ok
	}
	_, err := decoderOf(uid)
	return err == nil
}

// TestCorpusEveryFrame reads every frame of the corpus: their number and their values are those that
// other tools measured, and every one can be rendered.
func TestCorpusEveryFrame(t *testing.T) {
	t.Parallel()
	rows, read := corpus(t)
	digests, several := 0, 0
	for _, r := range rows {
		if r.Frames == 0 || r.Expect == "reject" {
			continue
		}
		b := read(t, r.Path)
		f, err := OpenFrames(bytes.NewReader(b), int64(len(b)), FrameLimits{})
		if !decodedHere(r.TransferSyntax) {
			if gantry.CodeOf(err) != CodeUnsupportedSyntax || gantry.KindOf(err) != gantry.Illegal {
				t.Errorf("%s: %v, want a refusal of the transfer syntax", r.Path, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v (%s)", r.Path, err, gantry.CodeOf(err))
			continue
		}
		if r.TransferSyntax == syntaxExtended { // the one in the corpus has 12 bits
			if _, err := f.Picture(context.Background(), 0); gantry.CodeOf(err) != gantry.CodeUnsupportedFormat {
				t.Errorf("%s: %v, want a refusal of the process", r.Path, err)
			}
			continue
		}
		if f.Len() != r.Frames {
			t.Errorf("%s: %d frames, want %d", r.Path, f.Len(), r.Frames)
		}
		if sum := valuesOf(t, r, f); r.Pixels != "" {
			digests++
			if sum != r.Pixels && !overlaid(b, f) {
				t.Errorf("%s: values of digest %s, want %s", r.Path, sum, r.Pixels)
			}
		}
		if r.Frames > 1 {
			several++
		}
	}
	if digests < 100 || several < 20 {
		t.Errorf("%d digests compared, %d files of several frames: too few", digests, several)
	}
	t.Logf("%d digests compared, %d files of several frames", digests, several)
}

// overlaid tells whether the native samples of a file have bits beside the stored ones, which the
// measured digest has as well, and whether the first frame has them all right but for these.
func overlaid(b []byte, f *Frames) bool {
	l := f.Layout()
	in, err := Scan(bytes.NewReader(b), int64(len(b)), DefaultLimits())
	p, bad := f.Picture(context.Background(), 0)
	if err != nil || bad != nil || in.Encapsulated || l.BitsAllocated != 16 || l.BitsStored == 16 || f.Len() > 1 {
		return false
	}
	mask, other := uint16(1)<<l.BitsStored-1, 0
	for i := range l.Rows * l.Columns {
		raw := binary.LittleEndian.Uint16(b[in.PixelOffset+int64(2*i):])
		value := binary.LittleEndian.Uint16(p.Values[2*i:])
		if raw&mask != value&mask {
			return false
		}
		if raw != value {
			other++
		}
	}
	return other > 0
}

// valuesOf decodes all frames and renders some of them.
func valuesOf(t *testing.T, r row, f *Frames) string {
	t.Helper()
	sum := sha256.New()
	var bits []byte
	for i := range f.Len() {
		p, err := f.Picture(context.Background(), i)
		if err != nil {
			t.Errorf("%s, frame %d: %v (%s)", r.Path, i, err, gantry.CodeOf(err))
			return ""
		}
		if r.Bits == 1 {
			bits = append(bits, p.Values...)
		} else {
			sum.Write(p.Values)
		}
		if i > 3 {
			continue
		}
		for _, as := range []gantry.Rendering{gantry.RenderPNG, gantry.RenderJPEG, gantry.RenderNPY} {
			if err := f.Render(context.Background(), io.Discard, i, as, Window{}); err != nil {
				t.Errorf("%s, frame %d as %s: %v (%s)", r.Path, i, as, err, gantry.CodeOf(err))
			}
		}
	}
	sum.Write(packed(bits))
	return hex.EncodeToString(sum.Sum(nil))
}

// packed puts eight values of one bit into a byte, the first one lowest.
func packed(bits []byte) []byte {
	b := make([]byte, (len(bits)+7)/8)
	for i, v := range bits {
		b[i/8] |= v << (i % 8)
	}
	return b
}
