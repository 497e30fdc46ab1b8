package postgres_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

func TestControlTraffic(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	at := time.Now().UTC().Truncate(time.Microsecond)
	key := gantry.ControlKey{Boundary: gantry.AtSource, Limiter: b.limiter, Pipeline: b.pipeline, Index: 1}
	sum := gantry.Control{ControlKey: key, ID: b.ids.New(), From: at.Add(-time.Minute), To: at, Requests: 6, RespSize: 600, Took: 1500 * time.Microsecond}
	failure := gantry.Control{ControlKey: key, ID: b.ids.New(), From: at, To: at.Add(time.Second), Requests: 1, Failures: 1, Status: 503,
		Kind: gantry.Unavailable, Code: "refused"}
	for range 2 { // as after a commit of unknown outcome
		if err := b.RecordControl(t.Context(), b.worker, []gantry.Control{sum, failure}); err != nil {
			t.Fatal(err)
		}
	}
	want := []postgres.ControlRow{
		{Pipeline: "p", Boundary: "source", Target: "pipeline:p", From: at, To: at.Add(time.Second), Requests: 1, Failures: 1, Status: 503,
			ErrorKind: "unavailable", ErrorCode: "refused", Worker: int64(b.worker)},
		{Pipeline: "p", Boundary: "source", Target: "pipeline:p", From: at.Add(-time.Minute), To: at, Requests: 6, ResponseBytes: 600, DurationMS: 1.5,
			Worker: int64(b.worker)},
	}
	got := must(b.ControlTraffic(t.Context(), postgres.Filter{}))(t)
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(postgres.ControlRow{}, "ID")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for f, n := range map[*postgres.Filter]int{
		{Outcome: "failed"}: 1, {Outcome: "ok"}: 1, {Limit: 1}: 1, {Pipeline: "other"}: 0, {Boundary: "sink"}: 0, {Since: time.Now().Add(time.Hour)}: 0,
	} {
		if got := must(b.ControlTraffic(t.Context(), *f))(t); len(got) != n {
			t.Errorf("%+v selects %d rows, want %d", *f, len(got), n)
		}
	}
	if _, err := b.Pool().Exec(t.Context(), `update control_traffic set requests = 1`); err == nil {
		t.Error("a row could be changed")
	}
}

// Nobody empties a table of the record, the owner of the tables neither.
func TestRecordIsNotEmptied(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	for _, table := range []string{"task_event", "call_intent", "call_outcome", "control_traffic"} {
		if _, err := b.Pool().Exec(t.Context(), `set role none; truncate gantry.`+table); err == nil || !strings.Contains(err.Error(), table+" is append-only") {
			t.Errorf("%s: %v", table, err)
		}
	}
}
