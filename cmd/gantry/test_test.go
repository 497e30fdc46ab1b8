package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
)

// written writes a pipeline file and a picture beside it, and names the file.
func written(t *testing.T, tests string) string {
	t.Helper()
	dir := t.TempDir()
	b, err := os.ReadFile("../../pipelines/testdata/three.zip")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "three.zip"), b, 0o600)
	}
	path := filepath.Join(dir, "p.yaml")
	if err == nil {
		err = os.WriteFile(path, []byte("gantry: v1\nname: p\nstages: [{name: a, call: m}]\nprocessors: {m: {kind: http, url: \"http://127.0.0.1:9/m\"}}\n"+tests), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestTestCommand prints a line for each test and what is not as it should be, and fails if anything is not.
func TestTestCommand(t *testing.T) {
	dsn := postgrestest.DSN(t)
	code, out, errs := operated(t, dsn, "test", "-v", "../../pipelines/multiframe.yaml", "../../pipelines/cumulative.yaml")
	for _, want := range []string{"ok    multiframe: four frames become one object  ", "      done      us-4f.dcm\n        _manifest.json\n        mask/rejoined.dcm\n      4 calls of mask\n",
		"ok    cumulative: poor images go no further  ", "failed    us-4f.dcm  permanent: ", "4 tests, 0 failed\n"} {
		if code != exitOK || errs != "" || !strings.Contains(out, want) {
			t.Errorf("%d %s: no %q in\n%s", code, errs, want, out)
		}
	}
	path := written(t, `tests:
  - {name: right, input: three.zip, mock: {m: {}}, expect: {calls: {m: 3}}}
  - {name: wrong, input: three.zip, mock: {m: {}}, expect: {calls: {m: 4}, state: failed}}
`)
	code, out, errs = operated(t, dsn, "test", filepath.Dir(path))
	if code != exitFailed || errs != "" || !strings.Contains(out, "ok    p: right") || !strings.Contains(out, "FAIL  p: wrong") ||
		!strings.HasSuffix(out, " s\n      state\n        want failed\n        got  done\n      calls of m\n        want 4\n        got  3\n2 tests, 1 failed\n") {
		t.Errorf("%d %s\n%s", code, errs, out)
	}
	code, out, _ = operated(t, dsn, "test", "--json", path)
	var got trials
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != exitFailed || got.Failed != 1 || len(got.Tests) != 2 || !got.Tests[0].OK ||
		got.Tests[0].Calls["m"] != 3 || got.Tests[1].Differences[0] != (app.Difference{What: "state", Want: "failed", Got: "done"}) {
		t.Errorf("%d %v\n%s", code, err, out)
	}
}

// TestTestDeployment runs the tests of the files that a deployment names.
func TestTestDeployment(t *testing.T) {
	path := written(t, "tests: [{name: right, input: three.zip, mock: {m: {}}}]\n")
	config := filepath.Join(filepath.Dir(path), "gantry.deploy")
	if err := os.WriteFile(config, []byte("gantry: v1\npipelines: [p.yaml]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := operated(t, postgrestest.DSN(t), "--config", config, "test")
	if code != exitOK || !strings.Contains(out, "1 test, 0 failed\n") {
		t.Errorf("%d %s\n%s", code, errs, out)
	}
}

// TestTestUse refuses what has nothing to test, before anything is opened.
func TestTestUse(t *testing.T) {
	t.Setenv("GANTRY_DATABASE_URL", "postgres://127.0.0.1:1/none")
	for name, c := range map[string]struct{ file, want string }{
		"no tests":   {written(t, ""), "no file has tests"},
		"a mistake":  {written(t, "tests: [{name: x, input: a, mock: {n: 1}}]\n"), `no processor "n"`},
		"no file":    {"/nowhere", "/nowhere"},
		"no pointer": {"", "name pipeline files"},
	} {
		args := []string{"test", c.file}
		if c.file == "" {
			args = args[:1]
		}
		if code, out, errs := typed(t, args...); code != exitUsage || out != "" || !strings.Contains(errs, c.want) {
			t.Errorf("%s: %d\n%s%s", name, code, out, errs)
		}
	}
}
