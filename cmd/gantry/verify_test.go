package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
)

// TestVerify runs both commands on an empty record and on one with a task that stands nowhere.
func TestVerify(t *testing.T) {
	dsn := postgrestest.DSN(t)
	verify := func(want int, args ...string) string {
		t.Helper()
		code, out, errs := operated(t, dsn, append([]string{"verify"}, args...)...)
		if code != want {
			t.Errorf("verify %v: exit %d, %s", args, code, errs)
		}
		return out
	}
	if out := verify(0, "history"); out != "0 tasks, 0 events: 0 violations\n" {
		t.Errorf("%q", out)
	}
	if out := verify(0, "limits"); !strings.HasPrefix(out, "CALLS") || strings.Count(out, "\n") != 1 {
		t.Errorf("%q", out)
	}
	verify(1, "limits", "--limiter", "http://nobody")
	c, err := pgx.Connect(t.Context(), dsn)
	if err == nil {
		_, err = c.Exec(t.Context(), `set search_path = gantry; insert into pipeline_version(name, version, resolved) values ('p', sha256('p'), '{}');
			insert into task(public_id, pipeline) select 'nowhere', id from pipeline_version`)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	if out := verify(1, "history"); out != "nowhere  seq 0  lost: the task has not ended, and nobody can claim it\n1 tasks, 0 events: 1 violations\n" {
		t.Errorf("%q", out)
	}
	var got struct {
		Violations []struct {
			Task, Rule string
			Seq        int
		}
		Summary struct{ Tasks, Events, Violations int }
	}
	if err := json.Unmarshal([]byte(verify(1, "history", "--json")), &got); err != nil || len(got.Violations) != 1 || got.Violations[0].Rule != "lost" || got.Summary.Violations != 1 {
		t.Errorf("%+v: %v", got, err)
	}
	for _, args := range [][]string{{"history", "--json", "--pipeline", "q"}, {"limits", "--json"}} {
		if out := verify(0, args...); !json.Valid([]byte(out)) {
			t.Errorf("%v: %q", args, out)
		}
	}
}
