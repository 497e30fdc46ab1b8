package dicom

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestJoinSide has dciodvfy look for the side of a derived image: whatever the source says of part and side,
// nothing is missing (PS3.3 section C.7.3.1, Laterality is type 2C).
func TestJoinSide(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]map[uint32]val{
		"unknown part":           nil,
		"empty part":             {tagBodyPart: str("CS", "")},
		"one part":               {tagBodyPart: str("CS", "HEART")},
		"several parts":          {tagBodyPart: str("CS", "TLSPINE")},
		"a part nobody knows":    {tagBodyPart: str("CS", "GIZZARD")},
		"one of a pair":          {tagBodyPart: str("CS", "KNEE")},
		"one of a pair, a side":  {tagBodyPart: str("CS", "KNEE"), tagLaterality: str("CS", "L")},
		"one of a pair, no side": {tagBodyPart: str("CS", "BREAST"), tagLaterality: str("CS", "")},
		"a side":                 {tagLaterality: str("CS", "R")},
	} {
		if wrong := sideErrors(t, joined(t, several("", set).bytes(), shown)); len(wrong) > 0 {
			t.Errorf("%s: %v", name, wrong)
		}
	}
	// The control: an image without either is found wanting.
	rw := rewriterOf(t, joined(t, several("", nil).bytes(), shown))
	rw.remove(tagLaterality)
	var b strings.Builder
	if err := writeMeta(&b, ClassGreyByteCapture, "2.25.1", syntaxExplicit); err != nil {
		t.Fatal(err)
	}
	if err := rw.write(&b); err != nil {
		t.Fatal(err)
	}
	if wrong := sideErrors(t, []byte(b.String())); len(wrong) != 1 {
		t.Errorf("an image without part and side: %v", wrong)
	}
}

// sideErrors is what dciodvfy finds wrong with the side.
func sideErrors(t *testing.T, b []byte) map[string]bool {
	t.Helper()
	name := filepath.Join(t.TempDir(), "joined.dcm")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	wrong := iodErrors(t, name)
	maps.DeleteFunc(wrong, func(e string, _ bool) bool { return !strings.Contains(e, "Laterality") })
	return wrong
}
