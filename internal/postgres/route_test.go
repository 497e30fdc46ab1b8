package postgres_test

import (
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestSeveralTasksOfOneArrival: one arrival leads to a task in each of several pipelines, all or none, once.
func TestSeveralTasksOfOneArrival(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	other := must(b.EnsurePipeline(t.Context(), &gantry.Pipeline{Name: "q", Version: gantry.Digest{2}, Resolved: []byte(`{}`)}))(t)
	lane := must(b.EnsureLane(t.Context(), "q", "incoming", b.limiter, 0))(t)
	admissions := func() []gantry.Admission {
		a := gantry.Arrival{ID: must(b.ArrivalIDs(t.Context(), 1))(t)[0], Source: "incoming", RefMAC: gantry.Digest{7}, Version: "v", Sequencer: "s", Size: 3, Via: 41}
		return []gantry.Admission{{Arrival: a, PublicID: "x", Pipeline: b.pipeline, Lane: b.lane, Priority: 5, Within: time.Hour},
			{Arrival: a, PublicID: "y", Pipeline: other, Lane: lane, Priority: 1, Within: time.Minute}}
	}
	if n := must(b.Enqueue(t.Context(), admissions()))(t); n != 2 {
		t.Errorf("%d tasks", n)
	}
	if n := must(b.Enqueue(t.Context(), append(admissions(), admissions()...)))(t); n != 0 {
		t.Errorf("%d more tasks", n)
	}
	if n := b.count(`select count(*) from arrival a where via = 41 and (select count(*) from task t where t.arrival = a.id) = 2`); n != 1 {
		t.Errorf("%d arrivals have two tasks", n)
	}
	one := b.claim(b.worker, 1)[0]
	two := must(b.Claim(t.Context(), b.worker, []gantry.Want{{Lane: lane, N: 1}}))(t)[0]
	if one.Pipeline != b.pipeline || two.Pipeline != other || two.Priority != 1 {
		t.Errorf("%+v and %+v", one, two)
	}
	if a := must(b.Originals(t.Context(), two.Task))(t)[0]; a.Via != 41 || a.Source != "incoming" {
		t.Errorf("original %+v", a)
	}
	bad := admissions()
	bad[0].Arrival.RefMAC, bad[1].Arrival.RefMAC, bad[0].PublicID, bad[1].PublicID, bad[1].Priority = gantry.Digest{8}, gantry.Digest{8}, "v", "w", 99
	if _, err := b.Enqueue(t.Context(), bad); err == nil || b.count(`select count(*) from task where public_id in ('v', 'w')`) != 0 {
		t.Errorf("half of it was kept: %v", err)
	}
}

// TestDecided: what the rules of a version turned away is looked at again under another version, what they could not be
// asked about always, and what was accepted never.
func TestDecided(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	a := gantry.Arrival{Source: "incoming", RefMAC: gantry.Digest{7}, Version: "v", Sequencer: "s", Size: 3, Name: "n", Status: gantry.Unmatched, Reason: gantry.CodeNoRoute, Via: 1}
	away := func(reason gantry.Code, via int32) {
		a.ID, a.Reason, a.Via = must(b.ArrivalIDs(t.Context(), 1))(t)[0], reason, via
		if _, err := b.TurnAway(t.Context(), []gantry.Arrival{a}); err != nil {
			t.Fatal(err)
		}
	}
	decided := func(sequencer string, via int32) bool {
		return must(b.Decided(t.Context(), "incoming", a.RefMAC, a.Version, sequencer, via))(t)
	}
	if decided("s", 1) {
		t.Error("decided before it came")
	}
	away(gantry.CodeNoRoute, 1)
	if !decided("s", 1) || decided("s", 2) || decided("s2", 1) {
		t.Error("turned away by version 1")
	}
	away("truncated", 2)
	if decided("s", 2) || decided("s", 1) {
		t.Error("a rule that could not be asked decided")
	}
	away(gantry.CodeNoRoute, 2)
	if !decided("s", 2) || b.count(`select count(*) from arrival`) != 1 {
		t.Error("turned away by version 2")
	}
	a.Status, a.Reason, a.Via, a.Place, a.ID = gantry.Accepted, "", 3, "there", must(b.ArrivalIDs(t.Context(), 1))(t)[0]
	must(b.Enqueue(t.Context(), []gantry.Admission{{Arrival: a, PublicID: "x", Pipeline: b.pipeline, Lane: b.lane, Priority: 5, Within: time.Hour}}))(t)
	if !decided("s", 1) || !decided("s", 9) {
		t.Error("accepted, and looked at again")
	}
	if x := must(b.Originals(t.Context(), b.claim(b.worker, 1)[0].Task))(t)[0]; x.Place != "there" || x.Via != 3 {
		t.Errorf("original %+v", x)
	}
	if n := b.count(`select count(*) from arrival where status = 0 and reason is null`); n != 1 {
		t.Error("what was accepted is on record as turned away")
	}
	a.Status = gantry.Unmatched
	away(gantry.CodeNoRoute, 4)
	if n := b.count(`select count(*) from arrival where status = 0 and via = 3`); n != 1 {
		t.Error("what was accepted can be turned away")
	}
}

// TestTurnAwayAccepted: what was accepted and is put again, with the same bytes and metadata that no rule takes, stays accepted and is not
// asked about again. One that has not come to all its pipelines yet is.
func TestTurnAwayAccepted(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"etag-3-1", ""} {
		b := newBed(t)
		a := gantry.Arrival{ID: must(b.ArrivalIDs(t.Context(), 1))(t)[0], Source: "incoming", RefMAC: gantry.Digest{7}, Version: "etag", Sequencer: first, Size: 3, Name: "n", Via: 1}
		must(b.Enqueue(t.Context(), []gantry.Admission{{Arrival: a, PublicID: "x", Pipeline: b.pipeline, Lane: b.lane, Priority: 5, Within: time.Hour}}))(t)
		b.exec(`update arrival set sequencer = nullif(sequencer, '')`)
		a.ID, a.Sequencer, a.Size, a.Status, a.Reason, a.Via = must(b.ArrivalIDs(t.Context(), 1))(t)[0], "etag-3-2", 4, gantry.Unmatched, gantry.CodeNoRoute, 2
		if made := must(b.TurnAway(t.Context(), []gantry.Arrival{a}))(t); len(made) != 0 {
			t.Errorf("%q: arrivals %d were made of it", first, made)
		}
		if known := must(b.KnownAll(t.Context(), "incoming", 1, []gantry.Digest{a.RefMAC}, []string{a.Version}, []string{"etag-3-2"}))(t); known[0] != (first != "") {
			t.Errorf("%q: it is known: %v", first, known)
		}
		if n := b.count(`select count(*) from arrival where status = 0 and via = 1 and size = 3 and reason is null`); n != 1 {
			t.Errorf("%q: what was accepted was turned away", first)
		}
	}
}

// TestTurnAwayBack: what was superseded or gone, is there again, and is taken by no rule, is on record as that and not asked about again.
func TestTurnAwayBack(t *testing.T) {
	t.Parallel()
	for _, was := range []gantry.ArrivalStatus{gantry.Superseded, gantry.SourceGone} {
		b := newBed(t)
		b.turned(7, "etag", "", was)
		back := gantry.Arrival{ID: must(b.ArrivalIDs(t.Context(), 1))(t)[0], Source: "p/in", RefMAC: gantry.Digest{7}, Version: "etag", Sequencer: "etag-3-2", Size: 3, Name: "n",
			Status: gantry.Unmatched, Reason: gantry.CodeNoRoute, Via: 1}
		must(b.TurnAway(t.Context(), []gantry.Arrival{back}))(t)
		if known := must(b.KnownAll(t.Context(), "p/in", 1, []gantry.Digest{{7}}, []string{"etag"}, []string{"etag-3-2"}))(t); !known[0] {
			t.Errorf("%s: it is asked about at the next listing, and at each after that", was)
		}
		if n := b.count(`select count(*) from arrival where status = $1`, int16(gantry.Unmatched)); n != 1 {
			t.Errorf("%s: it is not on record as unmatched", was)
		}
	}
}

// TestDecidedGone: what was found gone and is announced as it was is there: a server's lie, or a glitch, is no decision.
func TestDecidedGone(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	a := gantry.Arrival{ID: must(b.ArrivalIDs(t.Context(), 1))(t)[0], Source: "p/in", RefMAC: gantry.Digest{7}, Version: "v", Sequencer: "s", Size: 3, Status: gantry.SourceGone,
		Reason: gantry.CodeSourceGone}
	if _, err := b.TurnAway(t.Context(), []gantry.Arrival{a}); err != nil {
		t.Fatal(err)
	}
	if must(b.Decided(t.Context(), "p/in", a.RefMAC, a.Version, "s", 1))(t) {
		t.Error("it was gone, and what is announced is acknowledged unread")
	}
	a.Status, a.Reason = gantry.Accepted, ""
	must(b.Enqueue(t.Context(), []gantry.Admission{{Arrival: a, PublicID: "x", Pipeline: b.pipeline, Lane: b.lane, Priority: 5, Within: time.Hour}}))(t)
	if !must(b.Decided(t.Context(), "p/in", a.RefMAC, a.Version, "s", 1))(t) {
		t.Error("accepted, and looked at again")
	}
}

// TestMatched: where a source tells no version, one row stands for all states that were turned away, until one is taken.
func TestMatched(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	states := func(sequencer string) {
		a := gantry.Arrival{ID: must(b.ArrivalIDs(t.Context(), 1))(t)[0], Source: "shelf", RefMAC: gantry.Digest{7}, Sequencer: sequencer, Size: int64(len(sequencer)),
			Status: gantry.Unmatched, Reason: gantry.CodeNoRoute, Via: 1}
		if _, err := b.TurnAway(t.Context(), []gantry.Arrival{a}); err != nil {
			t.Fatal(err)
		}
		if !must(b.Decided(t.Context(), "shelf", a.RefMAC, "", sequencer, 1))(t) || b.count(`select count(*) from arrival where status = 3 and size = $1`, len(sequencer)) != 1 {
			t.Errorf("%s: it is not as it was turned away", sequencer)
		}
	}
	states("1")
	states("22")
	if err := b.Matched(t.Context(), "shelf", gantry.Digest{7}); err != nil {
		t.Fatal(err)
	}
	if n := b.count(`select count(*) from arrival where status = 1 and reason is null`); n != 1 {
		t.Error("a state that was turned away is still unmatched")
	}
	states("333")
	if n := b.count(`select count(*) from arrival`); n != 1 {
		t.Errorf("%d rows", n)
	}
}
