package dicom

import (
	"bytes"
	"os/exec"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// cutAt scans the first n bytes of b without knowing that there should be more.
func cutAt(b []byte, n int) (*Info, error) {
	return Scan(bytes.NewReader(b[:n]), int64(n), DefaultLimits())
}

// checkCuts cuts a sound file at every step-th byte. None may be accepted before its pixels are
// whole. Behind them a cut between two elements leaves a sound file; it is the only one accepted,
// and nothing in the format could tell (the arrival's size or digest does).
func checkCuts(t *testing.T, b []byte, step int) (cuts, accepted int) {
	t.Helper()
	whole, err := cutAt(b, len(b))
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(b); n += step {
		cuts++
		in, err := cutAt(b, n)
		if err != nil {
			if gantry.KindOf(err) != gantry.Illegal {
				t.Errorf("cut at %d: %v", n, err)
			}
			continue
		}
		accepted++
		if in.PixelLength != whole.PixelLength || in.Fragments != whole.Fragments || int64(n) < in.PixelOffset+in.PixelLength {
			t.Errorf("accepted when cut at %d of %d, pixels at %d of %d bytes", n, len(b), whole.PixelOffset, whole.PixelLength)
		}
	}
	return cuts, accepted
}

func TestTruncated(t *testing.T) {
	t.Parallel()
	cuts := 0
	for name, s := range goods() {
		n, accepted := checkCuts(t, s.bytes(), 1)
		want := 0
		if name == "padding" { // just before the padding
			want = 1
		}
		if accepted != want {
			t.Errorf("%s: %d of %d cuts accepted, want %d", name, accepted, n, want)
		}
		cuts += n
	}
	if cuts < 9000 {
		t.Errorf("%d cuts, want at least 9,000", cuts)
	}
}

func TestCorpusTruncated(t *testing.T) {
	t.Parallel()
	rows, read := corpus(t)
	cuts, files := 0, 0
	for _, r := range rows {
		b := read(t, r.Path)
		if r.Expect != "accept" || len(b) > 40_000 {
			continue
		}
		files++
		step := 101
		if len(b) < 4000 {
			step = 7
		}
		n, _ := checkCuts(t, b, step)
		cuts += n
	}
	if files < 50 {
		t.Errorf("%d files cut, want at least 50", files)
	}
	t.Logf("%d cuts of %d files", cuts, files)
}

// readAll is what the product does with a file: no step may panic, and after Scan nothing may be
// refused by the tag library for its structure.
func readAll(t testing.TB, b []byte) {
	in, err := Scan(bytes.NewReader(b), int64(len(b)), DefaultLimits())
	if in == nil {
		t.Fatalf("no info: %v", err)
	}
	if in.Size != int64(len(b)) {
		t.Fatalf("read %d of %d bytes", in.Size, len(b))
	}
	if err != nil {
		if gantry.KindOf(err) != gantry.Illegal || gantry.CodeOf(err) == "" || gantry.CodeOf(err) == "illegal" {
			t.Fatalf("a refusal without a reason: %v", err)
		}
		return
	}
	if _, err := Tags(bytes.NewReader(b), int64(len(b))); err != nil {
		t.Fatalf("tags of an accepted file: %v", err)
	}
	p, err := Frame(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		if k := gantry.KindOf(err); k != gantry.Permanent && k != gantry.Illegal {
			t.Fatalf("frame of an accepted file: %v", err)
		}
		return
	}
	if len(p.Samples) != p.Rows*p.Columns {
		t.Fatalf("%d samples for %d x %d", len(p.Samples), p.Columns, p.Rows)
	}
}

// TestBitFlips turns every third bit of each sound file: each byte, and each place in some byte.
func TestBitFlips(t *testing.T) {
	t.Parallel()
	for name, s := range goods() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := s.bytes()
			for i := preambleSize * 8; i < len(b)*8; i += 3 {
				b[i/8] ^= 1 << (i % 8)
				readAll(t, b)
				b[i/8] ^= 1 << (i % 8)
			}
		})
	}
}

func FuzzScan(f *testing.F) {
	for _, s := range goods() {
		f.Add(s.bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) { readAll(t, b) })
}

// FuzzDataset puts bytes behind a sound file meta, so that little effort is lost before the data
// set; ts chooses the transfer syntax.
func FuzzDataset(f *testing.F) {
	syntaxes := []string{syntaxExplicit, syntaxImplicit, syntaxBig, tsJPEG, tsJ2K, tsRLE, tsMPEG}
	for _, s := range goods() {
		for i, ts := range syntaxes {
			if ts == s.ts || s.ts == "" && i == 0 {
				f.Add(uint8(i), s.body(ts))
			}
		}
	}
	f.Fuzz(func(t *testing.T, ts uint8, b []byte) {
		readAll(t, append(spec{}.header(syntaxes[int(ts)%len(syntaxes)]), b...))
	})
}

// big is a sound CT slice of 512 x 512, as most files are.
func bigImage(t testing.TB) []byte {
	t.Helper()
	m := sampleImage()
	m.Rows, m.Columns, m.Samples = 512, 512, make([]uint16, 512*512)
	var out bytes.Buffer
	if err := WriteImage(&out, m); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func BenchmarkScan(b *testing.B) {
	file := bigImage(b)
	b.SetBytes(int64(len(file)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Scan(bytes.NewReader(file), int64(len(file)), DefaultLimits()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTags(b *testing.B) {
	file := bigImage(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Tags(bytes.NewReader(file), int64(len(file))); err != nil {
			b.Fatal(err)
		}
	}
}

// dcmtk runs one of its programs; the tests need it.
func dcmtk(t *testing.T, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is not installed: this test needs dcmtk", name)
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}
