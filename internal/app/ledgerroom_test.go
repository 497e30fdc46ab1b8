package app

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
)

// pages is a ledger of a source on a database of its own.
func pages(t *testing.T, store *postgres.Store, key, source string, lane int32) *ledger {
	t.Helper()
	a := &App{Settings: Settings{Log: slog.New(slog.DiscardHandler)}, Store: store, Key: []byte(key)}
	l, err := newLedger(a, &feed{name: source, lane: lane}, "s3")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestLedgerSeals keeps the keys of objects out of the database, and gives them back to the same source alone.
func TestLedgerSeals(t *testing.T) {
	t.Parallel()
	store := postgrestest.New(t)
	want := gantry.TakeUp{Tail: "DOE^JANE", Backlog: true, Cursor: "in/DOE^JANE", Passed: 7}
	l := pages(t, store, "key", "p/in", 0)
	if p, err := l.Progress(t.Context()); err != nil || p != (gantry.TakeUp{}) {
		t.Fatalf("at first: %+v, %v", p, err)
	}
	l.Keep(want)
	l.write(t.Context())
	sealed, err := store.SourceProgress(t.Context(), "p/in")
	if err != nil || len(sealed) == 0 || strings.Contains(string(sealed), "JANE") {
		t.Fatalf("on record: %q, %v", sealed, err)
	}
	for name, c := range map[string]struct {
		l    *ledger
		want gantry.TakeUp
	}{
		"the same":       {pages(t, store, "key", "p/in", 0), want},
		"another key":    {pages(t, store, "other", "p/in", 0), gantry.TakeUp{}},
		"another source": {pages(t, store, "key", "p/other", 0), gantry.TakeUp{}},
	} {
		if name == "another source" {
			if _, err := store.ReportSource(t.Context(), postgres.SourceReport{Source: "p/other", Progress: sealed, Worst: -1}); err != nil {
				t.Fatal(err)
			}
		}
		if p, err := c.l.Progress(t.Context()); err != nil || p != c.want {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	list, err := store.Sources(t.Context())
	if err != nil || len(list) != 2 || !list[0].Backlog || list[0].Passed != 7 {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestLedgerReports adds up what was seen, also what could not be written down at once.
func TestLedgerReports(t *testing.T) {
	t.Parallel()
	store := postgrestest.New(t)
	l := pages(t, store, "key", "p/in", 0)
	now := time.Now()
	l.took("poll", gantry.Object{At: now.Add(-time.Hour)}, now) // before everything was taken up: no lag
	l.Keep(gantry.TakeUp{Taken: true})
	for i, late := range []time.Duration{9, 1, 2} {
		l.took([]string{"sqs", "poll", "sqs"}[i], gantry.Object{At: now.Add(-late * time.Second)}, now)
	}
	l.took("sqs", gantry.Object{At: now.Add(-time.Hour), Backlog: true}, now)
	l.took("sqs", gantry.Object{At: now.Add(-time.Hour)}, now.Add(-2*lagsWithin)) // long ago
	l.Swept(gantry.Sweep{Began: now, Took: time.Second, Objects: 5, Missed: 2})
	l.Failed(gantry.PartObject, gantry.Errorf(gantry.Denied, "access_denied", "no"))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	l.write(ended) // it fails
	l.Swept(gantry.Sweep{Began: now, Took: time.Second, Objects: 6, Missed: 1})
	l.write(t.Context())
	list, err := store.Sources(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	x := list[0]
	if x.Lag == nil || x.Lag.Half != 2 || x.Lag.Max != 9 || x.Missed != 3 || x.Sweeps != 2 || x.LastSweep.Objects != 6 || x.LastError == nil || x.LastError.Code != "access_denied" {
		t.Errorf("%+v, lag %+v", x, x.Lag)
	}
	if len(x.Channels) != 2 || x.Channels[0].Told != 2 || x.Channels[1].Told != 4 {
		t.Errorf("channels %+v", x.Channels)
	}
	if l.write(t.Context()); l.dirty {
		t.Error("nothing is new, and it is written again and again")
	}
}

// TestLedgerReportsThatItWatches: of a source whose objects are collected it is on record until when it was watched, though nothing came.
func TestLedgerReportsThatItWatches(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]*feed{
		"":       {name: "p/in"},
		"by it":  {name: "p/in", collect: &gantry.Collect{}},
		"shared": {name: "in", routes: []route{{}, {way: way{collect: &gantry.Collect{}}}}},
	} {
		l, err := newLedger(&App{}, f, "s3")
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		_, first := l.pending(now)
		if _, again := l.pending(now.Add(reportEvery)); !first || again != (name != "") {
			t.Errorf("%s: %v, then %v", name, first, again)
		}
	}
}

// TestRoom lets what was there before wait while many tasks of its lane do, and nothing else.
func TestRoom(t *testing.T) {
	t.Parallel()
	store := postgrestest.New(t)
	if _, err := store.Pool().Exec(t.Context(), `insert into gantry.task_hot(id, lane, state_until) select n, 7, now() from generate_series(1, $1::int) n`, roomFor); err != nil {
		t.Fatal(err)
	}
	full, free := pages(t, store, "key", "p/in", 7), pages(t, store, "key", "p/in", 8)
	old := gantry.Object{Backlog: true}
	if full.room(t.Context(), gantry.Object{}) != nil || free.room(t.Context(), old) != nil {
		t.Error("what is new waits, or in a free lane")
	}
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := full.room(short, old); err == nil {
		t.Error("it does not wait")
	}
	time.AfterFunc(100*time.Millisecond, func() {
		store.Pool().Exec(context.WithoutCancel(t.Context()), `delete from gantry.task_hot where id = 1`)
	})
	if err := full.room(t.Context(), old); err != nil {
		t.Errorf("it waits for ever: %v", err)
	}
}

// TestBehind makes what was there before less urgent by one step, but does not make it wait for the night.
func TestBehind(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		is, want int16
		backlog  bool
	}{{5, 6, true}, {5, 5, false}, {0, 1, true}, {gantry.Begun, gantry.Begun, true}, {gantry.PriorityOffPeak, gantry.PriorityOffPeak, true}, {9, 9, true}} {
		if got := behind(c.is, c.backlog); got != c.want {
			t.Errorf("%d, %v: %d", c.is, c.backlog, got)
		}
	}
}
