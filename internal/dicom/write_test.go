package dicom

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// sampleImage is a small CT slice with every field set.
func sampleImage() Image {
	m := Image{
		SOPClass: ClassCT, SOPInstance: "2.25.11", StudyInstance: "2.25.12", SeriesInstance: "2.25.13", FrameOfReference: "2.25.14",
		PatientName: "Phantom^Jérôme", PatientID: "P-1", StudyDescription: "Phantom", SeriesDescription: "Axial", BodyPart: "HEAD",
		StudyDate: "20260105", StudyTime: "101500", SeriesNumber: 2, InstanceNumber: 3,
		Rows: 3, Columns: 5, Signed: true, RescaleSlope: 0.1, RescaleIntercept: -1024, WindowCenter: 40, WindowWidth: 400,
		Spacing: [2]float64{0.70312512345678901, 0.7}, SliceThickness: 1.25, Position: [3]float64{-180, -180.5, 1e-7 / 3},
	}
	for i := range 15 {
		m.Samples = append(m.Samples, uint16(int16(100*i-700)))
	}
	return m
}

func written(t *testing.T, m Image) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := WriteImage(&out, m); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestWriteImage(t *testing.T) {
	t.Parallel()
	m := sampleImage()
	b := written(t, m)
	if !bytes.Equal(b, written(t, m)) {
		t.Error("the same image gives other bytes")
	}
	in, err := scan(t, b)
	if err != nil || len(in.Warnings) > 0 {
		t.Fatalf("%v, warnings %v", err, in.Warnings)
	}
	if in.SOPClass != ClassCT || in.SOPInstance != "2.25.11" || in.StudyInstance != "2.25.12" || in.SeriesInstance != "2.25.13" ||
		in.Modality != "CT" || in.TransferSyntax != syntaxExplicit {
		t.Errorf("got %+v", in)
	}
	tags := tags(t, b)
	for k, want := range map[string]string{
		"PatientName": m.PatientName, "PatientID": "P-1", "StudyDate": "20260105", "InstanceNumber": "3", "SeriesNumber": "2",
		"PixelSpacing": `0.70312512345679\0.7`, "ImagePositionPatient": `-180\-180.5\3.3333333333e-08`, "SliceThickness": "1.25", "BodyPartExamined": "HEAD",
	} {
		if tags[k] != want {
			t.Errorf("%s = %q, want %q", k, tags[k], want)
		}
	}
	p, err := Frame(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	want := &Pixels{Rows: 3, Columns: 5, BitsStored: 16, Signed: true, Samples: m.Samples, Photometric: "MONOCHROME2",
		RescaleSlope: 0.1, RescaleIntercept: -1024, Window: true, WindowCenter: 40, WindowWidth: 400}
	if d := cmp.Diff(want, p); d != "" {
		t.Error(d)
	}
}

func TestWriteSecondaryCapture(t *testing.T) {
	t.Parallel()
	m := sampleImage()
	m.SOPClass, m.FrameOfReference, m.WindowWidth, m.Spacing = ClassSecondaryCapture, "", 0, [2]float64{}
	b := written(t, m)
	in, err := scan(t, b)
	if err != nil || in.Modality != "OT" || len(in.Warnings) > 0 {
		t.Fatalf("%v, %+v", err, in)
	}
	if tags := tags(t, b); tags["WindowWidth"] != "" || tags["RescaleSlope"] != "" || tags["PixelSpacing"] != "" || tags["ConversionType"] != "WSD" {
		t.Errorf("got %v", tags)
	}
}

// TestWriteImageDCMTK lets another implementation read what we write.
func TestWriteImageDCMTK(t *testing.T) {
	t.Parallel()
	for _, class := range []string{ClassCT, ClassSecondaryCapture} {
		m := sampleImage()
		m.SOPClass = class
		path := filepath.Join(t.TempDir(), "image.dcm")
		if err := os.WriteFile(path, written(t, m), 0o600); err != nil {
			t.Fatal(err)
		}
		if out := dcmtk(t, "dcmftest", path); !strings.HasPrefix(out, "yes:") {
			t.Errorf("dcmftest: %s", out)
		}
		out := dcmtk(t, "dcmdump", "-q", "+L", path)
		for _, want := range []string{"(0002,0010) UI =LittleEndianExplicit", "[ISO_IR 192]", "[Phantom^Jérôme]",
			"(0028,0010) US 3", "(0028,0011) US 5", "(7fe0,0010) OW fd44\\fda8"} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: dcmdump does not show %s in\n%s", class, want, out)
			}
		}
		if strings.Contains(out, "Warning") || strings.Contains(out, "Error") {
			t.Errorf("dcmdump complains:\n%s", out)
		}
	}
}

func TestWriteImageRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Image){
		"class":          func(m *Image) { m.SOPClass = "1.2.3" },
		"instance":       func(m *Image) { m.SOPInstance = "../x" },
		"no study":       func(m *Image) { m.StudyInstance = "" },
		"no frame":       func(m *Image) { m.FrameOfReference = "" },
		"rows":           func(m *Image) { m.Rows = 4 },
		"no rows":        func(m *Image) { m.Rows, m.Samples = 0, nil },
		"many columns":   func(m *Image) { m.Rows, m.Columns, m.Samples = 1, 65536, make([]uint16, 65536) },
		"long name":      func(m *Image) { m.PatientName = strings.Repeat("x", 65) },
		"two names":      func(m *Image) { m.PatientName = `a\b` },
		"line in id":     func(m *Image) { m.PatientID = "a\nb" },
		"no number":      func(m *Image) { m.RescaleSlope = math.NaN() },
		"infinite place": func(m *Image) { m.Position[2] = math.Inf(1) },
	} {
		m := sampleImage()
		change(&m)
		var out bytes.Buffer
		if err := WriteImage(&out, m); gantry.KindOf(err) != gantry.Permanent || out.Len() > 0 {
			t.Errorf("%s: %v, %d bytes written", name, err, out.Len())
		}
	}
}

func TestWriteImageWriterError(t *testing.T) {
	t.Parallel()
	full := errors.New("disk full")
	for _, n := range []int{0, 140, 600} {
		if err := WriteImage(&failing{n, full}, sampleImage()); !errors.Is(err, full) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

type failing struct {
	left int
	err  error
}

func (f *failing) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, f.err
	}
	return len(p), nil
}

func TestDecimals(t *testing.T) {
	t.Parallel()
	for _, x := range []float64{0, 1, -1, 0.1, math.Pi, -math.Pi, 1e100 / 3, -1e-300 / 3, 123456789012345678} {
		s := decimals(x)[0]
		var back float64
		if _, err := fmt.Sscan(s, &back); err != nil || len(s) > 16 || math.Abs(back-x) > math.Abs(x)*1e-8 {
			t.Errorf("%v is written %q", x, s)
		}
	}
}
