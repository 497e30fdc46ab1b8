package internal

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/gantry-imaging/gantry/"

// mayImport says which packages of this module each package may import. Tests may import more.
var mayImport = map[string][]string{
	"internal/gantry":                     {},
	"internal/fail":                       {},
	"migrations":                          {},
	"pipelines":                           {},
	"internal/localpg":                    {},
	"internal/api":                        {"internal/gantry"},
	"internal/dicom":                      {"internal/gantry"},
	"internal/auth":                       {"internal/gantry"},
	"internal/dimse":                      {"internal/gantry"},
	"internal/dimse/dimsetest":            {"internal/sample"},
	"internal/media":                      {"internal/gantry", "internal/dicom"},
	"internal/blob":                       {"internal/gantry", "internal/fail"},
	"internal/gate":                       {"internal/gantry", "internal/fail"},
	"internal/line":                       {},
	"internal/heap":                       {},
	"internal/slack":                      {},
	"internal/pipeline":                   {"internal/gantry"},
	"internal/scheduler":                  {"internal/gantry", "internal/line", "internal/fail"},
	"internal/driver":                     {"internal/gantry"},
	"internal/driver/*":                   {"internal/gantry", "internal/auth", "internal/dicom", "internal/dimse", "internal/fail"},
	"internal/driver/all":                 {"internal/driver", "internal/driver/*"},
	"internal/driver/s3/s3test":           {},
	"internal/driver/drivertest":          {"internal/gantry"},
	"internal/engine":                     {"internal/gantry", "internal/media", "internal/dicom", "internal/line", "internal/fail"},
	"internal/postgres":                   {"internal/gantry", "migrations"},
	"internal/trace":                      {"internal/gantry"},
	"internal/metrics":                    {"internal/gantry"},
	"internal/doctor":                     {"internal/gantry", "internal/postgres", "internal/blob", "internal/localpg", "internal/gate"},
	"internal/audit":                      {"internal/gantry", "internal/postgres"},
	"internal/postgres/postgrestest":      {"internal/gantry", "internal/postgres", "internal/localpg", "migrations"},
	"internal/postgres/postgrestest/stop": {"internal/localpg"},
	"internal/models":                     {"internal/gantry", "internal/dicom", "internal/auth"},
	"internal/sample":                     {"internal/gantry", "internal/dicom"},
	"internal/sim":                        {},
	"internal/sim/model":                  {"internal/gantry"},
	"internal/app":                        {"*"},
	"cmd/gantry":                          {"*"},
	"test/benchmark":                      {"*"},
}

// onlyIn says which packages may import a library, tests apart.
var onlyIn = map[string][]string{
	"github.com/jackc/pgx":         {"internal/postgres", "internal/localpg", "internal/postgres/postgrestest", "test/benchmark"},
	"github.com/pressly/goose":     {"internal/postgres"},
	"github.com/looplab/fsm":       {"internal/gantry"},
	"github.com/suyashkumar/dicom": {"internal/dicom"},
	"github.com/fsnotify/fsnotify": {"internal/driver/dir"},
	"go.yaml.in/yaml":              {"internal/pipeline"},
	"github.com/expr-lang/expr":    {"internal/pipeline"},
	"github.com/alecthomas/kong":   {"cmd/gantry"},
	"github.com/prometheus":        {"internal/metrics"},
	"go.opentelemetry.io":          {"internal/trace"},
	"golang.org/x/sync":            {"internal/driver/dir", "internal/engine", "internal/scheduler", "internal/app", "internal/blob", "cmd/gantry", "test/benchmark"},
	"github.com/aws/aws-sdk-go-v2": {"internal/auth", "internal/driver/s3", "internal/blob", "test/benchmark"},
	"github.com/aws/smithy-go":     {"internal/driver/s3", "internal/blob"},
	"golang.org/x/term":            {"cmd/gantry"},
}

// TestDirection holds every import of the production code to the two tables.
func TestDirection(t *testing.T) {
	files := 0
	err := filepath.WalkDir("..", func(file string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && (e.Name() == "testdata" || e.Name() == ".git") {
			return fs.SkipDir
		}
		if e.IsDir() && file != ".." {
			if _, err := os.Stat(filepath.Join(file, "go.mod")); err == nil {
				return fs.SkipDir // another module, such as a benchmark's peer
			}
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		files++
		pkg := filepath.ToSlash(strings.TrimPrefix(filepath.Dir(file), ".."+string(filepath.Separator)))
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range f.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			if why := refuse(pkg, imported); why != "" {
				t.Errorf("%s imports %s: %s", file, imported, why)
			}
		}
		return nil
	})
	if err != nil || files < 50 {
		t.Fatalf("looked at %d files: %v", files, err)
	}
}

// refuse says why pkg may not import a path, or nothing.
func refuse(pkg, imported string) string {
	if own, ok := strings.CutPrefix(imported, module); ok {
		rules, known := mayImport[pkg]
		if !known {
			rules, known = mayImport[path.Dir(pkg)+"/*"]
		}
		switch {
		case !known:
			return "the package has no row in the table of directions"
		case slices.Contains(rules, "*"), slices.Contains(rules, own), own != pkg && slices.Contains(rules, path.Dir(own)+"/*"):
			return ""
		}
		return "not allowed for " + pkg
	}
	for library, rooms := range onlyIn {
		if strings.HasPrefix(imported, library) && !slices.Contains(rooms, pkg) {
			return "only in " + strings.Join(rooms, ", ")
		}
	}
	return ""
}

// TestRefuse shows that the tables can say no.
func TestRefuse(t *testing.T) {
	for _, c := range []struct {
		pkg, imported string
		ok            bool
	}{
		{"internal/driver/http", module + "internal/gantry", true},
		{"internal/driver/http", module + "internal/gate", false},
		{"internal/driver/http", module + "internal/driver/dir", false},
		{"internal/gantry", module + "internal/postgres", false},
		{"internal/engine", "github.com/jackc/pgx/v5", false},
		{"internal/postgres", "github.com/jackc/pgx/v5/pgxpool", true},
		{"internal/nobody", module + "internal/gantry", false},
		{"internal/driver/all", module + "internal/driver/dir", true},
	} {
		if got := refuse(c.pkg, c.imported) == ""; got != c.ok {
			t.Errorf("%s may import %s: %v, want %v", c.pkg, c.imported, got, c.ok)
		}
	}
}
