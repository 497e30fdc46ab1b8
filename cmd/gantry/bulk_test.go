package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
)

// TestBulk chooses tasks by an expression: it is held to what there is before anything is looked at, asks where
// somebody sits, and fails if a task was refused.
func TestBulk(t *testing.T) {
	dsn := postgrestest.DSN(t)
	dir := t.TempDir()
	src := "gantry: v1\nname: refused\nsources: {in: {kind: dir, path: " + dir + "}}\nsinks: {out: {kind: dir, path: " + t.TempDir() + "}}\n" +
		"stages: [{name: s, call: none}]\nretry: {attempts: 1}\nprocessors: {none: {kind: http, url: \"http://127.0.0.1:1/\"}}\n"
	file := filepath.Join(dir, "p.yaml")
	if err := os.WriteFile(file, []byte(src), 0o600); err != nil {
		t.Fatal(err)
	}
	input := filepath.Join(t.TempDir(), "x.txt")
	if err := os.WriteFile(input, []byte("no picture"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := operated(t, dsn, "run", "-f", file, "-o", t.TempDir(), input); code != exitFailed {
		t.Fatalf("run: %d\n%s%s", code, out, errs)
	}
	for _, c := range []struct {
		code      int
		out, errs string
		args      []string
	}{
		{exitUsage, "", "expected \"<id> ...\"", nil},
		{exitUsage, "", "^ error has no \"kin\" (did you mean \"kind\"?)", []string{"--where", `error.kin == "x"`}},
		{exitUsage, "", "not both", []string{"--pipeline", "refused", "aaaa"}},
		{exitUsage, "", "not below 0", []string{"--pipeline", "refused", "--limit=-1"}},
		{exitUsage, "", "--state is one of", []string{"--pipeline", "refused", "--state", "queued"}},
		{exitUsage, "", "1 tasks: say --yes", []string{"--where", `error.kind == "illegal"`}},
		{exitFailed, "refused ", "1 tasks: 0 done, 1 refused", []string{"--where", `error.kind == "illegal"`, "--yes"}},
		{exitOK, "", "0 tasks: 0 done, 0 refused", []string{"--where", `error.kind == "timeout"`}},
		{exitOK, "[]\n", "", []string{"--pipeline", "other", "--json"}},
	} {
		for _, verb := range []string{"retry", "redrive"} {
			code, out, errs := operated(t, dsn, append([]string{"task", verb}, c.args...)...)
			if code != c.code || !strings.HasPrefix(out, c.out) || !strings.Contains(errs, c.errs) || c.out == "" && out != "" {
				t.Errorf("%s %q: %d\n%s%s", verb, c.args, code, out, errs)
			}
		}
	}
	code, out, _ := operated(t, dsn, "task", "retry", "--pipeline", "refused", "--yes", "--json")
	var got []app.Verdict
	if err := json.Unmarshal([]byte(out), &got); code != exitFailed || err != nil || len(got) != 1 || !strings.Contains(got[0].Reason, "gantry run") {
		t.Errorf("%d %v\n%s", code, err, out)
	}
	if code, _, errs := operated(t, dsn, "task", "cancel", "--pipeline", "refused"); code != exitOK || !strings.Contains(errs, "cancel 0 tasks") {
		t.Errorf("cancel: %d\n%s", code, errs)
	}
	for _, c := range []struct {
		code int
		args string
		said string
	}{
		{exitUsage, "task move --to x --pipeline refused", "move 1 tasks: say --yes"},
		{exitFailed, "task move --to x --pipeline refused --yes", "move 1 tasks: 0 done, 1 refused"},
		{exitOK, "task pause --pipeline refused", "pause 0 tasks: 0 done, 0 refused"},
		{exitOK, `task resume --where task.phase=="paused"`, "resume 0 tasks: 0 done, 0 refused"},
		{exitFailed, "task redrive --pipeline refused --dry-run", "dry run: redrive 1 tasks: 0 done, 1 refused"},
		{exitUsage, "task pause --pipeline refused aaaa", "not both"},
		{exitUsage, "task cancel --state queued aaaa", "not with ids"},
		{exitUsage, "task cancel --wait=-1s aaaa", "not below 0"},
		{exitUsage, "task ls --limit=-1", "not below 0"},
		{exitUsage, "task ls --since=-1h", "not below 0"},
		{exitUsage, "task ls --state nosuch", "--state is one of"},
		{exitUsage, "call ls --limit=-1", "not below 0"},
		{exitUsage, "call export --since=-1h", "not below 0"},
		{exitUsage, "verify history --since=-1h", "not below 0"},
	} {
		if code, out, errs := operated(t, dsn, strings.Fields(c.args)...); code != c.code || !strings.Contains(errs, c.said) {
			t.Errorf("%s: %d\n%s%s", c.args, code, out, errs)
		}
	}
}

// TestConfirm takes a yes and nothing else for one.
func TestConfirm(t *testing.T) {
	for answer, yes := range map[string]bool{"y\n": true, "YES\n": true, "y": true, "\n": false, "": false, "no\n": false, "yesterday\n": false} {
		var out bytes.Buffer
		err := confirm(strings.NewReader(answer), true, &out, "retry 3 tasks")
		if (err == nil) != yes || !strings.HasPrefix(out.String(), "retry 3 tasks? [y/N] ") {
			t.Errorf("%q: %v\n%s", answer, err, out.String())
		}
	}
}
