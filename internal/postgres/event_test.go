package postgres_test

import (
	"bytes"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// TestNewestEvent finds the greatest event of an object, whatever became of it, and that of no other.
func TestNewestEvent(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	ids := must(b.ArrivalIDs(t.Context(), 4))(t)
	list := []gantry.Arrival{
		{ID: ids[0], Source: "p/in", RefMAC: gantry.Digest{7}, Version: "a", Status: gantry.Superseded, Event: "0055AED6DCD9"},
		{ID: ids[1], Source: "p/in", RefMAC: gantry.Digest{7}, Version: "b", Status: gantry.SourceGone, Event: "0055AED6DCD90281E5"},
		{ID: ids[2], Source: "p/in", RefMAC: gantry.Digest{7}, Version: "c", Status: gantry.SourceGone},
		{ID: ids[3], Source: "p/in", RefMAC: gantry.Digest{8}, Version: "a", Status: gantry.Superseded, Event: "FF"},
	}
	if _, err := b.TurnAway(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	if got := must(b.NewestEvent(t.Context(), "p/in", gantry.Digest{7}))(t); got != "0055AED6DCD90281E5" {
		t.Errorf("%q", got)
	}
	if got := must(b.NewestEvent(t.Context(), "p/other", gantry.Digest{7}))(t); got != "" {
		t.Errorf("%q", got)
	}
}

// TestTurnedAwayComesBack: an object that was turned away is accepted when it is there again, as the same arrival.
func TestTurnedAwayComesBack(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	x := gantry.Admission{Arrival: gantry.Arrival{ID: must(b.ArrivalIDs(t.Context(), 1))(t)[0], Source: "p/in", RefMAC: gantry.Digest{7}, Version: "v1", Sequencer: "s1"},
		PublicID: "back", Pipeline: b.pipeline, Lane: b.lane, Within: time.Hour}
	gone := x.Arrival
	gone.ID, gone.Status, gone.Reason, gone.Sequencer, gone.Event = must(b.ArrivalIDs(t.Context(), 1))(t)[0], gantry.SourceGone, gantry.CodeSourceGone, "", "0A"
	if _, err := b.TurnAway(t.Context(), []gantry.Arrival{gone}); err != nil {
		t.Fatal(err)
	}
	x.Arrival.Event = "01"
	if n := must(b.Enqueue(t.Context(), []gantry.Admission{x}))(t); n != 1 {
		t.Fatalf("%d tasks", n)
	}
	if n := b.count(`select count(*) from arrival where source = $1 and ref_mac = $2 and status = 0 and reason is null and event = '0A'`,
		x.Arrival.Source, x.Arrival.RefMAC[:]); n != 1 {
		t.Error("the arrival is not accepted, or its newest event is forgotten")
	}
}

// TestKeepMessage keeps the beginning of a message once, with the digest of all of it.
func TestKeepMessage(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	long := bytes.Repeat([]byte("x"), 100<<10)
	sum := sha256.Sum256(long)
	for _, n := range []gantry.Notice{
		{Channel: gantry.ChannelSQS, Code: "malformed", Body: long}, {Channel: gantry.ChannelWebhook, Code: "other", Body: long},
		{Channel: gantry.ChannelSQS, Code: "empty"},
	} {
		if err := b.KeepMessage(t.Context(), "p/in", n); err != nil {
			t.Fatal(err)
		}
	}
	if n := b.count(`select count(*) from source_event where source = 'p/in'`); n != 2 {
		t.Errorf("%d rows", n)
	}
	if n := b.count(`select count(*) from source_event where code = 'malformed' and size = 102400 and sha = $1 and length(body) = 65536`, sum[:]); n != 1 {
		t.Error("not as it came")
	}
}

// TestSweepMessages removes what is old, the oldest first and so much at a time, and finds it without looking through the rest.
func TestSweepMessages(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.exec(`insert into source_event(source, channel, code, size, sha, body, at)
		select 'p/in', 'sqs', 'malformed', 1, sha256(int4send(n)), 'x', now() + interval '1 hour' - n * interval '1 day' from generate_series(1, 40) n`)
	for _, want := range []int64{8, 2, 0} {
		if n := must(b.SweepMessages(t.Context(), 30*24*time.Hour, 8))(t); n != want {
			t.Errorf("swept %d, want %d", n, want)
		}
		if n := b.count(`select count(*) from source_event where at > now() - interval '30 days'`); n != 30 {
			t.Errorf("%d of those that are not old are left", n)
		}
	}
	p := newPlans(t, true)
	p.exec(`insert into source_event(source, channel, code, size, sha) select 'p/in', 'sqs', 'malformed', 1, sha256(int4send(n)) from generate_series(1, 20000) n`)
	p.exec(`analyze source_event`)
	if plan := p.explain(postgres.SweepMessagesSQL, "'30 days'", "1000"); strings.Contains(plan, "Seq Scan on source_event") || !strings.Contains(plan, "source_event_at") {
		t.Errorf("it looks through all:\n%s", plan)
	}
}
