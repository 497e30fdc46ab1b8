package dicom

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// iodErrors is what dciodvfy finds wrong, each error once, without the values that it shows.
func iodErrors(t *testing.T, name string) map[string]bool {
	t.Helper()
	p, err := exec.LookPath("dciodvfy")
	if err != nil {
		t.Skip("dciodvfy is not installed")
	}
	out, _ := exec.Command(p, name).CombinedOutput() // its exit code tells of errors too
	found := map[string]bool{}
	for _, line := range strings.Split(string(out), "\n") {
		if e, ok := strings.CutPrefix(line, "Error - "); ok && !outdated(e) {
			e, _, _ = strings.Cut(e, "value is = <")
			found[strings.TrimSpace(e)] = true
		}
	}
	return found
}

// outdated tells whether an error is none: what speaks of the acquisition may be present in derived
// images too (PS3.3 section C.8.13.4, since 2020 at the latest).
func outdated(e string) bool {
	return strings.HasPrefix(e, "Attribute present when condition unsatisfied") &&
		(strings.HasSuffix(e, "Module=<MRPulseSequence>") || strings.HasSuffix(e, "Module=<BulkMotionSynchronization>"))
}

// decoded lets dcmtk decode a file.
func decoded(t *testing.T, name string, l Layout) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "native.dcm")
	switch l.TransferSyntax {
	case syntaxRLE:
		tool(t, "dcmdrle", name, out)
	case syntaxLossless, syntaxLossless1:
		tool(t, "dcmdjpeg", name, out)
	default:
		tool(t, "dcmconv", "+te", name, out)
	}
	return nativeOf(t, out)
}

// TestCorpusJoin splits every image of several frames, lets a model give back what it got, joins
// the answers, and has dcmtk and dciodvfy compare the result with the source.
func TestCorpusJoin(t *testing.T) {
	t.Parallel()
	rows, read := corpus(t)
	seen := 0
	for _, r := range rows {
		if r.Expect == "reject" || r.Frames < 2 {
			continue
		}
		b := read(t, r.Path)
		f, err := OpenFrames(bytes.NewReader(b), int64(len(b)), FrameLimits{})
		if gantry.CodeOf(err) == CodeUnsupportedSyntax || err == nil && f.layout.BitsAllocated > 16 {
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", r.Path, err)
			continue
		}
		seen++
		t.Run(r.Path, func(t *testing.T) {
			t.Parallel()
			checkJoin(t, b, filepath.Join(os.Getenv("GANTRY_CORPUS"), r.Path), f.Layout())
		})
	}
	if seen < 15 {
		t.Errorf("%d files, want at least 15", seen)
	}
}

func checkJoin(t *testing.T, b []byte, source string, was Layout) {
	known := iodErrors(t, source)
	for way, change := range map[string]func(*Joining){"stored": nil, "npy": asNPY, "shown": func(j *Joining) { j.Window = Window{} }} {
		out := joined(t, b, change)
		name := filepath.Join(t.TempDir(), "joined.dcm")
		if err := os.WriteFile(name, out, 0o600); err != nil {
			t.Fatal(err)
		}
		for e := range iodErrors(t, name) {
			if !known[e] {
				t.Errorf("%s: dciodvfy: %s", way, e)
			}
		}
		_, l := allValues(t, out)
		if way == "shown" || l.BitsAllocated != was.BitsAllocated {
			continue
		}
		if want := strings.Replace(was.Photometric, "_422", "", 1); l.Photometric != want && l.Photometric != "RGB" {
			t.Errorf("%s: %s of %s", way, l.Photometric, want)
		}
		if was.Samples == 3 && !bytes.Equal(colours(t, out), colours(t, b)) {
			t.Errorf("%s: other colours", way)
		}
		if l.Photometric != was.Photometric || was.Planar || lossySyntax(was.TransferSyntax) {
			continue // other values, by design
		}
		n := (was.Frames*was.pixels()*was.Samples*was.BitsAllocated + 7) / 8
		if !bytes.Equal(nativeOf(t, name)[:n], decoded(t, source, was)[:n]) {
			t.Errorf("%s: other values than dcmtk's", way)
		}
	}
}

// colours is all frames of a file in RGB.
func colours(t *testing.T, b []byte) (all []byte) {
	t.Helper()
	f, err := OpenFrames(bytes.NewReader(b), int64(len(b)), FrameLimits{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range f.Len() {
		p, err := f.Picture(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		one := make([]byte, p.count())
		if err := p.rgb(one); err != nil {
			t.Fatal(err)
		}
		all = append(all, one...)
	}
	return all
}
