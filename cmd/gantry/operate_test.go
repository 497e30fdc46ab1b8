package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/app"
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
