package sample

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/jpeg"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/dicom"
)

// tool runs a program that reads a file, if this machine has it, and gives what it says.
func tool(t *testing.T, name string, body []byte, args ...string) (said string, there bool) {
	t.Helper()
	program, err := exec.LookPath(name)
	if err != nil {
		t.Logf("%s is not installed", name)
		return "", false
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, body, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(program, append(args, file)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out), true
}

// TestLoop holds the pictures to those that were looked at, and looks for what moves.
func TestLoop(t *testing.T) {
	t.Parallel()
	all := Loop(30, 160, 120)
	var pix []byte
	for _, m := range all {
		if m.Rect != image.Rect(0, 0, 160, 120) {
			t.Fatalf("a frame of %v", m.Rect)
		}
		pix = append(pix, m.Pix...)
	}
	if got, want := digest(pix), "b76efa1825daa188"; len(all) != 30 || got != want {
		t.Errorf("%d frames with digest %s, want %s", len(all), got, want)
	}
	// The chamber is dark, its wall is not, and the wall comes in when the heart contracts.
	around := func(m *image.Gray, x, y int) (n int) {
		for k := range 25 {
			n += int(m.GrayAt(x+k%5-2, y+k/5-2).Y)
		}
		return n / 25
	}
	rest, beat := all[0], all[10]
	if a, b, c := around(rest, 86, 50), around(rest, 69, 55), around(beat, 69, 55); a > 20 || b > 20 || c < 25 || around(rest, 2, 2) != 0 {
		t.Errorf("greys %d in the chamber, %d and %d where the wall comes", a, b, c)
	}
	for i, m := range all {
		if bytes.Equal(m.Pix, all[(i+1)%30].Pix) {
			t.Errorf("frames %d and the next are the same", i)
		}
	}
}

// TestUltrasound reads the file back with this product's reader and with others'.
func TestUltrasound(t *testing.T) {
	t.Parallel()
	b := Ultrasound(30, 160, 120)
	in := scanned(t, b)
	got := []any{in.SOPClass, in.Modality, in.Rows, in.Columns, in.Frames, in.SamplesPerPixel, in.BitsAllocated, in.Photometric, in.TransferSyntax, in.PixelLength}
	if d := cmp.Diff([]any{classUltrasound, "US", 120, 160, 30, 1, 8, "MONOCHROME2", syntaxExplicit, int64(30 * 160 * 120)}, got); d != "" {
		t.Error(d)
	}
	for i, m := range Loop(30, 160, 120) {
		at := int(in.PixelOffset) + i*len(m.Pix)
		if !bytes.Equal(b[at:at+len(m.Pix)], m.Pix) {
			t.Fatalf("frame %d is another", i)
		}
	}
	tags, err := dicom.Tags(bytes.NewReader(b), int64(len(b)))
	if err != nil || tags["FrameTime"] != "40" || tags["NumberOfFrames"] != "30" {
		t.Errorf("%v: %v", tags, err)
	}
	if odd := Ultrasound(1, 3, 5); scanned(t, odd).PixelLength != 16 {
		t.Error("an odd number of samples is not padded")
	}
	for _, n := range [][3]int{{0, 1, 1}, {1, 0, 1}, {1, 1, 65536}} {
		if Ultrasound(n[0], n[1], n[2]) != nil {
			t.Errorf("a file of %v", n)
		}
	}
	if other := scanned(t, Ultrasound(2, 16, 12)); other.SOPInstance == in.SOPInstance || other.StudyInstance == in.StudyInstance {
		t.Error("two loops share UIDs")
	}
}

// TestOthersAccept shows the DICOM files to two validators.
func TestOthersAccept(t *testing.T) {
	t.Parallel()
	ct, err := CT(1, 64)
	if err != nil {
		t.Fatal(err)
	}
	loop := Ultrasound(30, 160, 120)
	for name, b := range map[string][]byte{"ct": ct[0], "us": loop} {
		if said, ok := tool(t, "dciodvfy", b); ok && strings.Contains(said, "Error") {
			t.Errorf("%s: %s", name, said)
		}
		if said, ok := tool(t, "dcmdump", b); ok && (strings.Contains(said, "E: ") || strings.Contains(said, "W: ")) {
			t.Errorf("%s: %s", name, said)
		}
	}
	program, err := exec.LookPath("dciodvfy")
	if err != nil {
		return
	}
	// The control: without its Frame Increment Pointer the file is refused.
	at := bytes.Index(loop, []byte("\x28\x00\x09\x00AT"))
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, append(bytes.Clone(loop[:at]), loop[at+12:]...), 0o600); err != nil {
		t.Fatal(err)
	}
	if said, err := exec.Command(program, file).CombinedOutput(); err == nil {
		t.Errorf("a file without a mandatory attribute: %s", said)
	}
}

// TestAVI walks the file's own index, and lets ffprobe count.
func TestAVI(t *testing.T) {
	t.Parallel()
	frames := Loop(30, 64, 48)
	b, err := AVI(frames, 10)
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	if string(b[:4]) != "RIFF" || int(le.Uint32(b[4:])) != len(b)-8 || string(b[8:12]) != "AVI " {
		t.Fatalf("begins %q", b[:12])
	}
	movi, index := bytes.Index(b, []byte("movi")), bytes.LastIndex(b, []byte("idx1"))
	if n := int(le.Uint32(b[index+4:])); n != 16*len(frames) || index+8+n != len(b) {
		t.Fatalf("an index of %d bytes", n)
	}
	for i, m := range frames {
		e := b[index+8+16*i:]
		at, size := movi+int(le.Uint32(e[8:])), int(le.Uint32(e[12:]))
		if string(e[:4]) != "00dc" || string(b[at:at+4]) != "00dc" || int(le.Uint32(b[at+4:])) != size {
			t.Fatalf("frame %d: index %q", i, e[:16])
		}
		got, err := jpeg.Decode(bytes.NewReader(b[at+8 : at+8+size]))
		if err != nil || got.Bounds() != m.Rect {
			t.Fatalf("frame %d: %v", i, err)
		}
		diff := 0
		for k, y := range got.(*image.YCbCr).Y[:64] {
			diff += max(int(y)-int(m.Pix[k]), int(m.Pix[k])-int(y))
		}
		if diff > 64*6 {
			t.Errorf("frame %d is %d off in its first row", i, diff)
		}
	}
	said, ok := tool(t, "ffprobe", b, "-v", "warning", "-count_frames", "-show_entries",
		"stream=codec_name,width,height,avg_frame_rate,nb_frames,nb_read_frames,duration", "-of", "csv=p=0")
	if want := "mjpeg,64,48,10/1,3.000000,30,30"; ok && strings.TrimSpace(said) != want {
		t.Errorf("ffprobe says %s, want %s", said, want)
	}
}

func TestAVIRefuses(t *testing.T) {
	t.Parallel()
	a, b := image.NewGray(image.Rect(0, 0, 4, 4)), image.NewGray(image.Rect(0, 0, 4, 5))
	for name, c := range map[string]struct {
		frames []*image.Gray
		rate   int
	}{
		"no frames": {nil, 10}, "no rate": {[]*image.Gray{a}, 0}, "a rate too high": {[]*image.Gray{a}, 1001},
		"two sizes": {[]*image.Gray{a, b}, 10}, "too wide": {[]*image.Gray{image.NewGray(image.Rect(0, 0, 65536, 1))}, 10},
	} {
		if _, err := AVI(c.frames, c.rate); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// TestWriteAll opens what Write does not write.
func TestWriteAll(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	paths, err := WriteAll(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	files := map[string][]byte{}
	for _, p := range paths {
		name := filepath.Base(p)
		names = append(names, name)
		if files[name], err = os.ReadFile(p); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff([]string{"xray.png", "ct-slice.dcm", "ct-study.zip", "mixed.zip", "ct-series.zip", "us-loop.dcm", "us-loop.avi", "README.txt"}, names); d != "" {
		t.Fatal(d)
	}
	for _, n := range names[:7] {
		if !strings.Contains(readme, n+" ") {
			t.Errorf("README.txt does not say what %s is", n)
		}
	}
	slices, series := unzipped(t, files["ct-series.zip"])
	if len(slices) != 24 {
		t.Errorf("the series holds %d slices", len(slices))
	}
	for _, b := range series {
		if in := scanned(t, b); in.Rows != 256 || in.BitsAllocated != 16 || in.SOPClass != dicom.ClassCT {
			t.Errorf("a slice of %d rows", in.Rows)
		}
	}
	if in := scanned(t, files["us-loop.dcm"]); in.Frames != 30 {
		t.Errorf("%d frames", in.Frames)
	}
	again, err := AVI(Loop(30, 320, 240), 10)
	if err != nil || !bytes.Equal(again, files["us-loop.avi"]) {
		t.Errorf("the video differs between two runs: %v", err)
	}
	if _, err := WriteAll(paths[0]); err == nil {
		t.Error("into a file")
	}
}
