package audit

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// Violation is one place where the record breaks a rule of docs/testing.md.
type Violation struct {
	Task string `json:"task"` // public id; #n for the key of a task that there is not
	Seq  int32  `json:"seq"`  // of the event; of the last one for how the task stands; 0 for other rows
	Rule string `json:"rule"`
	Text string `json:"text"`
}

// The rules on what a task's events say. Those on its other rows are named in package postgres.
const (
	RuleBegin   = "begin"   // the first event leaves a state that a task of its role may begin in
	RuleFrom    = "from"    // an event leaves the state that the one before entered
	RuleStep    = "step"    // the table of states and the kind of change allow it
	RuleSeq     = "seq"     // a claim raises the number by one, and so does an event; nothing else does
	RuleWorker  = "worker"  // what a process holds is moved by that process, or rescued from it
	RuleStage   = "stage"   // the stage is kept, or the next one; a reopening may go back to an earlier one
	RuleAttempt = "attempt" // a retry raises it, an advance, a reopening and a move begin anew, all else keeps it
	RuleLeg     = "leg"     // a move begins the next leg, all else keeps it
	RuleFinal   = "final"   // an ended task is brought back by a reopening, or by a move if it failed, and by nothing else
	RuleEnd     = "end"     // the task ended as its last event says
	RuleStand   = "stand"   // a task that has not ended stands where its last event left it
	RuleLost    = "lost"    // a task has ended or stands somewhere
)

// rescued is the change of the reaper's events.
const rescued gantry.Change = 9

// Summary says how much was looked at.
type Summary struct {
	Tasks      int64 `json:"tasks"`
	Events     int64 `json:"events"`
	Violations int64 `json:"violations"`
}

// pageOfTasks is how many tasks are looked at in one snapshot. Memory does not grow with their events.
const pageOfTasks = 500

// History holds all tasks that the filter selects, by Pipeline and Since, to the rules, and tells f of each
// violation as it is found. It ends with the first error of f or of the database.
func History(ctx context.Context, s *postgres.Store, filter postgres.Filter, f func(Violation) error) (Summary, error) {
	h := &history{legal: legalSteps(), found: f}
	after := int64(0)
	var err error
	if !filter.Since.IsZero() {
		if after, err = s.FirstTask(ctx, filter.Since); err != nil {
			return h.sum, err
		}
	}
	for h.err == nil {
		last, err := s.HistoryPage(ctx, filter, after, pageOfTasks, h)
		if err != nil {
			return h.sum, err
		}
		h.endTask()
		if last == 0 {
			break
		}
		after = last
	}
	return h.sum, h.err
}

// passage is a step from one state to another.
type passage struct{ from, to gantry.State }

// legalSteps are the passages that the state machine's table has an event for.
func legalSteps() map[passage]bool {
	legal := map[passage]bool{}
	for _, e := range gantry.Lifecycle {
		to, _ := gantry.ParseState(e.Dst)
		for _, src := range e.Src {
			from, _ := gantry.ParseState(src)
			legal[passage{from, to}] = true
		}
	}
	return legal
}

// history follows one task after another. What it knows of a task is the last step alone.
type history struct {
	legal map[passage]bool
	found func(Violation) error
	sum   Summary
	err   error

	open bool // a task is under way
	task postgres.TaskStand
	last postgres.Step // Seq 0: there was none
}

func (h *history) fault(task string, seq int32, rule, format string, args ...any) {
	h.sum.Violations++
	if h.err == nil {
		h.err = h.found(Violation{Task: task, Seq: seq, Rule: rule, Text: fmt.Sprintf(format, args...)})
	}
}

// Task begins with a task.
func (h *history) Task(t postgres.TaskStand) {
	h.endTask()
	h.sum.Tasks++
	h.open, h.task = true, t
	h.last = postgres.Step{To: gantry.Queued}
	if t.Role == gantry.Shard {
		h.last.To = gantry.Inferring
	}
}

// Step holds an event to the rules and to the one before.
func (h *history) Step(e postgres.Step) {
	h.sum.Events++
	p, first := h.last, h.last.Seq == 0
	fault := func(rule, format string, args ...any) { h.fault(h.task.ID, e.Seq, rule, format, args...) }
	if first && e.Change != gantry.Move {
		p.Leg = e.Leg
	}
	switch {
	case e.From != p.To && first:
		fault(RuleBegin, "it begins in state %s, not %s", e.From, p.To)
	case e.From != p.To:
		fault(RuleFrom, "it leaves state %s; the event before entered %s", e.From, p.To)
	case p.To.Final() && e.Change != gantry.Reopened && (e.Change != gantry.Move || p.To != gantry.Failed):
		fault(RuleFinal, "the task had ended as %s", p.To)
	}
	if why := h.illegal(e); why != "" {
		fault(RuleStep, "%s", why)
	}
	h.numbers(p, e, fault)
	if h.last = e; e.Change == gantry.Move {
		h.last.Stage = 0 // the event has the stage that was left
	}
}

// illegal says why a step may not be taken, whatever came before; empty if it may.
func (h *history) illegal(e postgres.Step) string {
	known, ok := h.legal[passage{e.From, e.To}], false
	switch e.Change {
	case gantry.Advance:
		ok = known && !e.From.Final() && !e.To.Final() && e.To != gantry.Queued
	case gantry.End:
		ok = known && !e.From.Final() && e.To.Final()
	case gantry.Reopened:
		ok = known && e.From.Final() && !e.To.Final()
	case gantry.Move:
		ok = known && e.To == gantry.Queued
	case gantry.Retry, gantry.Park, gantry.Release, gantry.Wait, gantry.Pause, gantry.Resumed, rescued:
		ok = e.From == e.To && !e.From.Final()
	default:
		return fmt.Sprintf("no kind of change has number %d", e.Change)
	}
	if !ok {
		return fmt.Sprintf("change %d leads not from %s to %s", e.Change, e.From, e.To)
	}
	return ""
}

// numbers holds what an event counts to the event before.
func (h *history) numbers(p, e postgres.Step, fault func(rule, format string, args ...any)) {
	owned := p.Seq > 0 && p.Change == gantry.Advance
	nobody := e.Worker == 0 // an operator's command, or the reaper, on a task that nobody holds
	want := p.Seq + 1
	if !owned && !nobody {
		want++ // the claim
	}
	if e.Seq != want {
		fault(RuleSeq, "it has number %d; after %d comes %d", e.Seq, p.Seq, want)
	}
	switch {
	case owned && e.Worker != p.Worker:
		fault(RuleWorker, "process %d held the task, and %d moved it", p.Worker, e.Worker)
	case nobody && !slices.Contains(commanded, e.Change):
		fault(RuleWorker, "no process moved it")
	case e.Change == gantry.Resumed && !nobody:
		fault(RuleWorker, "process %d resumed it", e.Worker)
	}
	places(p, e, fault)
}

// commanded are the changes that a task may go through which nobody holds.
var commanded = []gantry.Change{gantry.End, gantry.Reopened, gantry.Move, gantry.Pause, gantry.Resumed}

// places holds the stage, the attempt and the leg of an event to those of the one before.
func places(p, e postgres.Step, fault func(rule, format string, args ...any)) {
	stage, attempt, leg := p.Stage, p.Attempt, p.Leg
	if e.Change == gantry.Advance && e.From == gantry.Inferring && e.To == gantry.Inferring {
		stage++
	}
	if e.Stage != stage && (e.Change != gantry.Reopened || e.Stage > stage || e.Stage < 0) {
		fault(RuleStage, "it is at stage %d, not %d", e.Stage, stage)
	}
	switch e.Change {
	case gantry.Retry:
		attempt++
	case gantry.Advance, gantry.Reopened:
		attempt = 0
	case gantry.Move:
		attempt = 0
		leg++
	}
	if e.Attempt != attempt {
		fault(RuleAttempt, "it is at attempt %d, not %d", e.Attempt, attempt)
	}
	if e.Leg != leg {
		fault(RuleLeg, "it is on leg %d, not %d", e.Leg, leg)
	}
}

// endTask holds a task to its last event.
func (h *history) endTask() {
	if !h.open {
		return
	}
	h.open = false
	t, p := h.task, h.last
	fault := func(rule, format string, args ...any) { h.fault(t.ID, p.Seq, rule, format, args...) }
	switch {
	case t.Final != nil && t.Hot != nil:
		fault(RuleEnd, "the task has ended as %s, and can be claimed", *t.Final)
	case t.Final != nil && *t.Final != p.To:
		fault(RuleEnd, "the task has ended as %s; its last event entered %s", *t.Final, p.To)
	case t.Final == nil && p.To.Final():
		fault(RuleEnd, "the last event entered %s, and the task has not ended", p.To)
	case t.Final == nil && t.Hot == nil:
		fault(RuleLost, "the task has not ended, and nobody can claim it")
	case t.Hot != nil:
		if why := astray(p, *t.Hot); why != "" {
			fault(RuleStand, "%s", why)
		}
	}
}

// astray says how a task stands elsewhere than its last event left it; empty if it does not.
func astray(p postgres.Step, h postgres.HotStand) string {
	owned := p.Seq > 0 && p.Change == gantry.Advance
	seq := p.Seq
	if h.Phase == gantry.Owned && !owned {
		seq++ // the claim
	}
	switch {
	case h.State != p.To, h.Stage != p.Stage, h.Attempt != p.Attempt, p.Seq > 0 && h.Leg != p.Leg:
		return fmt.Sprintf("it is in state %s, leg %d, stage %d, attempt %d; the last event left it in %s, %d, %d, %d",
			h.State, h.Leg, h.Stage, h.Attempt, p.To, p.Leg, p.Stage, p.Attempt)
	case h.Seq != seq:
		return fmt.Sprintf("it has number %d, not %d", h.Seq, seq)
	case owned && (h.Phase != gantry.Owned || h.Owner != p.Worker):
		return fmt.Sprintf("process %d holds it by the last event; it is %s, by %d", p.Worker, h.Phase, h.Owner)
	case p.Change == gantry.Pause && h.Phase != gantry.Paused:
		return fmt.Sprintf("it was paused by the last event; it is %s", h.Phase)
	case h.Phase == gantry.Waiting && h.Children == 0:
		return "it waits for children, and none is left"
	}
	return ""
}

// Oddity tells of rows that contradict one another.
func (h *history) Oddity(x postgres.Oddity) {
	h.endTask()
	if x.Rule == postgres.OddTask {
		h.fault("#"+strconv.FormatInt(x.Key, 10), 0, x.Rule, "%d events and calls of a task that is not there", x.N)
		return
	}
	text := fmt.Sprintf("leg %d, stage %d, processor %d, part %d, generation %d: %d", x.Part.Leg, x.Part.Stage, x.Part.Processor, x.Part.Ordinal, x.Part.Generation, x.N)
	if x.Rule == postgres.OddOutcome {
		text = fmt.Sprintf("%d calls", x.N)
	}
	h.fault(x.Task, 0, x.Rule, "%s", text)
}

// Rules lists the rules that a history is held to.
func Rules() []string {
	return slices.Concat([]string{RuleBegin, RuleFrom, RuleStep, RuleSeq, RuleWorker, RuleStage, RuleAttempt, RuleLeg, RuleFinal, RuleEnd, RuleStand, RuleLost},
		[]string{postgres.OddTwice, postgres.OddLost, postgres.OddNoAnswer, postgres.OddOpen, postgres.OddItem, postgres.OddItems, postgres.OddOutcome, postgres.OddTask})
}
