package dicom

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func TestAttributeOf(t *testing.T) {
	for keyword, want := range map[string]Attribute{
		"PatientID":        {0x0010, 0x0020, "LO", "PatientID"},
		"StudyInstanceUID": {0x0020, 0x000d, "UI", "StudyInstanceUID"},
		"Rows":             {0x0028, 0x0010, "US", "Rows"},
	} {
		if got, ok := AttributeOf(keyword); !ok || got != want || got.Text() != (keyword != "Rows") {
			t.Errorf("%s: %+v, %v", keyword, got, ok)
		}
	}
	for _, keyword := range []string{"", "patientid", "PatientsName", "TransferSyntaxUID", "CommandField", "Item"} {
		if got, ok := AttributeOf(keyword); ok {
			t.Errorf("%s: %+v", keyword, got)
		}
	}
}

// TestTagsOf reads texts in their own character set, numbers, and what explicit VR calls unknown.
func TestTagsOf(t *testing.T) {
	set := func(implicit bool) (b []byte) {
		b = append(b, el(false, implicit, 0x00080005, str("CS", "ISO_IR 100"))...)
		b = append(b, el(false, implicit, 0x00100010, str("PN", "M\xfcller"))...)
		b = append(b, el(false, implicit, 0x00100020, str("LO", ""))...)
		b = append(b, el(false, implicit, 0x00201208, str("UN", "12"))...)
		return append(b, el(false, implicit, 0x00280010, short(512))...)
	}
	want := map[string]string{"PatientName": "Müller", "NumberOfStudyRelatedInstances": "12", "Rows": "512"}
	for transfer, implicit := range map[string]bool{syntaxImplicit: true, syntaxExplicit: false} {
		got, err := TagsOf(set(implicit), transfer)
		delete(got, "SpecificCharacterSet")
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("%s: %s%v", transfer, d, err)
		}
	}
	if _, err := TagsOf([]byte("nonsense"), syntaxImplicit); gantry.KindOf(err) != gantry.Illegal {
		t.Error(err)
	}
	if got, err := TagsOf(nil, syntaxExplicit); err != nil || len(got) != 0 {
		t.Errorf("nothing: %v, %v", got, err)
	}
}
