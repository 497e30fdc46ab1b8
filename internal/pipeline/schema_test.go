package pipeline

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"github.com/gantry-imaging/gantry/internal/driver/all"
)

// compiled reads the schema that a register gives.
func compiled(t *testing.T, k Kinds) *jsonschema.Schema {
	t.Helper()
	src, err := Schema(k)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(src))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("pipeline.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("pipeline.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// validate holds a YAML text to a schema, as an editor does.
func validate(t *testing.T, s *jsonschema.Schema, src []byte) error {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(src, &v); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(doc)
}

// TestSchemaTakes: what ships, and a file that sets every key, fit the schema.
func TestSchemaTakes(t *testing.T) {
	t.Parallel()
	s := compiled(t, all.Drivers())
	files, _ := filepath.Glob("../../pipelines/*.yaml")
	if len(files) < 4 {
		t.Fatalf("%d files", len(files))
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(t, s, src); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	for name, src := range map[string]string{"full": full, "small": small, "every type of field": sinkSample} {
		if err := validate(t, compiled(t, fake{}), []byte(src)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

const sinkSample = small + `sinks: {all: {kind: dir, path: x}}
priority: offpeak
`

// beyond are the bad files whose mistake a schema cannot see: it spans several keys, needs a
// name's definition, a rule of a driver, the environment or the language of expressions.
var beyond = []string{
	"auth-unknown", "auth-unused", "batch-without-max", "burst-without-rate", "call-two", "call-two-cumulative", "call-unknown", "config-rule", "duration-zero",
	"group-cap-below-quiet", "group-expect-auth", "group-expect-of-prefix", "group-expect-steady", "group-expect-url", "group-depth-of-study", "group-late-without-end", "group-marker-not-taken", "group-marker-of-study", "group-marker-pattern", "group-marker-slash", "group-prefix-without-end", "group-rerun-of-moved",
	"keep-if-result", "keep-if-processor", "limits-differ", "max-without-batch", "name-capitals", "need-too-many", "need-without-fanout",
	"number-octal", "offpeak-zone", "path-home", "priority-expression", "priority-word", "processor-unused", "retry-max", "stage-name-leg", "stage-name-r", "stage-named-twice",
	"test-calls-unknown", "test-error-done", "test-mock-kind", "test-mock-text", "test-mock-unknown", "test-mock-word", "test-named-twice",
	"variable-malformed", "variable-unset", "version-not-first", "window-unknown",
}

// TestSchemaRefuses: every bad file with a mistake of structure is refused by the schema too. The
// list above may hold no file that the schema does refuse.
func TestSchemaRefuses(t *testing.T) {
	t.Parallel()
	s := compiled(t, all.Drivers())
	files, _ := filepath.Glob("../../pipelines/bad/*.yaml")
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		if name == "key-twice" || name == "key-not-text" || strings.HasPrefix(name, "yaml-") {
			continue // an editor's YAML reader complains
		}
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		hidden := slices.Contains(beyond, name) || strings.HasPrefix(name, "when-") && name != "when-true"
		if err := validate(t, s, src); (err == nil) != hidden {
			t.Errorf("%s: beyond the schema %v, but %v", name, hidden, err)
		}
	}
}
