package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
)

// TestPrintSources shows what there is to say, and a dash where there is nothing.
func TestPrintSources(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(ago time.Duration) *time.Time { x := now.Add(-ago); return &x }
	list := []gantry.SourceStatus{
		{Source: "chest/inbox", Kind: "s3", At: *at(time.Second), LastEvent: at(12 * time.Second), Sweeps: 9, Missed: 7, Backlog: true, Passed: 3000,
			Channels: []gantry.ChannelStatus{{Channel: "poll", Told: 40}, {Channel: "sqs", Told: 2}}, Lag: &gantry.SourceLag{Last: 0.0512, Half: 1.26, Max: 12},
			LastSweep: &gantry.SweepStatus{Began: *at(4 * time.Minute), Took: 12.34, Objects: 1_000_000, Missed: 1},
			Arrivals:  gantry.ArrivalCounts{Accepted: 42, SourceGone: 2, Ignored: 1}, LastError: &gantry.SourceFailure{Part: "poll", Code: "slow_down", Kind: "unavailable", At: *at(time.Hour)}},
		{Source: "chest/lost", Kind: "s3", At: *at(time.Second), LastError: &gantry.SourceFailure{Part: "sqs", Code: "server_error", At: *at(time.Minute), Over: at(30 * time.Second)}},
		{Source: "chest/old", Kind: "dir", At: *at(3 * time.Hour)},
	}
	var out bytes.Buffer
	if err := printSources(console{out: &out}, false, list, now); err != nil {
		t.Fatal(err)
	}
	const want = `SOURCE       KIND  CHANNELS        LAST EVENT  LAG                            LAST SWEEP                        MISMATCHES        ACCEPTED  NOT TAKEN                 NOTE
chest/inbox  s3    poll 40, sqs 2  12s ago     0.0512s (p50 1.26s, max 12s)  4m0s ago, 1000000 objects in 12.3s  7 (last sweep 1)  42        2 source_gone, 1 ignored  taking up what was there before: 3000 passed; poll slow_down 1h0m0s ago
chest/lost   s3    -               -           -                              -                                 -                 0         -                         sqs server_error 1m0s ago, over since 30s
chest/old    dir   -               -           -                              -                                 -                 0         -                         nobody watches it; last report 3h0m0s ago
`
	if got := strings.Join(strings.Fields(out.String()), " "); got != strings.Join(strings.Fields(want), " ") {
		t.Errorf("got\n%s", out.String())
	}
}

// TestSourceStatus reads the database.
func TestSourceStatus(t *testing.T) {
	dsn := postgrestest.DSN(t)
	if code, out, errs := operated(t, dsn, "source", "status", "--json"); code != exitOK || strings.TrimSpace(out) != "[]" {
		t.Errorf("none: %d %s%s", code, out, errs)
	}
	store, err := postgres.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, err := store.ReportSource(t.Context(), postgres.SourceReport{Source: "p/in", Kind: "dir", Worst: -1, Channels: []postgres.ChannelReport{{Channel: "folder", At: time.Now(), Told: 3}}}); err != nil {
		t.Fatal(err)
	}
	code, out, _ := operated(t, dsn, "source", "status", "--json")
	var got []gantry.SourceStatus
	if err := json.Unmarshal([]byte(out), &got); code != exitOK || err != nil || len(got) != 1 || got[0].Source != "p/in" || got[0].Channels[0].Told != 3 || got[0].LastEvent == nil {
		t.Errorf("%d %v\n%s", code, err, out)
	}
	for _, args := range []string{"source", "source status"} {
		if code, out, errs := operated(t, dsn, strings.Fields(args)...); code != exitOK || !strings.Contains(out, "p/in    dir   folder 3") {
			t.Errorf("%s: %d\n%s%s", args, code, out, errs)
		}
	}
}

// TestSourceMoved: serve refuses a source that took from another bucket as wrong use, until that is forgotten.
func TestSourceMoved(t *testing.T) {
	dsn := postgrestest.DSN(t)
	if code, out, errs := operated(t, dsn, "source", "moved", "p/in"); code != exitFailed || out != "" || !strings.Contains(errs, "p/in: find source: none of this name was ever watched; gantry source status lists them") {
		t.Errorf("nobody's: %d %s%s", code, out, errs)
	}
	store, err := postgres.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	here := postgres.SourcePlace{Source: "p/in", Kind: "s3", Place: "s3 localhost:1/one"}
	settled := func() bool {
		t.Helper()
		elsewhere, err := store.SettleSources(t.Context(), []postgres.SourcePlace{here})
		if err != nil {
			t.Fatal(err)
		}
		return len(elsewhere) == 0
	}
	settled()
	file := filepath.Join(t.TempDir(), "p.yaml")
	text := "gantry: v1\nname: p\nsources: {in: {kind: s3, bucket: two, endpoint: 'http://127.0.0.1:1'}}\nsinks: {out: {kind: dir, path: out}}\n" +
		"stages: [{name: s, call: m}]\nprocessors: {m: {kind: http, url: 'http://127.0.0.1:1/m'}}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := operated(t, dsn, "serve", "--pipelines", file, "--listen", "127.0.0.1:0"); code != exitUsage ||
		!strings.Contains(errs, "gantry: source p/in took from s3 localhost:1/one until now, and is to take from s3 localhost:1/two: give it another name; or, if they are one bucket, gantry source moved p/in\n") {
		t.Fatalf("serve: %d %s%s", code, out, errs)
	}
	here.Place = "s3 localhost:1/two"
	if settled() {
		t.Error("it was forgotten before anybody said so")
	}
	for _, want := range []string{"p/in took from s3 localhost:1/one; the next process that serves it puts down where it takes from then\n", "p/in: no bucket is on record of it\n"} {
		if code, out, errs := operated(t, dsn, "source", "moved", "p/in"); code != exitOK || out != want {
			t.Errorf("moved: %d %s%s", code, out, errs)
		}
	}
	if !settled() {
		t.Error("it was not forgotten")
	}
}
