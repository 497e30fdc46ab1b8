package dicom

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// unknownToPeer are files that dcmtk cannot show: floats and palettes in segments.
func unknownToPeer(r row) bool {
	return r.Path == segmentedPalette || r.Path == "dicom/files/parametric_map_float.dcm"
}

// segmentedPalette is a file that dcmtk cannot show.
const segmentedPalette = "dicom/files/gdcm-US-ALOKA-16.dcm"

// renderPNG gives frame i as a picture.
func renderPNG(t testing.TB, f *Frames, i int, window string) image.Image {
	t.Helper()
	w, err := ParseWindow(window)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := f.Render(context.Background(), &out, i, gantry.RenderPNG, w); err != nil {
		t.Fatalf("frame %d: %v (%s)", i, err, gantry.CodeOf(err))
	}
	m, err := png.Decode(&out)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// samples8 are the samples of a picture as a PNM has them.
func samples8(m image.Image) []byte {
	var out []byte
	b := m.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			r, g, c, _ := m.At(x, y).RGBA()
			if _, grey := m.(*image.Gray); grey {
				out = append(out, byte(r>>8))
			} else {
				out = append(out, byte(r>>8), byte(g>>8), byte(c>>8))
			}
		}
	}
	return out
}

// likePeer is how the other decoder is asked for what the file's own window means here.
func likePeer(f *Frames, i int) []string {
	s := f.shading(i, &Picture{Rows: 1, Columns: 1, Samples: 1, Bytes: f.layout.bytes(), Signed: f.layout.Signed,
		BitsStored: f.layout.BitsStored, Photometric: f.layout.Photometric, Values: make([]byte, 8)}, Window{})
	switch {
	case f.layout.Samples == 3 || f.palette != nil || s.same || f.layout.BitsAllocated == 1:
		return nil
	case s.voi != nil:
		return []string{"+Wl", "1"}
	case f.layout.Frames > 1 && f.shows.of(i).window: // in functional groups, which it looks into for slopes alone
		return []string{"+Ww", fmt.Sprint(s.center), fmt.Sprint(s.width)}
	case f.shows.of(i).window:
		return []string{"+Wi", "1"}
	}
	return []string{"+Wm"}
}

// pnm splits a PGM or PPM.
func pnm(t *testing.T, b []byte) (width, height int, pix []byte) {
	t.Helper()
	var kind string
	var top int
	if n, err := fmt.Sscan(string(b[:min(len(b), 40)]), &kind, &width, &height, &top); n != 4 || err != nil {
		t.Fatalf("no PNM of %d bytes: %v", len(b), err)
	}
	per := 1
	if kind == "P6" {
		per = 3
	}
	return width, height, b[len(b)-width*height*per:]
}

// TestCorpusPictures holds pictures of the corpus against those of dcmtk.
func TestCorpusPictures(t *testing.T) {
	t.Parallel()
	rows, read := corpus(t)
	dir, pictures := t.TempDir(), 0
	for n, r := range rows {
		if r.Frames == 0 || r.Expect == "reject" || !decodedHere(r.TransferSyntax) || r.TransferSyntax == syntaxExtended || unknownToPeer(r) {
			continue
		}
		b := read(t, r.Path)
		f, err := OpenFrames(bytes.NewReader(b), int64(len(b)), FrameLimits{})
		if err != nil {
			t.Errorf("%s: %v", r.Path, err)
			continue
		}
		i := f.Len() - 1
		ours := samples8(renderPNG(t, f, i, "file"))
		out := filepath.Join(dir, strconv.Itoa(n))
		args := append(likePeer(f, i), "-O", "+F", strconv.Itoa(i+1), filepath.Join(os.Getenv("GANTRY_CORPUS"), r.Path), out)
		dcmtk(t, "dcmj2pnm", args...)
		theirs, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		w, h, pix := pnm(t, theirs)
		if w != r.Columns || h != r.Rows || len(pix) != len(ours) {
			t.Errorf("%s: %d x %d of %d, theirs %d", r.Path, w, h, len(ours), len(pix))
			continue
		}
		most, sum := 0, 0
		for k := range pix {
			d := int(pix[k]) - int(ours[k])
			most, sum = max(most, d, -d), sum+max(d, -d)
		}
		if pictures++; r.Bits == 1 { // its white is grey
			for k, v := range pix {
				pix[k] = -min(v, 1)
			}
		}
		most, mean := difference(pix, ours)
		// Roundings differ; so does how the colour of two pixels of a JPEG is divided between them.
		if limit := allowed(r); most > limit || mean > 1 {
			t.Errorf("%s %v, %s: differs by up to %d, %.3f on average", r.Path, args[:len(args)-5], r.Photometric, most, mean)
		}
	}
	if pictures < 60 {
		t.Errorf("%d pictures compared, want at least 60", pictures)
	}
	t.Logf("%d pictures compared", pictures)
}

func difference(a, b []byte) (most int, mean float64) {
	sum := 0
	for k := range a {
		d := max(int(a[k])-int(b[k]), int(b[k])-int(a[k]))
		most, sum = max(most, d), sum+d
	}
	return most, float64(sum) / float64(len(a))
}

func allowed(r row) int {
	switch {
	case r.TransferSyntax == syntaxBaseline && r.Photometric == "YBR_FULL_422":
		return 16
	case strings.HasPrefix(r.Photometric, "YBR"):
		return 2
	}
	return 1
}

// TestCorpusSegmentedPalette compares with the colours that pydicom 2.3.1 finds (apply_color_lut).
func TestCorpusSegmentedPalette(t *testing.T) {
	t.Parallel()
	_, read := corpus(t)
	b := read(t, segmentedPalette)
	f, err := OpenFrames(bytes.NewReader(b), int64(len(b)), FrameLimits{})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(samples8(renderPNG(t, f, 0, "file")))
	if got := hex.EncodeToString(sum[:]); got != "97697b719ccd7c15c9cfbee12cb1285b2423b8bc3adf6bf45cb3858e4f0f3db4" {
		t.Errorf("colours of digest %s", got)
	}
}
