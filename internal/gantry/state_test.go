package gantry_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/looplab/fsm"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

var update = flag.Bool("update", false, "write docs/states.md anew")

//go:generate go test -run TestStateDiagram -update .

const statesFile = "../../docs/states.md"

// TestStateDiagram holds docs/states.md to the table. With -update it writes it.
func TestStateDiagram(t *testing.T) {
	diagram, err := fsm.VisualizeForMermaidWithGraphType(fsm.NewFSM(gantry.Queued.String(), gantry.Lifecycle, nil), fsm.StateDiagram)
	if err != nil {
		t.Fatal(err)
	}
	want := `# The states of a task

Drawn from the table in ` + "`internal/gantry/state.go`" + ` by ` + "`go generate ./internal/gantry`" + `; a test fails when it is out of date.

` + "```mermaid\n" + strings.TrimSpace(diagram) + "\n```" + `

The state says where a task is; the phase says who may touch it: *ready* (any process may claim it), *owned* (a process
holds the lease), *delayed* (nothing to do before a time), *waiting* (for its children), *paused* (by an operator). A retry, a park, a release at
shutdown and the rescue from a dead process keep the state and change the phase. Entering a state is one committed
transition; its effect runs after the commit, and runs again if the process dies. An operator may cancel a task in any
state that is not final, reopen one that failed in the state that failed, and redrive one that has ended. A move begins the
next leg, in another pipeline.
`
	if *update {
		if err := os.WriteFile(statesFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(statesFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is stale: run go generate ./internal/gantry", statesFile)
	}
}

func TestEveryActiveStateHasAWayOut(t *testing.T) {
	for s := gantry.Queued; s < gantry.Done; s++ {
		for _, e := range []gantry.Event{gantry.Abandon, gantry.Cancel} {
			if to, err := s.Next(e); err != nil || !to.Final() {
				t.Errorf("%s in %s leads to %s: %v", e, s, to, err)
			}
		}
	}
	for s := gantry.Done; s <= gantry.Cancelled; s++ {
		for _, e := range []gantry.Event{gantry.Start, gantry.Finish, gantry.Next, gantry.Abandon, gantry.Cancel} {
			if to, err := s.Next(e); err == nil {
				t.Errorf("%s leads out of %s to %s", e, s, to)
			}
		}
	}
}

// TestReopen leads from failed back to each state that may fail, and from nowhere else.
func TestReopen(t *testing.T) {
	for s := gantry.Queued; s < gantry.Done; s++ {
		for from := gantry.Queued; from <= gantry.Cancelled; from++ {
			to, err := from.Next(gantry.Reopen(s))
			if ok := err == nil && to == s; ok != (from == gantry.Failed) {
				t.Errorf("%s in %s leads to %s: %v", gantry.Reopen(s), from, to, err)
			}
		}
	}
	if _, err := gantry.Failed.Next(gantry.Reopen(gantry.Done)); err == nil {
		t.Error("a failed task can be reopened as done")
	}
}

func TestWayOfATask(t *testing.T) {
	s := gantry.Queued
	for _, step := range []struct {
		event gantry.Event
		want  gantry.State
	}{
		{gantry.Start, gantry.Extracting}, {gantry.Finish, gantry.Ingesting}, {gantry.Finish, gantry.Inferring},
		{gantry.Next, gantry.Inferring}, {gantry.Finish, gantry.Responding}, {gantry.Finish, gantry.Done},
	} {
		to, err := s.Next(step.event)
		if err != nil || to != step.want {
			t.Fatalf("%s in %s leads to %s (%v), want %s", step.event, s, to, err, step.want)
		}
		s = to
	}
	if _, err := gantry.Queued.Next(gantry.Finish); err == nil {
		t.Error("finish is allowed in queued")
	}
}

func TestNames(t *testing.T) {
	for s := gantry.Queued; s <= gantry.Cancelled; s++ {
		if got, ok := gantry.ParseState(s.String()); !ok || got != s {
			t.Errorf("state %d does not survive its name %s", s, s)
		}
	}
	for k := gantry.Transient; k <= gantry.Illegal; k++ {
		if got, ok := gantry.ParseKind(k.String()); !ok || got != k {
			t.Errorf("kind %d does not survive its name %s", k, k)
		}
	}
	for _, odd := range []string{gantry.State(99).String(), gantry.Phase(99).String(), gantry.Kind(99).String()} {
		if !strings.Contains(odd, "99") {
			t.Errorf("a number without a name prints as %q", odd)
		}
	}
}

// TestStatesMatchMigration compares the numbers in the schema with the constants.
func TestStatesMatchMigration(t *testing.T) {
	src, err := os.ReadFile("../../migrations/0001_schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		fmt.Sprintf(`state\s+smallint not null default %d check \(state between %d and %d\)`, gantry.Queued, gantry.Queued, gantry.Responding),
		fmt.Sprintf(`phase\s+smallint not null default %d check \(phase between %d and %d\)`, gantry.Ready, gantry.Ready, gantry.Waiting),
		fmt.Sprintf(`final_state smallint check \(final_state in \(%d, %d, %d\)\)`, gantry.Done, gantry.Failed, gantry.Cancelled),
		fmt.Sprintf(`status\s+smallint not null default %d check \(status between %d and %d\)`, gantry.PartPlanned, gantry.PartPlanned, gantry.PartFailed),
		fmt.Sprintf(`task_hot_ready\s+on task_hot \(lane, priority, id\) where phase = %d`, gantry.Ready),
		fmt.Sprintf(`task_hot_delayed on task_hot \(run_at\)\s+where phase = %d`, gantry.Delayed),
		fmt.Sprintf(`task_hot_owned\s+on task_hot \(owner\)\s+where phase = %d`, gantry.Owned),
	} {
		if !regexp.MustCompile(want).Match(src) {
			t.Errorf("the schema has no %s", want)
		}
	}
	// An index on what every transition changes would make each of them write all indexes.
	for _, line := range regexp.MustCompile(`create index \w+\s+on task_hot [^;]*`).FindAllString(string(src), -1) {
		if regexp.MustCompile(`\b(state|seq|attempt|state_until)\b`).MatchString(line) {
			t.Errorf("an index mentions what it must not: %s", line)
		}
	}
}

// TestMove leads from every state that is not final, and from failed, back to queued.
func TestMove(t *testing.T) {
	for s := gantry.Queued; s <= gantry.Cancelled; s++ {
		to, err := s.Next(gantry.MoveOn)
		if may := !s.Final() || s == gantry.Failed; may != (err == nil) || may && to != gantry.Queued {
			t.Errorf("a move in %s leads to %s: %v", s, to, err)
		}
	}
}

// TestPausedMatchesMigration: the phase that came later is the last.
func TestPausedMatchesMigration(t *testing.T) {
	src, err := os.ReadFile("../../migrations/0011_repair.sql")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("check (phase between %d and %d)", gantry.Ready, gantry.Paused); !strings.Contains(string(src), want) {
		t.Errorf("the schema has no %s", want)
	}
}
