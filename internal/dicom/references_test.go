package dicom

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// refer is an item that names an instance.
func refer(uid string, more ...[]byte) []byte {
	return it(false, slices.Concat(ex(0x00081150, str("UI", ClassCT)), ex(tagReferenced, str("UI", uid)), slices.Concat(more...)))
}

// raws is a file with elements as they are.
func raws(m map[uint32][]byte) []byte { return spec{raw: m}.bytes() }

// TestReferences finds what objects of several kinds say they were made from, and not what else they name.
func TestReferences(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		raw  map[uint32][]byte
		want []string
	}{
		"none":   {nil, nil},
		"source": {map[uint32][]byte{0x00082112: sq(false, 0x00082112, refer("1.2.3"), refer("1.2.4"), refer("1.2.3"))}, []string{"1.2.3", "1.2.4"}},
		"open":   {map[uint32][]byte{0x00081140: sq(true, 0x00081140, it(true, ex(tagReferenced, str("UI", "1.2.3"))))}, []string{"1.2.3"}},
		"evidence": {map[uint32][]byte{0x0040a375: sq(false, 0x0040a375, it(false, sq(false, 0x00081115,
			it(false, sq(false, 0x00081199, refer("1.2.5"), refer("1.2.6"))))))}, []string{"1.2.5", "1.2.6"}},
		"series": {map[uint32][]byte{0x00081115: sq(false, 0x00081115, it(false, sq(false, 0x0008114a, refer("1.2.7"))))}, []string{"1.2.7"}},
		"content": {map[uint32][]byte{0x0040a730: sq(false, 0x0040a730, it(false, sq(false, 0x00081199, refer("1.2.8")),
			sq(false, 0x0040a730, it(false, sq(false, 0x00081199, refer("1.2.9"))))))}, []string{"1.2.8", "1.2.9"}},
		"a study, a step, a request and an earlier version": {map[uint32][]byte{
			0x00081110: sq(false, 0x00081110, refer("1.2.10")), 0x00081111: sq(false, 0x00081111, refer("1.2.11")),
			0x0040a360: sq(false, 0x0040a360, it(false, sq(false, 0x00081115, it(false, sq(false, 0x00081199, refer("1.2.12")))))),
			0x0040a370: sq(false, 0x0040a370, it(false, sq(false, 0x00081199, refer("1.2.13"))))}, nil},
		"no UID": {map[uint32][]byte{0x00082112: sq(false, 0x00082112, refer("../../etc"), refer(""))}, nil},
	} {
		b := raws(c.raw)
		for _, r := range []io.Reader{bytes.NewReader(b), iotest.OneByteReader(bytes.NewReader(b))} {
			got, err := References(r, int64(len(b)))
			if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
				t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
			}
		}
	}
}

// TestReferencesBounded refuses a file that refers to more than anybody could mean.
func TestReferencesBounded(t *testing.T) {
	t.Parallel()
	var items [][]byte
	for i := range maxReferences + 1 {
		items = append(items, refer(fmt.Sprintf("1.2.%d", i)))
	}
	b := raws(map[uint32][]byte{0x00082112: sq(false, 0x00082112, items[:maxReferences]...)})
	if got, err := References(bytes.NewReader(b), int64(len(b))); err != nil || len(got) != maxReferences {
		t.Errorf("%d references, %v", len(got), err)
	}
	b = raws(map[uint32][]byte{0x00082112: sq(false, 0x00082112, items...)})
	if got, err := References(bytes.NewReader(b), int64(len(b))); gantry.CodeOf(err) != gantry.CodeTooLarge || got != nil {
		t.Errorf("%d references, %v", len(got), err)
	}
}

// TestHead finds what Scan finds, from the beginning of a file alone.
func TestHead(t *testing.T) {
	t.Parallel()
	for _, ts := range []string{syntaxExplicit, syntaxImplicit, syntaxBig, syntaxDeflated} {
		b := spec{ts: ts}.bytes()
		want, err := Scan(bytes.NewReader(b), int64(len(b)), DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		got, err := Head(iotest.OneByteReader(bytes.NewReader(b)), -1)
		if err != nil || got.SOPClass != want.SOPClass || got.SOPInstance != want.SOPInstance || got.StudyInstance != want.StudyInstance ||
			got.TransferSyntax != want.TransferSyntax || got.Modality != want.Modality {
			t.Errorf("%s: %+v, %v", ts, got, err)
		}
		if ts == syntaxExplicit {
			if got, err := Head(bytes.NewReader(b[:len(b)-40]), -1); err != nil || got.StudyInstance != want.StudyInstance {
				t.Errorf("of a file whose pixels are not there yet: %+v, %v", got, err)
			}
		}
	}
	for name, b := range map[string][]byte{"nothing": nil, "text": []byte("hello"), "no instance": spec{drop: []uint32{tagInstance}}.bytes(),
		"no UID": spec{set: map[uint32]val{tagInstance: str("UI", "../x")}}.bytes()} {
		if _, err := Head(bytes.NewReader(b), int64(len(b))); gantry.KindOf(err) != gantry.Illegal {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzReferences reads whatever comes.
func FuzzReferences(f *testing.F) {
	f.Add(raws(map[uint32][]byte{0x00082112: sq(false, 0x00082112, refer("1.2.3"))}))
	f.Add(raws(map[uint32][]byte{0x0040a375: sq(true, 0x0040a375, it(true, sq(true, 0x00081115, it(true, sq(true, 0x00081199, refer("1.2.5"))))))}))
	for _, s := range goods() {
		f.Add(s.bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := References(bytes.NewReader(b), int64(len(b)))
		if err != nil && (gantry.KindOf(err) != gantry.Illegal || list != nil) {
			t.Fatalf("%d references, %v", len(list), err)
		}
		for _, uid := range list {
			if !ValidUID(uid) {
				t.Fatal("what is no UID was given as one")
			}
		}
		if _, err := Head(bytes.NewReader(b), int64(len(b))); err != nil && gantry.KindOf(err) != gantry.Illegal {
			t.Fatal(err)
		}
	})
}

// TestReferencesOfCorpus reads every file of the corpus that Scan accepts.
func TestReferencesOfCorpus(t *testing.T) {
	t.Parallel()
	root := os.Getenv("GANTRY_CORPUS")
	if root == "" {
		t.Skip("GANTRY_CORPUS is not set")
	}
	files, some := 0, 0
	err := filepath.WalkDir(filepath.Join(root, "dicom"), func(p string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if _, err := Scan(bytes.NewReader(b), int64(len(b)), DefaultLimits()); err != nil {
			return nil
		}
		files++
		list, err := References(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Errorf("file %d: %v", files, err)
		}
		if len(list) > 0 {
			some++
		}
		return nil
	})
	if err != nil || files == 0 || some == 0 {
		t.Errorf("%d files, %d of them refer to others: %v", files, some, err)
	}
	t.Logf("%d of %d files refer to others", some, files)
}
