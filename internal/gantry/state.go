package gantry

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/looplab/fsm"
)

// State says where a task is; Phase says who may touch it.
type State uint8

// The states in their order. The numbers stand in the database.
const (
	Queued State = iota
	Extracting
	Ingesting
	Inferring
	Responding
	Done
	Failed
	Cancelled
)

var stateNames = [...]string{"queued", "extracting", "ingesting", "inferring", "responding", "done", "failed", "cancelled"}

// String gives the name that the state machine, records and commands use.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// ParseState is the reverse of String.
func ParseState(s string) (State, bool) {
	for i, n := range stateNames {
		if n == s {
			return State(i), true
		}
	}
	return 0, false
}

// Final tells whether the task has ended.
func (s State) Final() bool { return s >= Done }

// Phase says who may touch a task that has not ended.
type Phase uint8

// The phases. The numbers stand in the database.
const (
	Ready   Phase = iota // any process may claim it
	Owned                // a process holds the lease
	Delayed              // nothing to do before run_at
	Waiting              // for its children
	Paused               // by an operator, until it is resumed
)

var phaseNames = [...]string{"ready", "owned", "delayed", "waiting", "paused"}

// String gives the phase's name.
func (p Phase) String() string {
	if int(p) < len(phaseNames) {
		return phaseNames[p]
	}
	return fmt.Sprintf("phase(%d)", uint8(p))
}

// Event is what an effect reports; the table alone knows where it leads.
type Event string

// The events. Retry, park, release and rescue keep the state and are none.
const (
	Start   Event = "start"   // leave the queue
	Finish  Event = "finish"  // the state's effect is complete
	Next    Event = "next"    // another stage follows
	Filter  Event = "filter"  // nothing is to be done with it
	Abandon Event = "abandon" // end as failed
	Cancel  Event = "cancel"  // end as cancelled
	MoveOn  Event = "move"    // begin the next leg, through another pipeline
)

// Redrive puts a task that has ended back to inference, for what is to be called again.
const Redrive Event = "redrive"

// Reopen puts a task that failed back into the state that failed. Since an event of the table has one
// destination, there is one event for each state.
func Reopen(s State) Event { return Event("reopen_" + s.String()) }

// Lifecycle is the whole state machine; docs/states.md is drawn from it. It is used as a table
// only: an event is fired, its destination is committed to the database, and then the
// destination's effect runs. No callback is ever attached.
var Lifecycle = fsm.Events{
	on(Start, Extracting, Queued),
	on(Finish, Ingesting, Extracting),
	on(Finish, Inferring, Ingesting),
	on(Filter, Done, Ingesting),
	on(Next, Inferring, Inferring),
	on(Finish, Responding, Inferring),
	on(Finish, Done, Responding),
	on(Abandon, Failed, Queued, Extracting, Ingesting, Inferring, Responding),
	on(Cancel, Cancelled, Queued, Extracting, Ingesting, Inferring, Responding),
	on(MoveOn, Queued, Queued, Extracting, Ingesting, Inferring, Responding, Failed),
	on(Reopen(Queued), Queued, Failed),
	on(Reopen(Extracting), Extracting, Failed),
	on(Reopen(Ingesting), Ingesting, Failed),
	on(Reopen(Inferring), Inferring, Failed),
	on(Reopen(Responding), Responding, Failed),
	on(Redrive, Inferring, Done, Failed, Cancelled),
}

func on(e Event, to State, from ...State) fsm.EventDesc {
	d := fsm.EventDesc{Name: string(e), Dst: to.String()}
	for _, s := range from {
		d.Src = append(d.Src, s.String())
	}
	return d
}

// destinations are all legal moves, each found by firing its event once: a machine of its own for each
// transition of each task would cost more than everything else that the process does for it.
var destinations = sync.OnceValue(func() map[move]State {
	all := map[move]State{}
	for from := Queued; from <= Cancelled; from++ {
		for _, d := range Lifecycle {
			if to, err := from.fire(Event(d.Name)); err == nil {
				all[move{from, Event(d.Name)}] = to
			}
		}
	}
	return all
})

type move struct {
	from State
	by   Event
}

// Next says where the event leads from s. An event that the table does not allow is an error.
func (s State) Next(e Event) (State, error) {
	if to, ok := destinations()[move{s, e}]; ok {
		return to, nil
	}
	return s.fire(e)
}

// fire lets the state machine decide.
func (s State) fire(e Event) (State, error) {
	m := fsm.NewFSM(s.String(), Lifecycle, nil)
	err := m.Event(context.Background(), string(e))
	if _, same := errors.AsType[fsm.NoTransitionError](err); err != nil && !same {
		return s, fmt.Errorf("%s in state %s: %w", e, s, err)
	}
	to, _ := ParseState(m.Current())
	return to, nil
}
