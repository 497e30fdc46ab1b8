package gantry

import (
	"context"
	"time"
)

// Resuming is a Source that keeps no memory of its own of what it announced: a ledger has it, which outlives the
// process.
type Resuming interface {
	Source
	// WatchFrom is Watch with a ledger that knows every object whose announce returned nil. It goes on where the last
	// WatchFrom with this ledger stopped, in whatever process.
	WatchFrom(ctx context.Context, l Ledger, announce func(context.Context, Object) error) error
}

// MaxKnown is how many objects a ledger is asked for at once.
const MaxKnown = 1000

// Ledger is what is on record of one source. Its methods may be called concurrently. What it is told is on record
// within seconds; a process that dies before has told it for nothing.
type Ledger interface {
	// Known tells of each of at most MaxKnown objects whether it is on record as it is, by ref and sequencer. One that
	// was found gone within the last hour is not: a listing that shows it may be right.
	Known(ctx context.Context, list []Object) ([]bool, error)
	// Progress gives what Keep kept last; the zero value if nothing.
	Progress(ctx context.Context) (TakeUp, error)
	Keep(p TakeUp)
	// Swept notes that everything was listed.
	Swept(s Sweep)
	// Heard notes that a channel told of a new object: poll, folder, upload, sqs or webhook.
	Heard(channel string, at time.Time)
	// Failed notes that a channel, or something else that a source does again and again, failed: one of the parts below.
	Failed(part string, err error)
	// Worked notes that it went through. What failed before is over then.
	Worked(part string)
}

// Parts of what a source does, beside its channels, that fail and work by themselves.
const (
	PartObject  = "object"  // an object is read and put on record
	PartSweep   = "sweep"   // everything is listed, beside the poll
	PartBacklog = "backlog" // what was there before is taken up
)

// TakeUp is how far a source was taken up. Its keys may hold names of people.
type TakeUp struct {
	Tail    string `json:"tail,omitempty"`    // the highest key that was listed
	Taken   bool   `json:"taken,omitempty"`   // everything was taken up once
	Backlog bool   `json:"backlog,omitempty"` // objects after Cursor are being taken up that were there before
	Cursor  string `json:"cursor,omitempty"`
	Passed  int64  `json:"passed,omitempty"` // objects of the backlog up to Cursor
}

// Sweep is one listing of everything.
type Sweep struct {
	Began   time.Time
	Took    time.Duration
	Objects int64 // that are to be taken
	Missed  int64 // of these: nothing had told of them though they were there for a while
}
