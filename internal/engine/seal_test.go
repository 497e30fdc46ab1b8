package engine

import (
	"bytes"
	"io"
	"testing"
	"testing/iotest"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/sample"
)

// kept is a blob with a seal.
type kept struct {
	blob
	seal gantry.Seal
}

func (k kept) Seal() (gantry.Seal, int64, bool) {
	return k.seal, k.Size(), !k.seal.SHA.IsZero()
}

// TestSealed holds bytes of which no digest is known yet to the seal that they were kept with, and gives away the last of them only then.
func TestSealed(t *testing.T) {
	t.Parallel()
	right := bytes.Repeat([]byte("0123456789"), 100)
	s := gantry.NewSealer(300)
	s.Write(right)
	seal, _ := s.Sum()
	for name, c := range map[string]struct {
		seal gantry.Seal
		sha  gantry.Digest
		at   int // the byte that is another; -1: none is
		bad  bool
	}{
		"right":           {seal, gantry.Digest{}, -1, false},
		"head":            {seal, gantry.Digest{}, 0, true},
		"end of head":     {seal, gantry.Digest{}, 299, true},
		"rest":            {seal, gantry.Digest{}, 300, true},
		"last":            {seal, gantry.Digest{}, 999, true},
		"no seal":         {gantry.Seal{}, gantry.Digest{}, 5, false},
		"digest is known": {seal, gantry.Digest{1}, 5, false},
	} {
		file := bytes.Clone(right)
		if c.at >= 0 {
			file[c.at] ^= 1
		}
		for way, wrap := range map[string]func(io.Reader) io.Reader{
			"at once": func(r io.Reader) io.Reader { return r }, "by bytes": iotest.OneByteReader, "end with data": iotest.DataErrReader,
		} {
			r := sealed(gantry.Item{SHA: c.sha}, kept{blob{bytes.NewReader(file)}, c.seal}, wrap(bytes.NewReader(file)))
			got, err := io.ReadAll(r)
			switch {
			case !c.bad && (err != nil || !bytes.Equal(got, file)):
				t.Errorf("%s, %s: %d bytes, %v", name, way, len(got), err)
			case c.bad && (gantry.CodeOf(err) != gantry.CodeCorrupt || gantry.KindOf(err) != gantry.Illegal || len(got) >= len(file)):
				t.Errorf("%s, %s: %d bytes, %v", name, way, len(got), err)
			case c.bad:
				if n, again := r.Read(make([]byte, 1)); n != 0 || again != err {
					t.Errorf("%s, %s: then %d, %v", name, way, n, again)
				}
			}
		}
	}
}

// TestWithoutDigests takes originals through whose digests nobody knows when they come, as of instances that came by the network. In the
// manifest each has its own: of what was sent, of what no processor was sent and of what was refused. That of a file of frames is
// known before the frames are.
func TestWithoutDigests(t *testing.T) {
	t.Parallel()
	files, loop := slicesOf(t), sample.Ultrasound(2, 16, 16)
	for name, frames := range map[string]gantry.Rendering{"as files": gantry.RenderNone, "in frames": gantry.RenderPNG} {
		w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
		w.plan.OnError, w.plan.Extract.Frames, w.process = gantry.OnErrorSkip, frames, echo
		w.collect(files[0], loop, []byte("neither DICOM nor a picture"), files[1])
		want := map[string]bool{}
		for i := range w.several {
			want[w.several[i].SHA.String()] = true
			w.several[i].SHA = gantry.Digest{}
		}
		w.scans = func(at string) (gantry.Code, bool) { return "", at == "in0" || at == "in1" }
		if tr := w.step(t.Context(), gantry.Extracting, 0); tr.Change != gantry.Advance {
			t.Fatalf("%s: %+v", name, tr)
		}
		for _, x := range w.items {
			if split := frames != gantry.RenderNone && x.Size == int64(len(loop)); split && x.SHA.IsZero() {
				t.Errorf("%s: a file has frames and no digest", name)
			}
		}
		for s := gantry.Ingesting; s < gantry.Done; s++ {
			if tr := w.step(t.Context(), s, 0); tr.To == gantry.Failed {
				t.Fatalf("%s: %s: %+v", name, s, tr)
			}
		}
		m := manifestIn(t, w.sealed["id/_manifest.json"])
		for _, x := range m.Inputs {
			delete(want, x.SHA256)
		}
		if len(m.Inputs) != 4 || len(want) != 0 || len(m.Errors) != 1 {
			t.Errorf("%s: inputs %+v, errors %+v", name, m.Inputs, m.Errors)
		}
	}
}
