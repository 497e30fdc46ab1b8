package gantry

import (
	"context"
	"time"
)

// CodeDuplicate is the reason for which other bytes under a ref that is on record are not taken.
const CodeDuplicate Code = "duplicate"

// Receiving is a Source whose objects are sent to it, with their bytes. They are neither announced nor opened.
type Receiving interface {
	Source
	// Receive says who takes what comes. It is called once, before anything can come.
	Receive(r Receiver)
}

// Receiver takes what a source received. Its methods may be called concurrently.
type Receiver interface {
	// Coming is told that an object begins to come, and asks beforehand what is to be known about it. What it gives goes with the object
	// once that is complete; nil is nothing.
	Coming(ctx context.Context, ref string) Ahead
	// Received makes an object durable and puts it on record, and says whether these bytes were before. While it cannot, as
	// between two leases, it is Unavailable or Transient; what it will never take is Illegal. The caller discards what is staged
	// in any case.
	Received(ctx context.Context, x Inbound) (known bool, err error)
	// OnRecord tells of each object, by its ref, whether it was taken.
	OnRecord(ctx context.Context, refs []string) ([]bool, error)
	// Visited notes what a peer came for and was no object: that it was let in, left, or was turned away.
	Visited(v Visit)
	Debts
}

// Ahead is what a Receiver asked about an object before it was complete.
type Ahead any

// Inbound is an object that came, complete.
type Inbound struct {
	Ref     string // names it at its source; may tell of people, so it is never logged
	Name    string // what people call it
	Version string // what came by itself, without what we wrote before it
	Staged  Staged
	Tags    map[string]string // DICOM attributes by keyword; nil where it has none
	Ahead   Ahead             // what Coming gave
	Warning Code              // of the guard scanner, which it passed under its default limits; empty: none
	Once    bool              // other bytes under a ref that is on record are Illegal with code duplicate

	Began time.Time     // when its first byte was waited for
	Took  time.Duration // until its last
	Size  int64         // bytes that came
	SHA   Digest        // of these
}

// Receipt is the record of a call that a peer made of us, whose intent and outcome have one id: it is written with what is made of what the
// call brought.
type Receipt struct {
	Worker  WorkerID
	Intent  Intent
	Outcome Outcome
}

// Visit is a step in a peer's stay.
type Visit struct {
	Step VisitStep
	At   time.Time
	Took time.Duration // of a stay that is over
	In   int           // objects taken in it
	Not  int           // objects that came in it and were not taken
	Size int64         // bytes of all of them
	Kind Kind          // of the reason
	Code Code          // the reason for which it was turned away, was broken off, or something of it was not taken; empty: none
	Same int           // of the objects taken: those whose very bytes were on record
}

// VisitStep says which step it is.
type VisitStep uint8

// The steps: the peer was let in; it left in order; the stay was broken off; it was turned away at the door; an object of it
// was not taken; what it asked was not answered, and will not be.
const (
	VisitBegan VisitStep = iota
	VisitLeft
	VisitBroken
	VisitRefused
	VisitNotTaken
	VisitUnanswered
)

var visitSteps = [...]string{"accepted", "released", "aborted", "rejected", "refused", "unanswered"}

// String is the step as it stands in metrics and channels.
func (s VisitStep) String() string { return visitSteps[s] }
