package pipeline

import (
	"strings"
	"testing"
)

// TestWithin writes one expression in every style of YAML and wants the caret under the same word.
func TestWithin(t *testing.T) {
	t.Parallel()
	for name, src := range map[string]string{
		"plain":              "when: dicom.Modalty == 1\n",
		"single":             "when: 'dicom.Modalty == 1'\n",
		"single, escaped":    "when: '\"it''s\" == dicom.Modalty'\n",
		"double":             "when: \"dicom.Modalty == 1\"\n",
		"double, escaped":    "when: \"\\\"a\\\" == dicom.Modalty\"\n",
		"double, by numbers": "when: \"\\u0022\\x61\\U00000022 == dicom.Modalty\"\n",
		"not ASCII":          "when: '\"é日\" == dicom.Modalty'\n",
		"literal":            "when: |\n  dicom.StudyDate == \"\" and\n    dicom.Modalty == 1\n",
		"behind other text":  "description: é\nwhen:   'true and dicom.Modalty == 1'\n",
	} {
		got := mistakes(t, small+src)
		lines := strings.Split(small+src, "\n")
		want := ""
		for i, line := range lines {
			if at := strings.Index(line, "Modalty"); at >= 0 {
				want = place2(i+1, len([]rune(line[:at]))+1) + `: when: "Modalty" is no DICOM keyword (did you mean "Modality"?)`
			}
		}
		if len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	// Where the text is folded the place is where it begins.
	for name, src := range map[string]string{
		"folded":            "when: >\n  dicom.Modality == \"\" and\n  dicom.Modalty == 1\n",
		"plain, two lines":  "when: dicom.Modality == \"\" and\n  dicom.Modalty == 1\n",
		"double, two lines": "when: \"dicom.Modality == '' and\n  dicom.Modalty == 1\"\n",
		"single, two lines": "when: 'dicom.Modality == \"\" and\n  dicom.Modalty == 1'\n",
	} {
		if got := mistakes(t, small+src); len(got) != 1 || !strings.HasPrefix(got[0], "5:7: when:") {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func place2(line, col int) string {
	return strings.TrimSuffix(Problem{File: "", Line: line, Col: col}.String()[1:], ": ")
}

// TestExpressionFields: what may stand where an expression belongs.
func TestExpressionFields(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		`true`: `"true" is not text`, `5`: `"5" is not text`, `""`: "when: it is empty", `"  "`: "when: it is empty", `[a]`: "want one value, have a list",
		`~`: "want one value, have nothing", `"dicom.Modality == '${env:M}'"`: "no variables are put into expressions", `"1 == \x01"`: "control character",
		`"` + strings.Repeat(" ", maxExpression) + `1 == 1"`: "bytes, more than the 2048", `"1 == 1"`: "", `1 == 1`: "",
	} {
		wantMistake(t, small+"when: "+value+"\n", want, "M", "CT")
		wantMistake(t, inMapping("stage", "when: "+value), want, "M", "CT")
	}
	// Two mistakes of one expression are both said.
	if got := mistakes(t, small+"when: 'dicom.Modalty == objct.media'\n"); len(got) != 2 {
		t.Errorf("%q", got)
	}
}

// TestExpressionPrints: the source line and caret of an expression, and no secret beside it.
func TestExpressionPrints(t *testing.T) {
	t.Parallel()
	text := printed(t, strings.Replace(small, "call: finder", "call: finder, when: 'item.siz > 1', token: hunter2", 1))
	if strings.Contains(text, "hunter2") || !strings.Contains(text, "token: *******") {
		t.Errorf("prints\n%s", text)
	}
	lines := strings.Split(text, "\n")
	if at := strings.Index(lines[1], "siz"); at < 0 || len(lines[2]) != at+1 {
		t.Errorf("prints\n%s", text)
	}
}
