package dicom

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// One pass says what two say, of sound files and of those that are refused.
func TestScanTags(t *testing.T) {
	t.Parallel()
	files := map[string][]byte{"cut": spec{}.bytes()[:300], "none": []byte("no DICOM"), "empty": nil}
	for name, s := range goods() {
		files[name] = s.bytes()
	}
	for name, b := range files {
		sameInOnePass(t, name, b)
	}
}

func TestScanTagsCorpus(t *testing.T) {
	t.Parallel()
	rows, read := corpus(t)
	for _, r := range rows {
		sameInOnePass(t, r.Path, read(t, r.Path))
	}
}

// skipping goes past bytes by itself, and counts them.
type skipping struct {
	*bytes.Reader
	n int64
}

func (s *skipping) Skip(n int64) (int64, error) {
	k := min(n, int64(s.Len()))
	s.n += k
	if _, err := s.Seek(k, io.SeekCurrent); err != nil {
		return 0, err
	}
	if k < n {
		return k, io.EOF
	}
	return k, nil
}

// What is long and says nothing is not read where the reader goes past it, and where it ends is found all the same.
func TestScanTagsSkips(t *testing.T) {
	t.Parallel()
	set := map[uint32]val{tagRows: short(300), tagColumns: short(500), tagPixelData: {"OW", make([]byte, 300_000)}}
	b := spec{set: set}.bytes()
	for _, n := range []int{len(b), len(b) - 1, len(b) - 100_000, len(b) - 299_999} {
		_, want := Scan(bytes.NewReader(b[:n]), -1, DefaultLimits())
		r := &skipping{Reader: bytes.NewReader(b[:n])}
		info, tags, err := ScanTags(r, -1, DefaultLimits())
		if gantry.CodeOf(err) != gantry.CodeOf(want) || info.Size != int64(n) || (tags == nil) != (want != nil) {
			t.Errorf("%d of %d bytes: %v, read whole: %v; %d bytes", n, len(b), err, want, info.Size)
		}
		if r.n < int64(n)-100_000 && n > 200_000 {
			t.Errorf("%d of %d bytes were skipped", r.n, n)
		}
	}
	broken := errors.New("the line broke")
	if _, _, err := ScanTags(breaking{&skipping{Reader: bytes.NewReader(b)}, broken}, -1, DefaultLimits()); !errors.Is(err, broken) {
		t.Errorf("a reader that fails to skip: %v", err)
	}
}

// breaking fails where it is to skip.
type breaking struct {
	io.Reader
	err error
}

func (b breaking) Skip(int64) (int64, error) { return 0, b.err }

func sameInOnePass(t *testing.T, name string, b []byte) {
	t.Helper()
	info, refused := Scan(bytes.NewReader(b), -1, DefaultLimits())
	got, tags, err := ScanTags(iotest.HalfReader(bytes.NewReader(b)), -1, DefaultLimits())
	info.SHA = gantry.Digest{} // which is left to who reads
	if gantry.CodeOf(err) != gantry.CodeOf(refused) || cmp.Diff(info, got) != "" {
		t.Errorf("%s: %v, alone %v\n%s", name, err, refused, cmp.Diff(info, got))
	}
	if refused != nil {
		if tags != nil {
			t.Errorf("%s: tags of a file that is refused", name)
		}
		return
	}
	want, err := Tags(bytes.NewReader(b), -1)
	if err != nil {
		want = nil
	}
	if diff := cmp.Diff(want, tags); diff != "" {
		t.Errorf("%s: tags (-alone +together):\n%s", name, diff)
	}
}

// Too much text is no reason to refuse an object, only to know nothing of it.
func TestScanTagsOfMuchText(t *testing.T) {
	t.Parallel()
	set := map[uint32]val{}
	for i := range uint32(80) {
		set[0x00204000+i<<1&0xff|0x00410000*(i>>7)] = val{"LT", bytes.Repeat([]byte("x"), maxTagValue)}
	}
	b := spec{set: set}.bytes()
	if info, tags, err := ScanTags(bytes.NewReader(b), int64(len(b)), DefaultLimits()); err != nil || tags != nil || info.SOPInstance != goodUID {
		t.Errorf("%v, %d tags", err, len(tags))
	}
	broken := errors.New("the line broke")
	if info, tags, err := ScanTags(iotest.ErrReader(broken), -1, DefaultLimits()); info != nil || tags != nil || !errors.Is(err, broken) {
		t.Errorf("a reader that fails: %v", err)
	}
}

// What is written before a data set that came is a file meta information that scanner and library read, with the AE titles
// that are some.
func TestFileMeta(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sender, receiver string
		want             map[uint32]string
	}{
		"both":    {"ECHO1", "GANTRY", map[uint32]string{0x00020016: "ECHO1 ", 0x00020017: "ECHO1 ", 0x00020018: "GANTRY"}},
		"strange": {"EVIL\\AE", "GANTRY", map[uint32]string{0x00020018: "GANTRY"}},
		"none":    {"", strings.Repeat("x", 17), nil},
	} {
		body := spec{}.body(syntaxExplicit)
		head := FileMeta{Class: ClassSecondaryCapture, Instance: goodUID, Syntax: syntaxExplicit, Sender: c.sender, Receiver: c.receiver}.Append([]byte("kept"))
		if string(head[:4]) != "kept" {
			t.Fatalf("%s: what was there is gone", name)
		}
		file := slices.Concat(head[4:], body)
		info, _, err := ScanTags(bytes.NewReader(file), int64(len(file)), DefaultLimits())
		if err != nil || len(info.Warnings) != 0 || info.SOPInstance != goodUID || info.TransferSyntax != syntaxExplicit {
			t.Fatalf("%s: %v, %+v", name, err, info)
		}
		got := map[uint32]string{}
		for _, tag := range []uint32{0x00020016, 0x00020017, 0x00020018} {
			if i := bytes.Index(file, []byte{2, 0, byte(tag), 0, 'A', 'E'}); i >= 0 {
				n := int(file[i+6])
				got[tag] = string(file[i+8 : i+8+n])
			}
		}
		if !maps.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestValidAE(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{"A": true, "GANTRY": true, "STORE SCP": true, strings.Repeat("a", 16): true,
		"": false, strings.Repeat("a", 17): false, " A": false, "A ": false, `A\B`: false, "A\x00": false, "É": false, "A\n": false} {
		if ValidAE(s) != want {
			t.Errorf("%q: %v", s, !want)
		}
	}
	if !KnownSyntax(syntaxDeflated) || !KnownSyntax(tsXL) || KnownSyntax("1.2.3") || KnownSyntax("") {
		t.Error("KnownSyntax")
	}
}
