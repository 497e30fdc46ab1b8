package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/postgres"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
)

// operated runs a command on a database of the test's own.
func operated(t *testing.T, dsn string, args ...string) (int, string, string) {
	t.Helper()
	return typed(t, append([]string{"--home", t.TempDir(), "--database-url", dsn}, args...)...)
}

// TestOperateRefuses says for each id why nothing was done, and fails.
func TestOperateRefuses(t *testing.T) {
	dsn := postgrestest.DSN(t)
	for _, verb := range []string{"cancel", "retry", "pause", "resume"} {
		code, out, errs := operated(t, dsn, "task", verb, "aaaa", "?")
		if code != exitFailed || errs != "" || out != "refused     aaaa  there is no such task\nrefused     ?  it is no id of a task\n" {
			t.Errorf("%s: %d\n%s%s", verb, code, out, errs)
		}
		code, out, _ = operated(t, dsn, "task", verb, "--json", "aaaa")
		var got []app.Verdict
		if err := json.Unmarshal([]byte(out), &got); code != exitFailed || err != nil || len(got) != 1 || got[0].Result != app.ResultRefused {
			t.Errorf("%s: %d %v\n%s", verb, code, err, out)
		}
		if code, _, errs = operated(t, dsn, "task", verb); code != exitUsage || !strings.Contains(errs, "<id>") {
			t.Errorf("%s without an id: %d\n%s", verb, code, errs)
		}
	}
}

// TestMoveWants refuses a move to nowhere, and shows a task's leg and pause.
func TestMoveWants(t *testing.T) {
	dsn := postgrestest.DSN(t)
	if code, _, errs := operated(t, dsn, "task", "move", "aaaa"); code != exitUsage || !strings.Contains(errs, "--to") {
		t.Errorf("%d\n%s", code, errs)
	}
	if code, out, errs := operated(t, dsn, "task", "move", "--to", "x", "aaaa"); code != exitFailed || errs != "" || out != "refused     aaaa  there is no such task\n" {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
	var b strings.Builder
	showRepair(&b, postgres.TaskRow{})
	if b.Len() > 0 {
		t.Errorf("of a task that was neither moved nor paused: %q", b.String())
	}
	showRepair(&b, postgres.TaskRow{Leg: 2, Paused: &postgres.Pausing{By: "me", At: time.Unix(0, 0).UTC(), Reason: "why"}})
	if want := "leg\t2\npaused\tby me at 1970-01-01T00:00:00Z\n\twhy\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}
