package pipeline

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestTaskCondition holds for what it says, and where a value is missing it does not.
func TestTaskCondition(t *testing.T) {
	t.Parallel()
	vars := map[string]any{
		"task":  map[string]any{"id": "abc", "age": 90.5, "attempts": 3, "source": "inbox", "priority": nil},
		"error": map[string]any{"kind": "timeout", "code": "timeout", "stage": "models"},
	}
	for src, want := range map[string]bool{
		`error.kind == "timeout" && error.stage == "models"`: true,
		`error.kind in ["denied", "timeout"]`:                true,
		`task.age > 90 && task.attempts >= 3`:                true,
		`task.id startsWith "ab"`:                            true,
		`task.priority < 5`:                                  false,
		`task.priority >= 0`:                                 false,
		`error.code matches "^http_5"`:                       false,
	} {
		c, err := TaskCondition(src)
		if err != nil {
			t.Errorf("%s: %v", src, err)
			continue
		}
		if got, err := c.Holds(vars); err != nil || got != want {
			t.Errorf("%s holds: %t, %v", src, got, err)
		}
	}
}

// TestTaskConditionMistakes says what is wrong, and where.
func TestTaskConditionMistakes(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		`error.kin == "x"`:        `(did you mean "kind"?)`,
		`task.age`:                "  ^ it gives number, not true or false",
		`task.age > "x"`:          "  task.age > \"x\"\n           ^ invalid operation",
		`name == "Doe"`:           `^ unknown name "name"`,
		`task.name == "Doe"`:      `task has no "name"`,
		"task.age > 1\n":          "one line",
		strings.Repeat(" ", 3000): "at most 2048 bytes",
		"error.kind == \"\xff\"":  "one line",
		`now() > 1`:               `now`,
		`result.score > 1`:        `result`,
		`error.code == "a" || dicom.PatientName == "b"`: "dicom",
	} {
		_, err := TaskCondition(src)
		if gantry.CodeOf(err) != CodeBadExpression || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", src, err)
		}
	}
}

// TestTaskVariables names what there is, and nothing that may be a person's.
func TestTaskVariables(t *testing.T) {
	t.Parallel()
	var names []string
	for _, v := range TaskVariables() {
		names = append(names, v.Name)
		if v.Doc == "" || strings.Contains(v.Doc, "patient") {
			t.Errorf("%s: %q", v.Name, v.Doc)
		}
	}
	want := []string{"error.code", "error.kind", "error.stage", "task.age", "task.attempts", "task.children", "task.crashes", "task.created", "task.ended",
		"task.finished", "task.id", "task.phase", "task.pipeline", "task.priority", "task.source", "task.state", "task.version"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("variables (-want +got):\n%s", diff)
	}
}
