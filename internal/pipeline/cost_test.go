package pipeline

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestTextsAreCharged: a text costs a step for every 256 bytes, whatever reads it.
func TestTextsAreCharged(t *testing.T) {
	t.Parallel()
	list := make([]any, 2000)
	for i := range list {
		list[i] = float64(i)
	}
	text := strings.Repeat("a", 1<<20)
	vars := map[string]any{"result": map[string]any{"list": list, "text": text, "same": strings.Clone(text), "texts": []any{strings.Clone(text) + "b", text[1:] + "b"},
		"blank": strings.Repeat(" ", 1<<20), "of": map[string]any{"a": 1.0}, "short": "a"}}
	for src, refused := range map[string]bool{
		`any(result.list, lower(result.text) == "")`:      true,
		`any(result.list, len(result.text) < #)`:          true,
		`any(result.list, number(result.blank) == 1)`:     true,
		`any(result.list, result.text != result.same)`:    true,
		`any(result.list, result.text < result.same)`:     true,
		`any(result.list, result.text in result.texts)`:   true,
		`any(result.list, result.text in result.of)`:      true,
		`any(result.list, result.of[result.text] == #)`:   true,
		`any(result.list, result.text == "a")`:            false,
		`any(result.list, result.short > "b")`:            false,
		`any(result.list, len(result.short) > 1)`:         false,
		`len(result.text) < 1 or result.text > "b"`:       false,
		`any(result.list, result.of[result.short] == -1)`: false,
	} {
		c, mistakes := compile(src, stageShape(threeStages, true))
		if len(mistakes) > 0 {
			t.Fatal(src, mistakes)
		}
		if _, err := c.Holds(vars); (err != nil) != refused || refused && (gantry.CodeOf(err) != CodeBadExpression || !strings.Contains(err.Error(), errSteps.Error())) {
			t.Errorf("%s: %v", src, err)
		}
	}
}

// TestPatternsAreBounded: few characters of a pattern may stand for much, which every character of a text would be held against.
func TestPatternsAreBounded(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]string{
		"^" + strings.Repeat("a?[a-z]{0,1000}", 120) + "$": "20: the pattern comes to 240244 instructions; 2000 are allowed: write shorter repeats",
		"[a-z]{1,1000}[0-9]{1,2}":                          "20: the pattern comes to 2004 instructions; 2000 are allowed: write shorter repeats",
		"[a-z]{1,900}":                                     "",
		"^(CT|MR|US)[ _-].{0,64}$":                         "",
	} {
		c, mistakes := compile(`result.text matches "`+pattern+`"`, stageShape(threeStages, true))
		got := ""
		for _, m := range mistakes {
			got += fmt.Sprintf("%d: %s", m.at, m.text)
		}
		if got != want || (c == nil) != (want != "") {
			t.Errorf("%.40s: %q, want %q", pattern, got, want)
		}
	}
}

// TestRecordedPatternsStay: a version that tasks began with can still be read, whatever its patterns stand for.
func TestRecordedPatternsStay(t *testing.T) {
	t.Parallel()
	within := `dicom.Modality matches "x{1,900}"`
	p := mustParse(t, small+"when: '"+within+"'\npriority: '"+within+" ? 1 : 5'\n")
	beyond := []byte(strings.ReplaceAll(string(p.Resolved), "x{1,900}", "[a-c]{1,1000}[a-c]{1,10}"))
	if again, err := ParseResolved(beyond, fake{}); err != nil || again.When == nil {
		t.Error(err)
	}
	if got := mistakes(t, small+"when: '"+strings.ReplaceAll(within, "x{1,900}", "[a-c]{1,1000}[a-c]{1,10}")+"'\n"); len(got) != 1 || !strings.Contains(got[0], "2000 are allowed") {
		t.Errorf("%q", got)
	}
}
