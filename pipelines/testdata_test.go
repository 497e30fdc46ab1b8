package pipelines_test

import (
	"archive/zip"
	"bytes"
	"flag"
	"image"
	"image/draw"
	"image/png"
	"io"
	"os"
	"testing"

	"github.com/gantry-imaging/gantry/internal/sample"
)

//go:generate go test -run TestTestdata -update .

var update = flag.Bool("update", false, "write testdata anew")

const maxTestdata = 20_000 // bytes of a file

// TestTestdata holds the inputs of the tests in pipeline files to the phantoms that they are made of.
func TestTestdata(t *testing.T) {
	loop := sample.Loop(3, 32, 32)
	if *update {
		write(t, "testdata/us-4f.dcm", sample.Ultrasound(4, 32, 32))
		write(t, "testdata/three.zip", packed(t, loop))
	}
	if got := read(t, "testdata/us-4f.dcm"); !bytes.Equal(got, sample.Ultrasound(4, 32, 32)) {
		t.Error("us-4f.dcm is stale: go generate ./pipelines")
	}
	b := read(t, "testdata/three.zip")
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil || len(z.File) != len(loop) {
		t.Fatalf("three.zip: %v", err)
	}
	for i, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		m, err := png.Decode(r)
		if err != nil {
			t.Fatal(err)
		}
		got := image.NewGray(m.Bounds())
		draw.Draw(got, got.Rect, m, image.Point{}, draw.Src)
		if !bytes.Equal(got.Pix, loop[i].Pix) {
			t.Errorf("three.zip: picture %d is stale: go generate ./pipelines", i+1)
		}
	}
}

func packed(t *testing.T, pictures []*image.Gray) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i, m := range pictures {
		w, err := z.Create(string(rune('a'+i)) + ".png")
		if err == nil {
			err = png.Encode(w, m)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// read reads a file that is small enough to be kept in the repository.
func read(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxTestdata+1))
	if err != nil || len(b) > maxTestdata {
		t.Fatalf("%s: %d bytes, %v", path, len(b), err)
	}
	return b
}
