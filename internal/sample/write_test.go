package sample

import (
	"archive/zip"
	"bytes"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/dicom"
)

// scanned is what the guard says of a file, which must be nothing but praise.
func scanned(t *testing.T, b []byte) *dicom.Info {
	t.Helper()
	in, err := dicom.Scan(bytes.NewReader(b), int64(len(b)), dicom.DefaultLimits())
	if err != nil || len(in.Warnings) > 0 {
		t.Fatalf("scan: %v, warnings %v", err, in.Warnings)
	}
	return in
}

func TestCT(t *testing.T) {
	t.Parallel()
	files, err := CT(12, 128)
	if err != nil {
		t.Fatal(err)
	}
	instances := map[string]bool{}
	first := scanned(t, files[0])
	for i, b := range files {
		in := scanned(t, b)
		if !strings.HasPrefix(in.SOPInstance, "2.25.") || instances[in.SOPInstance] ||
			in.StudyInstance != first.StudyInstance || in.SeriesInstance != first.SeriesInstance || in.SeriesInstance == in.StudyInstance {
			t.Errorf("slice %d: instance %s of series %s of study %s", i, in.SOPInstance, in.SeriesInstance, in.StudyInstance)
		}
		instances[in.SOPInstance] = true
		got := []any{in.Modality, in.SOPClass, in.Rows, in.Columns, in.Frames, in.BitsAllocated, in.Photometric}
		if d := cmp.Diff([]any{"CT", dicom.ClassCT, 128, 128, 1, 16, "MONOCHROME2"}, got); d != "" {
			t.Errorf("slice %d: %s", i, d)
		}
		tags, err := dicom.Tags(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		z := []string{"-27.5", "-22.5", "-17.5", "-12.5", "-7.5", "-2.5", "2.5", "7.5", "12.5", "17.5", "22.5", "27.5"}[i]
		for k, want := range map[string]string{
			"ImagePositionPatient": `-119.0625\-119.0625\` + z, "PixelSpacing": `1.875\1.875`, "SliceThickness": "5",
			"WindowCenter": "40", "WindowWidth": "400", "RescaleIntercept": "-1024", "PatientID": "GANTRY-PHANTOM",
		} {
			if tags[k] != want {
				t.Errorf("slice %d: %s is %q, want %q", i, k, tags[k], want)
			}
		}
	}
	other, err := CT(3, 128)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range other {
		if in := scanned(t, b); instances[in.SOPInstance] || in.StudyInstance == first.StudyInstance {
			t.Error("another CT has the same UIDs")
		}
	}
}

// TestDensities reads Hounsfield units where the phantom's organs are.
func TestDensities(t *testing.T) {
	t.Parallel()
	const size = 256
	files, err := CT(1, size)
	if err != nil {
		t.Fatal(err)
	}
	p, err := dicom.Frame(bytes.NewReader(files[0]), int64(len(files[0])))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		x, y   float64 // millimetres
		hu, by float64
	}{
		{"air", -100, -100, -1000, 5}, {"skull", 0, -95.3, 1250, 150}, {"grey matter", 0, 78, 38, 25},
		{"white matter", -28, -40, 28, 4}, {"ventricle", 10, -24, 7, 4}, {"haemorrhage", 41, 15, 68, 4},
		{"oedema", 41, 31, 21, 6}, {"pineal gland", 0, 25, 170, 12}, {"headrest", 0, 114.5, -250, 10},
	} {
		sum := 0.0
		for k := range 9 {
			px, py := int((c.x+ctField/2)*size/ctField)+k%3-1, int((c.y+ctField/2)*size/ctField)+k/3-1
			sum += p.Value(py*size + px)
		}
		if got := sum / 9; math.Abs(got-c.hu) > c.by {
			t.Errorf("%s: %.0f HU, want %v ± %v", c.name, got, c.hu, c.by)
		}
	}
	raw := make([]byte, 0, 2*len(p.Samples))
	for _, s := range p.Samples {
		raw = append(raw, byte(s), byte(s>>8))
	}
	if got, want := digest(raw), "b953b1f7c5676c45"; got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
}

func TestCTRefuses(t *testing.T) {
	t.Parallel()
	if _, err := CT(1, 0); err == nil {
		t.Error("a CT without pixels")
	}
	if files, err := CT(0, 8); err != nil || len(files) != 0 {
		t.Errorf("no slices: %d files, %v", len(files), err)
	}
}

func TestUID(t *testing.T) {
	t.Parallel()
	one, again := uid("a"), uid("a")
	if one != again || one == uid("b") || !dicom.ValidUID(uid("a")) || len(uid("a")) > 44 {
		t.Errorf("uid %s", uid("a"))
	}
}

// unzipped gives the entries of an archive, which must carry no times.
func unzipped(t *testing.T, b []byte) (names []string, files map[string][]byte) {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	files = map[string][]byte{}
	for _, f := range z.File {
		if f.ModifiedDate != 0 || f.ModifiedTime != 0 || len(f.Extra) > 0 {
			t.Errorf("%s carries a time", f.Name)
		}
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, f.Name)
		if files[f.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	return names, files
}

// TestWrite makes the samples twice, compares every byte, and opens all of them.
func TestWrite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	paths, err := Write(filepath.Join(dir, "a", "b"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := Write(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for i, p := range paths {
		name := filepath.Base(p)
		if files[name], err = os.ReadFile(p); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(again[i])
		if err != nil || !bytes.Equal(b, files[name]) {
			t.Errorf("%s differs between two runs: %v", name, err)
		}
	}
	want := []string{"xray.png", "ct-slice.dcm", "ct-study.zip", "mixed.zip"}
	if len(paths) != 4 || !slices.EqualFunc(paths, want, func(p, w string) bool { return filepath.Base(p) == w }) {
		t.Fatalf("wrote %v", paths)
	}
	checkPNG(t, files["xray.png"], 1024)
	in := scanned(t, files["ct-slice.dcm"])
	names, study := unzipped(t, files["ct-study.zip"])
	if len(names) != 12 || names[0] != "ct/0001.dcm" || names[11] != "ct/0012.dcm" {
		t.Errorf("the study holds %v", names)
	}
	for _, n := range names {
		if got := scanned(t, study[n]); got.StudyInstance != in.StudyInstance || got.Rows != 256 {
			t.Errorf("%s is of another study", n)
		}
	}
	names, mixed := unzipped(t, files["mixed.zip"])
	if d := cmp.Diff([]string{"xray.png", "slice.dcm", "series.zip"}, names); d != "" {
		t.Error(d)
	}
	checkPNG(t, mixed["xray.png"], 512)
	scanned(t, mixed["slice.dcm"])
	names, series := unzipped(t, mixed["series.zip"])
	if len(names) != 3 {
		t.Errorf("the nested archive holds %v", names)
	}
	for _, b := range series {
		scanned(t, b)
	}
}

func checkPNG(t *testing.T, b []byte, size int) {
	t.Helper()
	m, err := png.Decode(bytes.NewReader(b))
	if err != nil || m.Bounds().Dx() != size || m.Bounds().Dy() != size {
		t.Errorf("png of %v: %v", m.Bounds(), err)
	}
}

func TestWriteErrors(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(file); err == nil || !strings.HasPrefix(err.Error(), "write samples: ") {
		t.Errorf("into a file: %v", err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "mixed.zip"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(dir); err == nil {
		t.Error("over a folder")
	}
}

// TestWriteLoops writes the same loops as WriteAll does, and no more.
func TestWriteLoops(t *testing.T) {
	t.Parallel()
	dir, whole := t.TempDir(), t.TempDir()
	paths, err := WriteLoops(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := WriteAll(whole); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{filepath.Join(dir, "us-loop.dcm"), filepath.Join(dir, "us-loop.avi")}, paths); d != "" {
		t.Error(d)
	}
	for _, p := range paths {
		a, _ := os.ReadFile(p)
		b, err := os.ReadFile(filepath.Join(whole, filepath.Base(p)))
		if err != nil || len(a) == 0 || !bytes.Equal(a, b) {
			t.Errorf("%s: %d bytes, %d of WriteAll, %v", filepath.Base(p), len(a), len(b), err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("%d files, %v", len(entries), err)
	}
}
