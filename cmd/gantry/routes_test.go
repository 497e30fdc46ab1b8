package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// routed writes a deployment whose bucket feeds two pipelines, and gives its file.
func routed(t *testing.T, routes, sink string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"gantry.yaml": "gantry: v1\npipelines: [p]\nsources:\n  incoming: {kind: s3, bucket: incoming, exclude: [out/], routes: [" + routes + "]}\n",
		"p/a.yaml":    "gantry: v1\nname: a\nstages: [{name: s, call: m}]\nprocessors: {m: {kind: http, url: 'http://127.0.0.1:1/m'}}\nsinks: {store: {kind: s3, bucket: " + sink + "}}\n",
		"p/b.yaml": "gantry: v1\nname: b\nstages: [{name: s, call: m}]\nprocessors: {m: {kind: http, url: 'http://127.0.0.1:1/m'}}\nsinks: {store: {kind: dir, path: ../out}}\n" +
			"sources: {inbox: {kind: s3, bucket: middle}}\n",
	} {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "gantry.yaml")
}

// check and serve hold routes to the pipelines that there are, and check says what else it found.
func TestCheckRoutes(t *testing.T) {
	code, out, errs := typed(t, "--config", routed(t, `{when: "object.tags.x == 'y'", to: a}, {to: b}`, "middle"), "check", "--vars")
	for _, want := range []string{"ok  a  ", "ok  b  ", "ok  source incoming  ", "  sources.incoming.routes\n", "object.tags.<name>",
		"note  results become inputs: a → sink \"store\" → source \"inbox\" → b\n"} {
		if code != exitOK || !strings.Contains(out, want) {
			t.Errorf("%d: no %q in\n%s%s", code, want, out, errs)
		}
	}
	for _, c := range []struct{ routes, sink, want string }{
		{"{to: a}, {to: b}", "middle", "nothing comes to this route"},
		{"{to: aa}", "middle", `no pipeline here is named "aa" (did you mean "a"?)`},
		{"{to: a}", "incoming", `results would come back as inputs without end: a → sink "store" → source "incoming" → a`},
		{"{to: b}", "incoming, prefix: out/", `pipeline a has no sources to wait for`},
	} {
		config := routed(t, c.routes, c.sink)
		code, out, errs := typed(t, "--config", config, "serve", "--listen", "127.0.0.1:0")
		if code != exitUsage || !strings.Contains(out+errs, c.want) {
			t.Errorf("serve: %d\n%s%s", code, out, errs)
		}
		if strings.HasPrefix(c.want, "pipeline") {
			continue // a pipeline may be for gantry run alone
		}
		if code, out, errs = typed(t, "--config", config, "check"); code != exitUsage || !strings.Contains(out, c.want) || !strings.Contains(out, ".yaml:") {
			t.Errorf("check: %d\n%s%s", code, out, errs)
		}
	}
	if code, out, _ := typed(t, "--config", routed(t, "{to: aa}, {too: b}, {when: 'object.kee', to: c}", "middle"), "check"); code != exitUsage ||
		strings.Count(out, "did you mean") != 3 || !strings.Contains(out, `named "c"`) || strings.Count(out, "no pipeline here") != 2 {
		t.Errorf("not all mistakes at once: %d\n%s", code, out)
	}
	config := routed(t, "{to: aa}", "middle")
	if code, out, _ := typed(t, "--config", config, "check", filepath.Join(filepath.Dir(config), "p", "a.yaml")); code != exitOK {
		t.Errorf("a file alone: %d\n%s", code, out)
	}
}
