package main

import (
	"encoding/json"
	"testing"

	"github.com/gantry-imaging/gantry/internal/api"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
)

// TestWhyOfNoTask says so of each id, and fails. What is said of tasks is tested in package app.
func TestWhyOfNoTask(t *testing.T) {
	dsn := postgrestest.DSN(t)
	code, out, errs := operated(t, dsn, "task", "why", "aaaa", "?")
	if code != exitFailed || errs != "" || out != "aaaa\n  There is no such task.\n?\n  It is no id of a task.\n" {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
	code, out, _ = operated(t, dsn, "task", "why", "--json", "aaaa")
	var got []api.Why
	if err := json.Unmarshal([]byte(out), &got); code != exitFailed || err != nil || len(got) != 1 || got[0].Task != "aaaa" || got[0].Causes[0].Code != "unknown_task" {
		t.Errorf("%d %v\n%s", code, err, out)
	}
	if code, _, _ = operated(t, dsn, "task", "why"); code != exitUsage {
		t.Errorf("without an id: %d", code)
	}
}
