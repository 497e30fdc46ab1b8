package dicom

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func (j ljpeg) check(t *testing.T) {
	t.Helper()
	m, err := DecodeLossless(j.bytes(), len(j.samples))
	if err != nil {
		t.Fatalf("%d bits: %v", j.precision, err)
	}
	if m.Width != j.w || m.Height != j.h || m.Components != j.components || m.Precision != j.precision {
		t.Errorf("%d x %d x %d of %d bits, want %d x %d x %d of %d", m.Width, m.Height, m.Components, m.Precision, j.w, j.h, j.components, j.precision)
	}
	if !bytes.Equal(m.Samples, j.raw()) {
		t.Errorf("%d bits: other samples", j.precision)
	}
}

// TestLosslessRoundTrip decodes what an encoder written from the standard's formulas wrote.
func TestLosslessRoundTrip(t *testing.T) {
	t.Parallel()
	for predictor := 1; predictor <= 7; predictor++ {
		for _, v := range []ljpeg{
			{w: 31, h: 17, components: 1},
			{w: 31, h: 17, components: 1, unary: true},
			{w: 13, h: 20, components: 3},
			{w: 13, h: 20, components: 3, split: true, unary: true},
			{w: 31, h: 17, components: 1, shift: 1},
			{w: 31, h: 25, components: 1, rows: 2},
			{w: 13, h: 20, components: 3, rows: 3, shift: 1},
			{w: 1, h: 9, components: 1},
			{w: 9, h: 1, components: 1},
		} {
			v.predictor = predictor
			t.Run(fmt.Sprintf("%+v", v), func(t *testing.T) {
				t.Parallel()
				for v.precision = 2; v.precision <= 16; v.precision++ {
					v.noise().check(t)
				}
			})
		}
	}
}

// TestLosslessRefuses holds streams that break a rule against the code of their refusal.
func TestLosslessRefuses(t *testing.T) {
	t.Parallel()
	good := ljpeg{w: 8, h: 8, components: 1, precision: 12, predictor: 1, rows: 2}.noise()
	b := good.bytes()
	at := func(marker byte) int { return bytes.Index(b, []byte{0xff, marker}) }
	change := func(at int, to ...byte) []byte {
		c := slices.Clone(b)
		copy(c[at:], to)
		return c
	}
	sof, dht, sos, rst, dri := at(markSOF3), at(markDHT), at(markSOS), at(markRST0), at(markDRI)
	for name, c := range map[string]struct {
		b    []byte
		code gantry.Code
	}{
		"empty":                    {nil, gantry.CodeMalformed},
		"no SOI":                   {b[2:], gantry.CodeMalformed},
		"end at once":              {[]byte{0xff, markSOI, 0xff, markEOI}, gantry.CodeTruncated},
		"only SOI":                 {b[:2], gantry.CodeTruncated},
		"cut in a segment":         {b[:sof+6], gantry.CodeTruncated},
		"cut in the samples":       {b[:len(b)-12], gantry.CodeTruncated},
		"no marker":                {change(sof, 0), gantry.CodeMalformed},
		"a marker without a sense": {change(sof+1, 0xd3), gantry.CodeMalformed},
		"short segment":            {change(sof+2, 0, 1), gantry.CodeMalformed},
		"baseline":                 {change(sof+1, 0xc0), gantry.CodeUnsupportedFormat},
		"arithmetic":               {change(sof+1, 0xcb), gantry.CodeUnsupportedFormat},
		"two components":           {change(sof+9, 2), gantry.CodeMalformed},
		"no precision":             {change(sof+4, 1), gantry.CodeMalformed},
		"too much precision":       {change(sof+4, 17), gantry.CodeMalformed},
		"no height":                {change(sof+5, 0, 0), gantry.CodeMalformed},
		"too large":                {change(sof+5, 0x40), gantry.CodeTooLarge},
		"more than the bits":       {change(sof+5, 0xf), gantry.CodeTruncated},
		"second frame header":      {slices.Concat(b[:dri], b[sof:dri], b[dri:]), gantry.CodeMalformed},
		"over-full table":          {change(dht+5, 3, 0, 0, 12), gantry.CodeMalformed},
		"category of 17":           {change(dht+4+17, 17), gantry.CodeMalformed},
		"fifth table":              {change(dht+4, 4), gantry.CodeMalformed},
		"table of another name":    {change(dht+4, 1), gantry.CodeMalformed},
		"table cut off":            {change(dht+5+15, 200), gantry.CodeMalformed},
		"scan before the frame":    {append(slices.Clone(b[:2]), b[sos:]...), gantry.CodeMalformed},
		"scan of no component":     {change(sos+5, 9), gantry.CodeMalformed},
		"predictor 0":              {change(sos+7, 0), gantry.CodeMalformed},
		"predictor 8":              {change(sos+7, 8), gantry.CodeMalformed},
		"all bits dropped":         {change(sos+9, 12), gantry.CodeMalformed},
		"another restart":          {change(rst+1, markRST0+1), gantry.CodeMalformed},
		"restart within a row":     {change(dri+5, 15), gantry.CodeMalformed},
		"long restart interval":    {change(dri+3, 9), gantry.CodeMalformed},
	} {
		m, err := DecodeLossless(c.b, 1<<16)
		if err == nil || gantry.CodeOf(err) != c.code || m != nil {
			t.Errorf("%s: %v (%s), want %s", name, err, gantry.CodeOf(err), c.code)
		}
	}
	if _, err := DecodeLossless(b[:len(b)-2], 64); err != nil {
		t.Errorf("without EOI: %v", err)
	}
}

// TestLosslessBound shows that a short stream cannot ask for a large image's memory.
func TestLosslessBound(t *testing.T) {
	b := ljpeg{w: 8, h: 8, components: 3, precision: 16, predictor: 1}.noise().bytes()
	sof := bytes.Index(b, []byte{0xff, markSOF3})
	copy(b[sof+5:], []byte{0xff, 0xff, 0x01, 0x00})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := DecodeLossless(b, maxSamples)
	runtime.ReadMemStats(&after)
	if gantry.CodeOf(err) != gantry.CodeTruncated {
		t.Error(err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d bytes of memory for a stream of %d", n, len(b))
	}
}

func FuzzLossless(f *testing.F) {
	for p := 1; p <= 7; p++ {
		f.Add(ljpeg{w: 5, h: 4, components: 1 + 2*(p%2), precision: 2 * p, predictor: p, rows: p % 3, unary: p > 4}.noise().bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeLossless(b, 1<<16)
		if (m == nil) == (err == nil) {
			t.Fatal("neither or both of an image and an error")
		}
		if err != nil {
			if k := gantry.KindOf(err); k != gantry.Illegal && k != gantry.Permanent {
				t.Fatalf("kind %v", k)
			}
			return
		}
		if len(m.Samples) != m.Width*m.Height*m.Components*m.bytes() || len(m.Samples) > 16*len(b) {
			t.Fatalf("%d bytes of samples from %d", len(m.Samples), len(b))
		}
	})
}

// BenchmarkLossless decodes a 512 x 512 image of 16 bits; MB/s are of samples.
func BenchmarkLossless(b *testing.B) {
	for _, predictor := range []int{1, 7} {
		j := ljpeg{w: 512, h: 512, components: 1, precision: 16, predictor: predictor, samples: make([]uint16, 512*512)}
		r := rand.New(rand.NewPCG(1, 2))
		for i := range j.samples {
			j.samples[i] = uint16(1000 + i%512*4 + i/512*2 + r.IntN(32))
		}
		stream := j.bytes()
		b.Run(strconv.Itoa(predictor), func(b *testing.B) {
			b.SetBytes(512 * 512 * 2)
			for b.Loop() {
				if _, err := DecodeLossless(stream, maxSamples); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// fragmentsOf joins the fragments of an encapsulated file of one frame.
func fragmentsOf(t *testing.T, b []byte) []byte {
	t.Helper()
	in, err := Scan(bytes.NewReader(b), int64(len(b)), DefaultLimits())
	if err != nil && in.PixelOffset < 0 {
		t.Fatal(err)
	}
	var out []byte
	b = b[in.PixelOffset:]
	for table := true; binary.LittleEndian.Uint32(b) == 0xe000fffe; table = false {
		n := binary.LittleEndian.Uint32(b[4:])
		if !table {
			out = append(out, b[8:8+n]...)
		}
		b = b[8+n:]
	}
	return out
}

// nativeOf is the pixels of a native file.
func nativeOf(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	in, err := Scan(bytes.NewReader(b), int64(len(b)), DefaultLimits())
	if err != nil && in.PixelOffset < 0 {
		t.Fatal(err)
	}
	return b[in.PixelOffset : in.PixelOffset+in.PixelLength]
}

// tool runs a program of dcmtk, or skips the test where there is none.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	out, err := exec.Command(p, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// TestCorpusLossless compares every lossless JPEG of the corpus with what dcmtk makes of it.
func TestCorpusLossless(t *testing.T) {
	t.Parallel()
	rows, read := corpus(t)
	seen := 0
	for _, r := range rows {
		if r.Pixels == "" || r.TransferSyntax != "1.2.840.10008.1.2.4.57" && r.TransferSyntax != "1.2.840.10008.1.2.4.70" {
			continue
		}
		seen++
		b, native := read(t, r.Path), filepath.Join(t.TempDir(), "native.dcm")
		tool(t, "dcmdjpeg", filepath.Join(os.Getenv("GANTRY_CORPUS"), r.Path), native)
		m, err := DecodeLossless(fragmentsOf(t, b), maxSamples)
		if err != nil {
			t.Errorf("%s: %v", r.Path, err)
			continue
		}
		f, err := OpenFrames(bytes.NewReader(b), int64(len(b)), FrameLimits{})
		if err != nil {
			t.Fatalf("%s: %v", r.Path, err)
		}
		p, err := f.Picture(t.Context(), 0)
		if err != nil {
			t.Fatalf("%s: %v", r.Path, err)
		}
		if want := nativeOf(t, native); !bytes.Equal(m.Samples, want) || !bytes.Equal(p.Values, want) {
			t.Errorf("%s: other samples than dcmtk's", r.Path)
		}
	}
	if seen < 2 {
		t.Errorf("%d files of lossless JPEG, want 2 or more", seen)
	}
}

// TestCorpusLosslessEncoded decodes what dcmtk encodes, with every predictor and a point transform.
func TestCorpusLosslessEncoded(t *testing.T) {
	t.Parallel()
	corpus(t)
	for _, name := range []string{"MR_small.dcm", "CT_small.dcm", "color-px.dcm"} {
		for predictor := 1; predictor <= 7; predictor++ {
			t.Run(fmt.Sprint(name, predictor), func(t *testing.T) {
				t.Parallel()
				source := filepath.Join(os.Getenv("GANTRY_CORPUS"), "dicom/files", name)
				coded, back := filepath.Join(t.TempDir(), "coded.dcm"), filepath.Join(t.TempDir(), "back.dcm")
				tool(t, "dcmcjpeg", "+el", "+sv", strconv.Itoa(predictor), source, coded)
				tool(t, "dcmdjpeg", coded, back)
				b, err := os.ReadFile(coded)
				if err != nil {
					t.Fatal(err)
				}
				m, err := DecodeLossless(fragmentsOf(t, b), maxSamples)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(m.Samples, nativeOf(t, back)) {
					t.Error("other samples than dcmtk's")
				}
			})
		}
	}
}
