package gantry

import "time"

// TaskID is a task's key in the database. Outside it a task goes by its public id.
type TaskID int64

// WorkerID names one run of one process. It is never used again.
type WorkerID int64

// Lease is a process's hold on a task. Seq is raised by every claim, transition and rescue, so
// a process that lost its lease cannot write: the store compares Seq and owner.
type Lease struct {
	Task TaskID
	Seq  int32
}

// Task is one arrival travelling through one version of one pipeline, as the process that
// claimed it sees it.
type Task struct {
	Lease
	PublicID  string
	Pipeline  int32 // the row of pipeline_version
	Name      string
	Leg       int16
	Delivery  int16
	State     State
	Stage     int16 // the stage of inference that it is in; 0 before
	Attempt   int16 // failed tries of the present state or stage
	Crashes   int16 // deaths of a process while this task's effect ran there; never reset
	Priority  int16
	Lane      int32
	Parent    TaskID        // that waits for this one to end; 0: none
	Role      Role          // what it is to its parent
	Ordinal   int32         // its place among its parent's children
	Cursor    int64         // how far an effect got, as it wrote down itself
	Remaining time.Duration // until the present state's time is up, when it was claimed
	CreatedAt time.Time

	// Begun says that the claim itself took the task out of its queue: the state is that after it.
	Begun bool
}

// What deaths of processes do to the task whose effect was running: from the second on it runs alone in its
// process, and with the fifth it has failed. claim.sql knows the first number too.
const (
	CrashesToBeAlone = 2
	CrashesToFail    = 5
)

// Change is what a transition does to the phase.
type Change uint8

// The kinds of transition. The numbers stand in transition.sql.
const (
	Advance Change = iota // another state or stage; the process keeps the lease
	Retry                 // the same state again after a delay; raises the attempt
	Park                  // the same state after a delay, nothing having failed
	Release               // hand the task back as it is
	End                   // a final state; the hot row goes
	Wait                  // the same state again once all children have ended; at once if none is open
	Move                  // queued again, in another pipeline; the next leg
	Pause                 // hand the task back, to nobody before it is resumed
)

// CodeRedriven is the reason of a part that a redrive planned again, until it is tried.
const CodeRedriven Code = "redriven"

// Reopened is the change of an event that brings an ended task back; no process commits it as a
// transition of its own.
const Reopened Change = 8

// Resumed is the change of an event that ends a pause; no process commits it either.
const Resumed Change = 12

// Transition is one step of one task, committed whole or not at all.
type Transition struct {
	Lease
	From, To State
	Stage    int16
	Change   Change
	After    time.Duration // Retry, Park: how long nothing is to be done
	Within   time.Duration // Advance, Release, Wait: how long the state may last from now; 0 keeps what was left
	Priority *int16        // of the task from now on; nil leaves it as it is
	Parent   TaskID        // End of a child: the task that waits for it
	Divide   *Division     // Wait: the children that are made in the same commit
	Passage  *Passage      // Move: where to
	Heard    int32         // Park: one more than the answers that the effect has seen; if others came since, the task is run again at once
	Found    *Found        // Advance: the last that the state found; it lands with the transition, or neither does
	Code     Code          // why, for Retry, Move and an End that failed
	Kind     Kind
	Detail   string // text for people, without patient data
}

// Found is what a state found in a task's media and that needs no commit of its own.
type Found struct{ Items []Item }

// Object is something that a source announces.
type Object struct {
	Ref       string // where the source finds it again; may hold names of people, so it is never logged
	Name      string // what people call it
	Version   string // the source's own version or etag; empty: the SHA-256 of the bytes
	Sequencer string // changes whenever the object may have changed; cheap to learn
	Size      int64
	At        time.Time // when it was made, or its event was, by the source's clock; zero: not known
	Backlog   bool      // it was there before the source was watched: what comes anew goes first
	New       bool      // the ledger was asked just now and does not know it

	Channel Channel       // what told of it; empty: the source's own looking
	Event   string        // where the event that told of it stands among those of its object: the later, the greater as text; empty: nowhere
	Status  ArrivalStatus // Superseded, SourceGone: an event told of it, and there is nothing to take; it is put on record
}

// Arrival is one announced object, made durable. Its row is the dedupe record.
type Arrival struct {
	ID        int64
	Source    string // pipeline/source; the name alone of a shared source
	RefMAC    Digest
	Version   string
	Name      string // erasable
	Size      int64
	SHA       Digest
	Location  string // where the copy of the bytes lies in the blob store; empty if there is none
	Place     string // how the source finds the bytes if they were not copied; erasable
	Sequencer string
	Media     string
	Status    ArrivalStatus
	Reason    Code   // of a status other than Accepted
	Event     string // as of Object
	Via       int32  // the row of pipeline_version of what its source was part of: a pipeline, or a shared source
	Once      bool   // while another version of the object is kept it is not taken: Illegal with code duplicate; not stored

	Collection int64 // as an original of a task: the collection that the task is made of; 0: it is made of this arrival alone
}

// ArrivalStatus says what became of an arrival; it is stored in arrival.status.
type ArrivalStatus int16

// What became of an arrival: a task or a collection took it; a later state of the same object came first;
// it was gone before it could be read; no rule of any pipeline takes it; its collection takes none any more.
const (
	Accepted ArrivalStatus = iota
	Superseded
	SourceGone
	Unmatched
	Ignored
)

// String names the status as listings do.
func (s ArrivalStatus) String() string {
	if s < 0 || int(s) >= len(arrivalStatuses) {
		return "unknown"
	}
	return arrivalStatuses[s]
}

var arrivalStatuses = [...]string{"accepted", "superseded", "source_gone", "unmatched", "ignored"}

// CodeFormer is the reason of arrivals that are Superseded since they came to light at the source when what had been put over them was
// deleted. Such a one stands for a version alone.
const CodeFormer Code = "former_version"

// Admission turns an arrival into a task of one pipeline.
type Admission struct {
	Arrival  Arrival
	PublicID string
	Pipeline int32
	Lane     int32
	Run      string
	Priority int16
	Within   time.Duration // how long it may stay queued
}

// Worker is a process's lease on the right to hold tasks.
type Worker struct {
	ID   WorkerID
	Host string
	PID  int
}

// Want asks for up to N tasks of a lane: Aged of them the oldest, the others the most urgent.
type Want struct {
	Lane int32
	N    int
	Aged int
	Upto int16 // tasks of less urgent priorities stay where they are; 0: none do
	// Begin lets queued tasks that wait for nothing else leave the queue in the commit of their claim.
	Begin bool
}

// Lane is what admission counts: a pipeline and one of its sources.
type Lane struct {
	ID       int32
	Pipeline string
	Source   string
	Limiter  int32 // the row of pipeline:NAME
}

// LimiterSpec is what a limiter's row allows.
type LimiterSpec struct {
	MaxUnits int           // below 0: no limit; 0: paused
	Rate     float64       // starts per second; 0: no limit
	Burst    float64       // at least 1
	Hold     time.Duration // how long calls of a dead process may still run
	Breaker  Breaker
	Adaptive bool // each process uses fewer units while the target is slow or refuses

	Standing // as it stands now; nobody declares it
}
