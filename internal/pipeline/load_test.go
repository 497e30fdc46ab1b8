package pipeline

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// folder makes a folder of files.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func named(name string) string { return strings.Replace(small, "name: small", "name: "+name, 1) }

// found loads paths below a folder and gives the names of the pipelines, and of the mistakes what
// is printed in the first lines, without the folder.
func found(t *testing.T, dir string, paths ...string) (names, problems []string) {
	t.Helper()
	for i := range paths {
		paths[i] = filepath.Join(dir, paths[i])
	}
	all, err := LoadAll(paths, fake{}, variables())
	for _, p := range all {
		names = append(names, p.Name)
	}
	if err == nil {
		return names, nil
	}
	list, ok := errors.AsType[Problems](err)
	if !ok || all != nil {
		t.Fatalf("LoadAll gave %d pipelines and a %T: %v", len(all), err, err)
	}
	for _, p := range list {
		line, _, _ := strings.Cut(p.String(), "\n")
		problems = append(problems, strings.ReplaceAll(line, dir+string(filepath.Separator), ""))
	}
	return names, problems
}

func TestLoadAll(t *testing.T) {
	t.Parallel()
	dir := folder(t, map[string]string{
		"good/b.yaml": named("bee"), "good/a.yaml": named("ay"), "good/c.yml": named("sea"), "good/.hidden.yaml": "nonsense",
		"good/readme.md": "nonsense", "good/below/d.yaml": "nonsense", "good/e.yaml/f": "nonsense",
		"twice/1.yaml": named("same"), "twice/2.yaml": named("same"), "twice/3.yaml": named("other"),
		"bad/1.yaml": named("Ay"), "bad/2.yaml": named("Bee"), "bad/3.yaml": named("fine"),
		"none/readme.md": "nonsense",
	})
	for _, c := range []struct{ paths, names, problems []string }{
		{[]string{"good"}, []string{"ay", "bee", "sea"}, nil},
		{[]string{"good/b.yaml", "good/a.yaml"}, []string{"bee", "ay"}, nil},
		{[]string{"good", "good/a.yaml", "good/../good/b.yaml"}, []string{"ay", "bee", "sea"}, nil},
		{[]string{"good/readme.md"}, nil, []string{"good/readme.md:1:1: want a mapping of keys to values, have one value"}},
		{[]string{"twice"}, nil, []string{"twice/2.yaml:2:7: name: twice/1.yaml has a pipeline \"same\" already"}},
		{[]string{"bad"}, nil, []string{`bad/1.yaml:2:7: name: "Ay" is no name`, `bad/2.yaml:2:7: name: "Bee" is no name`}},
		{[]string{"none"}, nil, []string{"none: no file here ends in .yaml"}},
		{[]string{"absent", "bad/2.yaml", "none"}, nil, []string{"absent: open: no such file or directory", "none: no file here ends in .yaml", `bad/2.yaml:2:7: name: "Bee" is no name`}},
		{nil, nil, nil},
	} {
		names, problems := found(t, dir, c.paths...)
		if diff := cmp.Diff(c.names, names); diff != "" {
			t.Errorf("%s: %s", c.paths, diff)
		}
		if len(problems) != len(c.problems) {
			t.Errorf("%s: %q, want %q", c.paths, problems, c.problems)
			continue
		}
		for i, p := range problems {
			if !strings.HasPrefix(p, c.problems[i]) {
				t.Errorf("%s: %q, want %q", c.paths, p, c.problems[i])
			}
		}
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	dir := folder(t, map[string]string{
		"a.yaml": small + "sinks: {out: {kind: dir, path: results}}\n",
		"b.yaml": small + strings.Repeat("#", maxFile),
		"c/x":    "",
	})
	p, err := Load(filepath.Join(dir, "a.yaml"), fake{}, variables())
	if err != nil || p.Sinks[0].Config.(*dirSink).Path != filepath.Join(dir, "results") {
		t.Errorf("%+v, %v", p, err)
	}
	for path, want := range map[string]string{
		"b.yaml": "more than the 1048576 allowed", "c": "it is no regular file", "absent": "stat: no such file or directory",
	} {
		p, err := Load(filepath.Join(dir, path), fake{}, variables())
		problems, ok := errors.AsType[Problems](err)
		if p != nil || !ok || len(problems) != 1 || !strings.Contains(err.Error(), want) || problems[0].Line != 0 {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
}

// TestLoadRelative: the folder that paths are relative to is absolute however the file was named.
func TestLoadRelative(t *testing.T) {
	dir := folder(t, map[string]string{"a.yaml": small + "sinks: {out: {kind: dir, path: results}}\n"})
	t.Chdir(dir)
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a.yaml", "./a.yaml", filepath.Join(dir, "a.yaml")} {
		p, err := Load(name, fake{}, variables())
		if err != nil {
			t.Fatal(err)
		}
		if got, want := p.Sinks[0].Config.(*dirSink).Path, filepath.Join(here, "results"); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if p, err := Load("a.yaml", fake{}, variables()); err != nil || !strings.Contains(string(p.Resolved), filepath.Join(here, "results")) {
		t.Errorf("the resolved path is relative: %v", err)
	}
}
