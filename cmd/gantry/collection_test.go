package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
)

// TestCollectionLsExpected lists what an archive counts beside the instances that are here, whatever number of files they are.
func TestCollectionLsExpected(t *testing.T) {
	dsn := postgrestest.DSN(t)
	store, err := postgres.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	version, err := store.EnsurePipeline(t.Context(), &gantry.Pipeline{Name: "ct", Version: gantry.Digest{1}, Resolved: []byte(`{}`)})
	if err != nil {
		t.Fatal(err)
	}
	rules := gantry.Collect{Quiet: time.Minute, Cap: time.Hour, Expect: &gantry.Expect{Steady: time.Second, Missing: gantry.MissingWait}}
	var list []gantry.Gathering
	for i, instance := range []int64{1, 2, 2} {
		list = append(list, gantry.Gathering{Arrival: gantry.Arrival{ID: int64(i + 1), Source: "ct/in", RefMAC: gantry.MAC(nil, fmt.Sprint(i)), Version: "1", Name: "x"},
			Group: gantry.Digest{2}, Name: "1.2.3", Pipeline: "ct", Version: version, Lane: 1, Within: time.Hour, Rules: rules, Study: "1.2.3", Instance: instance})
	}
	if _, err := store.Gather(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	q, ok, err := store.ClaimQuestion(t.Context(), time.Minute, nil)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if _, ok, err := store.Answered(t.Context(), q, 324, rules, time.Second); err != nil || !ok {
		t.Fatal(ok, err)
	}
	for args, want := range map[string]string{"collection": "0         open   2 of 324", "collection --json": `"asks": 1,`} {
		code, out, errs := operated(t, dsn, strings.Fields(args)...)
		if code != exitOK || errs != "" || !strings.Contains(out, want) || strings.Contains(out, "1.2.3") {
			t.Errorf("%s: %d\n%s%s\nwant %q", args, code, out, errs, want)
		}
	}
	var got []postgres.CollectionRow
	if _, out, _ := operated(t, dsn, "collection", "--json"); json.Unmarshal([]byte(out), &got) != nil || len(got) != 1 || got[0].Members != 3 || got[0].Held != 2 ||
		got[0].Expected != 324 || got[0].AskedAt == nil || got[0].Why != "cap" {
		t.Errorf("%+v", got)
	}
}

// TestCollectionLs lists one that is closed and one that waits, and says of the task of the first what it was made from.
func TestCollectionLs(t *testing.T) {
	dsn := postgrestest.DSN(t)
	store, err := postgres.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	version, err := store.EnsurePipeline(t.Context(), &gantry.Pipeline{Name: "ct", Version: gantry.Digest{1}, Resolved: []byte(`{}`)})
	if err != nil {
		t.Fatal(err)
	}
	limiter, err := store.EnsureLimiter(t.Context(), "pipeline:ct", gantry.LimiterSpec{MaxUnits: -1}, true)
	if err != nil {
		t.Fatal(err)
	}
	lane, err := store.EnsureLane(t.Context(), "ct", "in", limiter, 0)
	if err != nil {
		t.Fatal(err)
	}
	var list []gantry.Gathering
	for i, folder := range []string{"mueller", "mueller", "meier"} {
		list = append(list, gantry.Gathering{
			Arrival: gantry.Arrival{ID: int64(i + 1), Source: "ct/in", RefMAC: gantry.MAC(nil, fmt.Sprint(i)), Version: "1", Name: "x"}, Group: gantry.MAC(nil, folder), Name: folder,
			Pipeline: "ct", Version: version, Lane: lane, Priority: 5, Within: time.Hour, Rules: gantry.Collect{Count: 2, Cap: time.Hour}})
	}
	if _, err := store.Gather(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	name := func(string, string, gantry.Digest, int32) string { return "abcdefghijklmnopqrstuvwxyz" }
	if closed, err := store.CloseDue(t.Context(), 5, name); err != nil || len(closed) != 1 {
		t.Fatal(closed, err)
	}
	for args, want := range map[string]string{
		"collection":                               "0         open    1 of 2",
		"collection ls --state closed":             "count  abcdefghijklmnopqrstuvwxyz",
		"task show abcdefghijklmnopqrstuvwxyz":     "revision 0, 2 of 2 members, closed by count",
		"collection ls --pipeline other --json":    "[]",
		"collection ls --limit 1 --json":           `"why": "cap"`,
		"collection ls --state open --pipeline ct": "cap",
	} {
		code, out, errs := operated(t, dsn, strings.Fields(args)...)
		if code != exitOK || errs != "" || !strings.Contains(out, want) || strings.Contains(out, "mueller") {
			t.Errorf("%s: %d\n%s%s\nwant %q", args, code, out, errs, want)
		}
	}
	_, out, _ := operated(t, dsn, "collection", "--json")
	var got []postgres.CollectionRow
	if err := json.Unmarshal([]byte(out), &got); err != nil || len(got) != 2 || got[1].Task == "" || got[0].Task != "" {
		t.Errorf("%v\n%s", err, out)
	}
	for _, args := range []string{"collection ls --state ajar", "collection ls --limit -1"} {
		if code, _, _ := operated(t, dsn, strings.Fields(args)...); code != exitUsage {
			t.Errorf("%s: %d", args, code)
		}
	}
}
