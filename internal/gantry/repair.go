package gantry

import "time"

// Passage is where a task goes that is moved: its next leg, at queued, with the originals only.
type Passage struct {
	Pipeline int32         // the row of the version
	Lane     int32         // that it may be claimed from
	Within   time.Duration // how long it may stay queued
}

// MovedLane is the source of the lane of tasks that were moved to a pipeline without a source of the name that
// theirs has. No source can be called so.
const MovedLane = "(moved)"

// MaxLegs is how many legs a task has at most by rules of move_if that say nothing else: two pipelines that
// move their failures to one another come to an end.
const MaxLegs = 3

// Verb is what an operator asks of the process that holds a task.
type Verb string

// The verbs. They stand in the database.
const (
	VerbCancel Verb = "cancel"
	VerbMove   Verb = "move"
	VerbPause  Verb = "pause"
)

// Command is what an operator asks, and of which task.
type Command struct {
	Task TaskID
	Verb Verb
	To   Passage // of a move
	By   string
}

// ErrPaused is the cause of a context that ends because an operator paused the task: what runs for it is broken
// off, and begun again once the task is resumed.
var ErrPaused error = Errorf(Permanent, CodePaused, "an operator paused the task")

// Moved is the cause of a context that ends because an operator moved the task. It is Permanent with code
// moved.
type Moved struct {
	To Passage
	By string
}

// Error says what happened.
func (m *Moved) Error() string { return "an operator moved the task to another pipeline" }

// Unwrap gives the error with its kind and code.
func (m *Moved) Unwrap() error { return Errorf(Permanent, CodeMoved, "%s", m.Error()) }

// Cause is what the effect of the task is broken off with.
func (o Command) Cause() error {
	switch o.Verb {
	case VerbMove:
		return &Moved{To: o.To, By: o.By}
	case VerbPause:
		return ErrPaused
	}
	return ErrCancelled
}
