package gantry

import (
	"context"
	"io"
	"time"
)

// Awaiting is a Deferring processor whose service answers on connections of its own: what it sends is kept in an inbox,
// and belongs to the submission whose objects it is about.
type Awaiting interface {
	Deferring
	// Attend says which inbox. It is called once, before anything else.
	Attend(box Inbox)
}

// Inbox keeps what services send on connections of their own in answer to submissions, and knows which of them it is for.
// What it holds outlives the process. UIDs are kept as codes under the deployment's key (MAC) and never as they
// are. Its methods may be called concurrently, in whatever process.
type Inbox interface {
	// Expect lays down what a submission waits for; it is durable when Expect returns. A later try of the same part takes
	// over what came meanwhile, but for what an earlier one took already (Results).
	Expect(ctx context.Context, x Awaited) (AwaitedState, error)
	// Look says how far the answer of a ticket is; one that nobody knows is NotFound with CodeJobLost.
	Look(ctx context.Context, ticket string) (AwaitedState, error)
	// Results takes what came for a ticket, in the order in which it came. To take again gives the same.
	Results(ctx context.Context, ticket string) ([]Incoming, error)
	// Open reads the bytes of one of them as the answer of the running call.
	Open(ctx context.Context, x Incoming) (io.ReadCloser, error)
	// Blob reads bytes that are durable, before anybody knows whose they are.
	Blob(ctx context.Context, location string) (Blob, error)
	// Wanted tells whether something that came may belong to a submission; what it refers to need not be known.
	Wanted(ctx context.Context, x Incoming) (bool, error)
	// Take keeps what came, whose bytes are durable, with whom it belongs to, and wakes the task whose answer is complete
	// with it. Nothing is kept of what is Nobodys.
	Take(ctx context.Context, x Incoming) (Belongs, error)
	// Visited notes what a service came for and was no object: that it was let in, left, or was turned away.
	Visited(v Visit)
}

// Awaited is what a submission waits for.
type Awaited struct {
	Submission
	Called, Calling string   // AE titles: ours, that is called, and the service's; empty: any
	Class           string   // UID of the SOP class of what is awaited; empty: any
	Modality        string   // of what is awaited; empty: any
	Studies, Sent   []string // UIDs of the studies and SOP instances that are sent
	Count           int      // how many answers are awaited; 0: as many as come until there is quiet
	Quiet           time.Duration
}

// AwaitedState is how far an answer is.
type AwaitedState struct {
	Ticket string
	Came   int           // that count
	Ready  bool          // the answer is complete
	In     time.Duration // until it is by what came so far; 0: that is not known
}

// Incoming is an object that a service sent.
type Incoming struct {
	Called, Calling string // AE titles
	Class, Modality string
	Study, Instance string   // UIDs
	Refers          []string // UIDs of the SOP instances that it says it was made from or is about
	Size            int64
	SHA             Digest
	Body            []byte // the bytes, if they are few
	Location        string // where in the blob store they lie otherwise
}

// Belongs says what becomes of what came.
type Belongs uint8

// The ways. The first three stand in the database.
const (
	Counts   Belongs = iota // it is an answer that is waited for
	TooLate                 // its submission is over, or has as many answers as it waits for
	Replaced                // another version of the same instance came after it, in time
	Known                   // it is there already, with the same bytes
	Nobodys                 // nobody waits for it, nor did of late
)

var belongsNames = [...]string{"counts", "late", "replaced", "known", "nobody's"}

// String gives the name of the way.
func (b Belongs) String() string { return belongsNames[b] }

// DueAnswer is a submission whose answer is to be looked at.
type DueAnswer struct {
	Ordinal    int32
	Generation int16
	In         int64 // microseconds from now; below 0 since then
}
