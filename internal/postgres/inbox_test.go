package postgres_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// code is what stands in the database for a UID.
func code(uid string) string {
	sum := gantry.MAC([]byte("k"), uid)
	return string(sum[:postgres.CodeBytes])
}

// awaits is what a part of a task waits for: one SR on a study of which two instances are sent.
func awaits(task gantry.Task, ordinal int32) gantry.Awaited {
	return gantry.Awaited{Submission: gantry.Submission{Task: task.Task, PartKey: gantry.PartKey{Ordinal: ordinal}, Try: 1},
		Called: "GANTRY", Calling: "MODEL", Modality: "SR", Studies: []string{code("study")}, Sent: []string{code("b"), code("a")}, Count: 1}
}

// came is an SR that the model sends on the study, which refers to instances.
func came(instance string, refers ...string) gantry.Incoming {
	x := gantry.Incoming{Called: "GANTRY", Calling: "MODEL", Class: "1.2", Modality: "SR", Study: code("study"), Instance: code(instance),
		Size: 4, SHA: gantry.MAC(nil, instance), Body: []byte(instance)}
	for _, r := range refers {
		x.Refers = append(x.Refers, code(r))
	}
	return x
}

func (b *bed) expect(x gantry.Awaited) string {
	b.t.Helper()
	return must(b.ExpectAnswer(context.Background(), x))(b.t).Ticket
}

// hand hands an answer in and holds what becomes of it, and whether that wakes its task.
func (b *bed) hand(x gantry.Incoming, want gantry.Belongs, woken bool) {
	b.t.Helper()
	of, woke, err := b.KeepAnswer(context.Background(), x)
	if err != nil || of != want || woke != woken {
		b.t.Errorf("it is %s, woke %v (%v); want %s, %v", of, woke, err, want, woken)
	}
}

func (b *bed) ready(ticket string, came int, ready bool) {
	b.t.Helper()
	if x := must(b.AwaitedAnswer(context.Background(), ticket))(b.t); x.Came != came || x.Ready != ready {
		b.t.Errorf("it is %+v, want %d came, ready %v", x, came, ready)
	}
}

// taken takes the answers of a ticket and gives their bytes.
func (b *bed) taken(ticket string) (out []string) {
	b.t.Helper()
	for _, x := range must(b.TakeAnswers(context.Background(), ticket))(b.t) {
		out = append(out, string(x.Body))
	}
	return out
}

func (b *bed) goesOut(task gantry.Task, ordinal int32, lasts time.Duration) {
	b.t.Helper()
	b.commit(b.worker, &gantry.Write{Lease: task.Lease, Parts: []gantry.Part{out(b.limiter, ordinal, lasts)}})
}

// TestAnswerOfAPart goes through the life of one expectation: the answer may come before the part is out, the same one again is
// known, another one is late, and what nobody waits for is nobody's.
func TestAnswerOfAPart(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	task := b.planned(1)
	ticket := b.expect(awaits(task, 0))
	b.ready(ticket, 0, false)
	for name, change := range map[string]func(*gantry.Incoming){
		"study":     func(x *gantry.Incoming) { x.Study = code("another") },
		"called":    func(x *gantry.Incoming) { x.Called = "OTHER" },
		"calling":   func(x *gantry.Incoming) { x.Calling = "OTHER" },
		"modality":  func(x *gantry.Incoming) { x.Modality = "CT" },
		"reference": func(x *gantry.Incoming) { x.Refers = []string{code("never sent")} },
		"an echo":   func(x *gantry.Incoming) { x.Instance = code("a") },
	} {
		x := came("r")
		change(&x)
		b.hand(x, gantry.Nobodys, false)
		wanted := must(b.AnswerWanted(t.Context(), x))(t)
		if want := name == "reference" || name == "an echo"; wanted != want {
			t.Errorf("%s: it may be wanted: %v", name, wanted)
		}
	}
	if !must(b.AnswerWanted(t.Context(), came("r")))(t) {
		t.Error("the answer is not wanted")
	}
	b.hand(came("r", "never sent", "b"), gantry.Counts, true) // the part is not out yet
	b.ready(ticket, 1, true)
	b.goesOut(task, 0, time.Minute)
	b.hand(came("r", "b"), gantry.Known, false)
	b.hand(came("s", "a"), gantry.TooLate, false)
	h := must(b.Answers(t.Context(), task.Task, 0, 0, 0))(t)
	if h.Count != 1 || len(h.Due) != 1 || h.Due[0].In > 0 || h.Due[0].Ordinal != 0 {
		t.Errorf("the engine hears %+v", h)
	}
	for range 2 {
		if diff := cmp.Diff([]string{"r"}, b.taken(ticket)); diff != "" {
			t.Errorf("taken (-want +got):\n%s", diff)
		}
	}
	if h := must(b.Answers(t.Context(), task.Task, 0, 0, 0))(t); len(h.Due) != 0 {
		t.Errorf("after it was taken the engine hears %+v", h)
	}
	b.commit(b.worker, &gantry.Write{Lease: task.Lease, Parts: []gantry.Part{out(b.limiter, 0, 0).Ended(gantry.PartOK)}})
	b.hand(came("late", "a"), gantry.TooLate, false)
	if n := b.count(`select count(*) from inbox where verdict = 1`); n != 2 {
		t.Errorf("%d late ones on record, want 2", n)
	}
	for _, x := range []string{"", "x", "999999"} {
		if _, err := b.AwaitedAnswer(t.Context(), x); gantry.CodeOf(err) != gantry.CodeJobLost {
			t.Errorf("ticket %q: %v", x, err)
		}
		if _, err := b.TakeAnswers(t.Context(), x); gantry.CodeOf(err) != gantry.CodeJobLost {
			t.Errorf("ticket %q: %v", x, err)
		}
	}
}

// TestWhoseAnswer divides answers among parts that wait for the same study: references decide, else the older one that lacks some.
func TestWhoseAnswer(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	task := b.planned(3)
	var tickets []string
	for i := range int32(3) {
		x := awaits(task, i)
		x.Sent = []string{code(fmt.Sprint("i", i)), code("both")}
		x.Count = 2
		tickets = append(tickets, b.expect(x))
	}
	b.hand(came("r0", "i2"), gantry.Counts, false)
	b.hand(came("r1", "i1"), gantry.Counts, false)
	b.hand(came("r2"), gantry.Counts, false)        // the oldest
	b.hand(came("r3", "both"), gantry.Counts, true) // the oldest is complete now
	b.hand(came("r4", "both"), gantry.Counts, true) // the second
	b.hand(came("r5", "i0"), gantry.TooLate, false) // it is about the first
	b.hand(came("r6"), gantry.Counts, true)         // the third
	b.hand(came("r7", "both"), gantry.TooLate, false)
	for i, want := range [][]string{{"r2", "r3"}, {"r1", "r4"}, {"r0", "r6"}} {
		if diff := cmp.Diff(want, b.taken(tickets[i])); diff != "" {
			t.Errorf("the part %d has (-want +got):\n%s", i, diff)
		}
	}
}

// TestSameAnswerForTwo gives an answer that comes twice, since two tasks sent the same, to each once.
func TestSameAnswerForTwo(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	task := b.planned(2)
	first, second := b.expect(awaits(task, 0)), b.expect(awaits(task, 1))
	b.hand(came("r", "a"), gantry.Counts, true)
	b.hand(came("r", "a"), gantry.Counts, true)
	b.hand(came("r", "a"), gantry.Known, false)
	b.ready(first, 1, true)
	b.ready(second, 1, true)
}

// TestAnswerReplaced takes another version of an instance in place of the first, until that was taken.
func TestAnswerReplaced(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	task := b.planned(1)
	x := awaits(task, 0)
	x.Count = 2
	ticket := b.expect(x)
	other := func(bytes string) gantry.Incoming {
		x := came("r")
		x.SHA, x.Body = gantry.MAC(nil, bytes), []byte(bytes)
		return x
	}
	b.hand(other("v1"), gantry.Counts, false)
	b.hand(other("v2"), gantry.Counts, false)
	b.hand(other("v1"), gantry.Known, false)
	b.hand(came("s"), gantry.Counts, true)
	b.hand(other("v3"), gantry.Counts, true)
	if diff := cmp.Diff([]string{"s", "v3"}, b.taken(ticket)); diff != "" {
		t.Errorf("taken (-want +got):\n%s", diff)
	}
	b.hand(other("v4"), gantry.TooLate, false)
	if n := b.count(`select count(*) from inbox where verdict = 2`); n != 2 {
		t.Errorf("%d replaced ones on record, want 2", n)
	}
}

// TestAnswerQuiet is complete once nothing came for a while, and at once if as many came as there are at most.
func TestAnswerQuiet(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	task := b.planned(1)
	x := awaits(task, 0)
	x.Count, x.Quiet = 3, 400*time.Millisecond
	ticket := b.expect(x)
	b.hand(came("r"), gantry.Counts, true)
	b.ready(ticket, 1, false)
	s := must(b.AwaitedAnswer(t.Context(), ticket))(t)
	if s.In <= 0 || s.In > x.Quiet {
		t.Errorf("it will be complete in %s", s.In)
	}
	if h := must(b.Answers(t.Context(), task.Task, 0, 0, 0))(t); len(h.Due) != 1 || h.Due[0].In <= 0 {
		t.Errorf("the engine hears %+v", h)
	}
	time.Sleep(s.In + 20*time.Millisecond)
	b.ready(ticket, 1, true)
	b.hand(came("s"), gantry.Counts, true) // it was not taken yet
	b.ready(ticket, 2, false)
	b.hand(came("t"), gantry.Counts, true)
	b.ready(ticket, 3, true)
}

// TestAnswersOfTries gives a later try what came for an earlier one and was not taken, and nothing of what was.
func TestAnswersOfTries(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	task := b.planned(1)
	x := awaits(task, 0)
	ticket := b.expect(x)
	b.goesOut(task, 0, time.Minute)
	back := out(b.limiter, 0, 0)
	back.Status = gantry.PartPlanned
	b.commit(b.worker, &gantry.Write{Lease: task.Lease, Parts: []gantry.Part{back}}) // given up, to be tried again
	b.hand(came("r"), gantry.Counts, true)
	x.Try = 2
	if s := must(b.ExpectAnswer(t.Context(), x))(t); s.Ticket != ticket || !s.Ready {
		t.Errorf("the second try is %+v", s)
	}
	if diff := cmp.Diff([]string{"r"}, b.taken(ticket)); diff != "" {
		t.Errorf("taken (-want +got):\n%s", diff)
	}
	x.Try, x.Studies = 3, []string{code("study"), code("more")} // what was taken made no sense
	if s := must(b.ExpectAnswer(t.Context(), x))(t); s.Ready || s.Came != 0 {
		t.Errorf("the third try is %+v", s)
	}
	y := came("s")
	y.Study = code("more")
	b.hand(y, gantry.Counts, true)
	if diff := cmp.Diff([]string{"s"}, b.taken(ticket)); diff != "" {
		t.Errorf("taken (-want +got):\n%s", diff)
	}
	b.hand(came("t"), gantry.TooLate, false) // this one came between two tries, and is sent again
	x.Try = 4
	b.expect(x)
	b.hand(came("t"), gantry.Counts, true)
	b.hand(came("t"), gantry.Known, false)
	b.taken(ticket)
	x.Try = 5
	b.expect(x)
	b.hand(came("t"), gantry.Counts, true) // a model that knows no other answer
	if diff := cmp.Diff([]string{"t"}, b.taken(ticket)); diff != "" {
		t.Errorf("taken (-want +got):\n%s", diff)
	}
}

// TestAnswerTooLate knows what comes when nobody waits any more: the time of the part is up, it failed, its task ended, or
// another generation took its place.
func TestAnswerTooLate(t *testing.T) {
	t.Parallel()
	for name, ends := range map[string]func(b *bed, task gantry.Task){
		"time is up": func(b *bed, task gantry.Task) { b.goesOut(task, 0, -time.Second) },
		"it failed": func(b *bed, task gantry.Task) {
			b.commit(b.worker, &gantry.Write{Lease: task.Lease, Parts: []gantry.Part{out(b.limiter, 0, 0).Ended(gantry.PartFailed)}})
		},
		"its task ended": func(b *bed, task gantry.Task) { b.commit(b.worker, end(task, gantry.Cancelled)) },
		"a redrive": func(b *bed, task gantry.Task) {
			b.exec(`insert into part(task_id, ordinal, leg, stage, processor, generation, first, count) values ($1, 0, 0, 0, 0, 1, 0, 1)`, int64(task.Task))
		},
		"it moved":  func(b *bed, task gantry.Task) { b.exec(`update task_hot set leg = 1 where id = $1`, int64(task.Task)) },
		"its death": func(b *bed, task gantry.Task) { b.exec(`delete from task_hot where id = $1`, int64(task.Task)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			task := b.planned(1)
			b.expect(awaits(task, 0))
			ends(b, task)
			b.hand(came("r"), gantry.TooLate, false)
			b.hand(came("r"), gantry.Known, false)
		})
	}
}
