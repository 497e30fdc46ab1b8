package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
)

// TestLimits takes one limit through all that an operator can do with it.
func TestLimits(t *testing.T) {
	dsn := postgrestest.DSN(t)
	store, err := postgres.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, err := store.EnsureLimiters(t.Context(), []string{"http://h:1", "pipeline:p"},
		[]gantry.LimiterSpec{{MaxUnits: 8, Rate: 20, Burst: 4, Breaker: gantry.DefaultBreaker}, {MaxUnits: -1}}, true); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ args, want string }{
		{"limits", "http://h:1  0     0        8         0        20/s burst 4  closed"},
		{"limits ls", "pipeline:p  0     0        no limit  0        -             off"},
		{"limits set http://h:1 --rate 2/s --by ann", "8      0        2/s burst 4  closed   set by ann, declared: 8, 20/s burst 4"},
		{"limits set http://h:1 --concurrency 3 --rate 60/m --burst 1 --by ann", "3      0        1/s   closed   set by ann, declared: 8"},
		{"limits set p --concurrency 5 --by ann", "pipeline:p  0     0        5"},
		{"pause http://h:1 --by bob", "0      0        1/s   closed   paused by bob since "},
		{"resume http://h:1", "3      0        1/s   closed   set by ann, declared: 8"},
		{"limits set http://h:1 --concurrency none --rate none", "no limit  0        -     closed"},
		{"limits set http://h:1 --reset", "http://h:1  0     0        8      0        20/s burst 4  closed"},
		{"pause p http://h:1 --by bob", "pipeline:p  0     0        0"},
	} {
		code, out, errs := operated(t, dsn, strings.Fields(c.args)...)
		if code != exitOK || errs != "" || !strings.Contains(out, c.want) {
			t.Errorf("%s: %d\n%s%s\nwant %q", c.args, code, out, errs, c.want)
		}
	}
	code, out, _ := operated(t, dsn, "limits", "--json", "--limit", "1")
	var got []postgres.LimitRow
	if err := json.Unmarshal([]byte(out), &got); code != exitOK || err != nil || len(got) != 1 || got[0].Key != "http://h:1" || got[0].PausedBy != "bob" {
		t.Errorf("%d %v\n%s", code, err, out)
	}
}

// TestLimitsRefuses changes nothing on a mistake.
func TestLimitsRefuses(t *testing.T) {
	dsn := postgrestest.DSN(t)
	store, err := postgres.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, err := store.EnsureLimiter(t.Context(), "pipeline:p", gantry.LimiterSpec{MaxUnits: -1}, true); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]int{
		"pause nobody":                         exitFailed,
		"resume nobody/nothing":                exitFailed,
		"limits set x":                         exitUsage,
		"limits set x --reset":                 exitFailed,
		"limits set x --rate 0/s":              exitUsage,
		"limits set x --rate fast":             exitUsage,
		"limits set x --burst 0":               exitUsage,
		"limits set p --rate 1/s":              exitUsage,
		"limits --limit -1":                    exitUsage,
		"limits set x --concurrency -1":        exitUsage,
		"limits set x --concurrency 1e9":       exitUsage,
		"limits set x --reset --concurrency 1": exitUsage,
		"pause":                                exitUsage,
	} {
		if code, out, errs := operated(t, dsn, strings.Fields(args)...); code != want || out != "" && want == exitFailed || errs == "" {
			t.Errorf("%s: %d, want %d\n%s%s", args, code, want, out, errs)
		}
	}
}
