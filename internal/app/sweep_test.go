package app

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
)

// TestSweepRows removes messages that were kept long enough, more than one batch of them, and leaves the others.
func TestSweepRows(t *testing.T) {
	t.Parallel()
	a := &App{Store: postgrestest.New(t)}
	a.Log = slog.New(slog.DiscardHandler)
	if err := a.Store.KeepMessage(t.Context(), "p/in", gantry.Notice{Channel: gantry.ChannelSQS, Code: "malformed", Body: []byte("young")}); err != nil {
		t.Fatal(err)
	}
	_, err := a.Store.Pool().Exec(t.Context(), `insert into source_event(source, channel, code, size, sha, at)
		select 'p/in', 'sqs', 'malformed', 1, sha256(int4send(n)), now() - interval '31 days' from generate_series(1, 1500) n`)
	if err != nil {
		t.Fatal(err)
	}
	a.sweepRows(t.Context())
	var left int
	if err := a.Store.Pool().QueryRow(t.Context(), `select count(*) from source_event`).Scan(&left); left != 1 || err != nil {
		t.Errorf("%d are left, %v", left, err)
	}
}

// TestSweepIsBounded: whatever is left, a pass ends; so it does at an error.
func TestSweepIsBounded(t *testing.T) {
	t.Parallel()
	calls, broken := 0, errors.New("broken")
	if err := inBatches(func() (int64, error) { calls++; return oldBatch, nil }); err != nil || calls != oldBatches {
		t.Errorf("%d calls, %v", calls, err)
	}
	calls = 0
	if err := inBatches(func() (int64, error) { calls++; return oldBatch, broken }); !errors.Is(err, broken) || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
}
