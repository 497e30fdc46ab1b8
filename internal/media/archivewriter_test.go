package media

import (
	"bytes"
	"errors"
	"testing"
	"testing/iotest"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

var archiveKinds = map[ArchiveKind]string{
	ArchiveZip: gantry.MediaZIP, ArchiveTar: gantry.MediaTAR, ArchiveTarGzip: gantry.MediaGZIP, ArchiveTarZstd: gantry.MediaZSTD,
}

func written(t *testing.T, kind ArchiveKind, names []string, files [][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	a, err := NewArchiveWriter(kind, &b)
	wantCode(t, err)
	for i, name := range names {
		wantCode(t, a.Add(name, int64(len(files[i])), bytes.NewReader(files[i])))
	}
	wantCode(t, a.Close())
	return b.Bytes()
}

// What is written reads back: the same names, to the byte, in the same order, the same contents; and
// the bytes are the same every time.
func TestArchiveWriterRoundTrip(t *testing.T) {
	t.Parallel()
	names := []string{"z/b.dcm", "a.png", "M\x81ller.dcm", "dup", "dup", "empty"}
	files := [][]byte{object(1), encoded(t)["grey"], object(2), object(3), object(4), nil}
	for kind, want := range archiveKinds {
		data := written(t, kind, names, files)
		if !bytes.Equal(data, written(t, kind, names, files)) {
			t.Errorf("%s: other bytes the second time", kind)
		}
		if got := Detect(data); got != want {
			t.Errorf("%s: detected %q", kind, got)
		}
		if k, ok := ArchiveKindOf(want); !ok || k != kind {
			t.Errorf("%s: written anew as %q", want, k)
		}
		a, err := openAny(bytes.NewReader(data), int64(len(data)), 1, NewBudget(corpusLimits))
		wantCode(t, err)
		entries := a.Entries()
		if len(entries) != len(names) {
			t.Fatalf("%s: %d entries", kind, len(entries))
		}
		for i, e := range entries {
			got, err := readEntry(a, e.Ordinal)
			if err != nil || !bytes.Equal(got, files[i]) || a.RawName(e.Ordinal) != names[i] {
				t.Errorf("%s, entry %d: %d bytes and %v", kind, i, len(got), err)
			}
		}
		if kind == ArchiveZip && (entries[1].Packed != entries[1].Size || entries[0].Packed == entries[0].Size) {
			t.Errorf("a PNG is deflated, or a DICOM file is not: %+v", entries[:2])
		}
	}
}

func TestArchiveWriterRefuses(t *testing.T) {
	t.Parallel()
	down := errors.New("storage is down")
	for kind := range archiveKinds {
		for _, name := range []string{"", "/a", "../a", "a/../../b", `C:\a`, "a\x00b", "d/", `d\`} {
			a, err := NewArchiveWriter(kind, new(bytes.Buffer))
			wantCode(t, err)
			wantCode(t, a.Add(name, 1, bytes.NewReader([]byte("x"))), CodeUnsafePath)
			wantCode(t, a.Add("a", 1, bytes.NewReader([]byte("x"))))
		}
		for size, want := range map[int64]gantry.Code{2: gantry.CodeTruncated, 0: CodeLengthOutOfBounds, -1: CodeLengthOutOfBounds} {
			a, err := NewArchiveWriter(kind, new(bytes.Buffer))
			wantCode(t, err)
			wantCode(t, a.Add("a", size, bytes.NewReader([]byte("x"))), want)
			wantCode(t, a.Close(), want)
		}
		a, _ := NewArchiveWriter(kind, new(bytes.Buffer))
		if err := a.Add("a", 9, iotest.ErrReader(down)); !errors.Is(err, down) {
			t.Errorf("got %v, want the storage's error", err)
		}
	}
	_, err := NewArchiveWriter("rar", new(bytes.Buffer))
	wantCode(t, err, gantry.CodeUnsupportedFormat)
	if _, ok := ArchiveKindOf(gantry.MediaPNG); ok {
		t.Error("a PNG is no archive")
	}
}
