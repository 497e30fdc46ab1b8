package dicom

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

func metaOf(o object) dicom.FileMeta {
	return dicom.FileMeta{Class: o.class, Instance: o.uid, Syntax: o.syntax, Sender: "ECHO1", Receiver: "GANTRY"}
}

// sealOf is the seal of a file whose data set has so many bytes.
func sealOf(file []byte, set int) gantry.Seal {
	s := gantry.NewSealer(int64(len(file) - set))
	s.Write(file)
	x, _ := s.Sum()
	return x
}

func TestGuard(t *testing.T) {
	t.Parallel()
	o := series(t, 1, 64)[0]
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"whole": func(r io.Reader) io.Reader { return r }, "one byte": iotest.OneByteReader, "end with data": iotest.DataErrReader,
	} {
		g := guard(metaOf(o), wrap(bytes.NewReader(o.set)), 1<<20)
		if _, _, ok := g.Seal(); ok {
			t.Errorf("%s: a seal before the end", name)
		}
		file, err := io.ReadAll(g)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		seal, n, ok := g.Seal()
		if !ok || seal != sealOf(file, len(o.set)) || g.set != sha256.Sum256(o.set) || !bytes.HasSuffix(file, o.set) || n != int64(len(file)) || g.size != int64(len(o.set)) || !bytes.HasSuffix(file, o.set) {
			t.Errorf("%s: seal %v of %d", name, ok, n)
		}
		if err := g.agrees(o.class, o.uid); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		g.stop()
	}
}

// A reader that is given up, fails or says too much leaves no scan behind.
func TestGuardEnds(t *testing.T) {
	t.Parallel()
	o := series(t, 1, 64)[0]
	broken := errors.New("the line broke")
	g := guard(metaOf(o), bytes.NewReader(o.set), 1<<20)
	g.Read(make([]byte, 10))
	g.stop()
	g = guard(metaOf(o), iotest.ErrReader(broken), 1<<20)
	if _, err := io.ReadAll(g); err != broken {
		t.Error(err)
	}
	if _, err := g.Read(make([]byte, 1)); err != broken {
		t.Errorf("once more: %v", err)
	}
	g.stop()
	if _, _, ok := g.Seal(); ok {
		t.Error("a seal of half an object")
	}
	g = guard(metaOf(o), bytes.NewReader(o.set), 100)
	if _, err := io.ReadAll(g); gantry.CodeOf(err) != gantry.CodeTooLarge {
		t.Error(err)
	}
	g.stop()
}

// FuzzGuard holds that whatever comes, every byte of it is passed on, and the seal is that of the bytes.
func FuzzGuard(f *testing.F) {
	o := series(f, 1, 16)[0]
	f.Add(o.set, o.syntax)
	f.Add(o.set[:40], dimse.ImplicitLE)
	f.Add([]byte{}, dimse.DeflatedLE)
	f.Fuzz(func(t *testing.T, set []byte, syntax string) {
		x := object{o.class, o.uid, syntax, set}
		g := guard(metaOf(x), iotest.HalfReader(bytes.NewReader(set)), 1<<20)
		defer g.stop()
		file, err := io.ReadAll(g)
		if err != nil {
			t.Fatal(err)
		}
		seal, n, ok := g.Seal()
		if !ok || seal != sealOf(file, len(set)) || g.set != sha256.Sum256(set) || n != int64(len(file)) || !bytes.HasSuffix(file, set) {
			t.Fatalf("seal %v of %d bytes, %d came", ok, n, len(file))
		}
		if err := g.agrees(o.class, o.uid); err != nil && gantry.KindOf(err) != gantry.Illegal {
			t.Fatalf("a verdict of kind %s", gantry.KindOf(err))
		}
	})
}
