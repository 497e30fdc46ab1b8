package pipeline

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/driver/all"
)

var update = flag.Bool("update", false, "write the tables of docs/pipeline.md anew")

//go:generate go test -run TestReference -update .

const (
	referenceFile = "../../docs/pipeline.md"
	tablesBegin   = "<!-- tables: drawn from the grammar by go generate ./internal/pipeline -->\n"
)

// TestReference holds docs/pipeline.md to the grammar. With -update it writes the tables.
func TestReference(t *testing.T) {
	src, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	intro, tables, ok := strings.Cut(string(src), tablesBegin)
	if !ok {
		t.Fatalf("%s has no mark where the tables begin", referenceFile)
	}
	want := "\n" + Reference(all.Drivers())
	if *update {
		if err := os.WriteFile(referenceFile, []byte(intro+tablesBegin+want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, tables); diff != "" {
		t.Errorf("stale: go generate ./internal/pipeline\n%s", diff)
	}
}

// TestReferenceSaysAll looks for each key and each variable, and for a table in one piece.
func TestReferenceSaysAll(t *testing.T) {
	t.Parallel()
	text := Reference(fake{})
	for _, want := range []string{
		"| `need` | `all`, `any` or a number | `all` |", "| `name` | text | *required* |",
		"| `archives` | list of `zip`, `tar`, `tar.gz`, `tar.zst` | `[zip, tar, tar.gz, tar.zst]` |", "#### `kind: http`", "| `headers` | entries by any text |",
		"| `keep_if` of a stage | `result` | any |", "`stages.STAGE.PROCESSOR[0].ok` | bool", "| `number(x)` |", "| `depth` | number, 1 to 16 | `3` |",
		"| `sources` | entries by name |", "| `token` | reference to a secret | *required* |", "| `timeout` | duration from 1ms | `60s` |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("lacks %s", want)
		}
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "|") && strings.Count(strings.ReplaceAll(line, `\|`, ""), "|") != 5 && !strings.HasPrefix(line, "| `") && !strings.HasPrefix(line, "| function") && line != "|---|---|\n" {
			t.Errorf("a row of other cells: %s", line)
		}
	}
}
