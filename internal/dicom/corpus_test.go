package dicom

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// row is one file of the corpus with the answer that it must lead to.
type row struct {
	Path, SHA256, Kind, Expect, Reason string
	Also                               []string
	TransferSyntax                     string `json:"transfer_syntax"`
	SOPClass                           string `json:"sop_class"`
	Modality, Photometric              string
	Frames, Rows, Columns, Bits        int
	Samples, Fragments                 int
	OffsetTable                        int    `json:"offset_table"`
	Pixels                             string `json:"pixels_sha256"`
}

// corpus gives the DICOM rows of the manifest and how to read a file of it.
func corpus(t *testing.T) (rows []row, read func(*testing.T, string) []byte) {
	t.Helper()
	dir := os.Getenv("GANTRY_CORPUS")
	if dir == "" {
		t.Skip("GANTRY_CORPUS is not set: it names the folder with manifest.json")
	}
	b, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all []row
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		if r.Kind == "dicom" || r.Kind == "dicomdir" {
			rows = append(rows, r)
		}
	}
	if len(rows) < 200 {
		t.Fatalf("%d rows of DICOM in the manifest, want at least 200", len(rows))
	}
	return rows, func(t *testing.T, name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}

// TestCorpusVerdicts holds every DICOM file of the corpus against its row, with and without
// knowing its size.
func TestCorpusVerdicts(t *testing.T) {
	t.Parallel()
	rows, read := corpus(t)
	for _, r := range rows {
		t.Run(r.Path, func(t *testing.T) {
			t.Parallel()
			b := read(t, r.Path)
			for _, size := range []int64{int64(len(b)), -1} {
				info, err := Scan(bytes.NewReader(b), size, DefaultLimits())
				checkVerdict(t, r, info, err)
				if info != nil && (info.SHA.String() != r.SHA256 || info.Size != int64(len(b))) {
					t.Errorf("size %d: %d bytes of digest %s, want %d of %s", size, info.Size, info.SHA, len(b), r.SHA256)
				}
			}
		})
	}
}

func checkVerdict(t *testing.T, r row, info *Info, err error) {
	t.Helper()
	if r.Expect == "reject" {
		code := string(gantry.CodeOf(err))
		if code != r.Reason && !slices.Contains(r.Also, code) || gantry.KindOf(err) != gantry.Illegal {
			t.Errorf("%v (%v), want %s or one of %v", err, gantry.CodeOf(err), r.Reason, r.Also)
		}
		return
	}
	if err != nil {
		t.Fatalf("%v (%s), want %s", err, gantry.CodeOf(err), r.Expect)
	}
	var want []gantry.Code
	if r.Expect == "accept_with_warning" {
		want = append(want, gantry.Code(r.Reason))
		for _, a := range r.Also {
			want = append(want, gantry.Code(a))
		}
	}
	got := slices.Clone(info.Warnings)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("warnings %v, want %v", got, want)
	}
	checkInfo(t, r, info)
}

// checkInfo compares what Scan learnt with what other tools measured.
func checkInfo(t *testing.T, r row, in *Info) {
	t.Helper()
	for _, c := range []struct{ name, got, want string }{
		{"transfer syntax", in.TransferSyntax, r.TransferSyntax},
		{"SOP class", in.SOPClass, r.SOPClass},
		{"modality", in.Modality, r.Modality},
		{"photometric", in.Photometric, r.Photometric},
	} {
		if c.want != "" && c.got != c.want {
			t.Errorf("%s %q, want %q", c.name, c.got, c.want)
		}
	}
	for _, c := range []struct {
		name      string
		got, want int
	}{
		{"rows", in.Rows, r.Rows}, {"columns", in.Columns, r.Columns}, {"bits", in.BitsAllocated, r.Bits},
		{"samples", in.SamplesPerPixel, r.Samples}, {"frames", in.Frames, r.Frames},
		{"fragments", in.Fragments, r.Fragments}, {"offset table", in.Offsets, r.OffsetTable},
	} {
		if c.want != 0 && c.got != c.want {
			t.Errorf("%s %d, want %d", c.name, c.got, c.want)
		}
	}
}
