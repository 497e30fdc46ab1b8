package gantry

import "time"

// Boundary is the side on which a call leaves gantry.
type Boundary uint8

// The boundaries. The numbers stand in the database.
const (
	AtSource Boundary = iota
	AtProcessor
	AtSink
	AtArchive // which is asked, and gives nothing but answers
)

var boundaryNames = [...]string{"source", "processor", "sink", "archive"}

// String gives the boundary's name.
func (b Boundary) String() string { return boundaryNames[b] }

// Op is what a call does.
type Op uint8

// The operations. The numbers stand in the database.
const (
	OpGet Op = iota
	OpProcess
	OpPut
	OpManifest
	OpSubmit   // a request that is answered later
	OpCollect  // fetches the answer of a ticket
	OpCallback // an answer that the service sent on its own
	OpTag      // marks an object whose tasks have ended, at its source
	OpMove     // puts it elsewhere there
	OpDelete   // deletes it there
	OpConfirm  // asks a sink whether it keeps what was delivered
)

var opNames = [...]string{"get", "process", "put", "manifest", "submit", "collect", "callback", "tag", "move", "delete", "confirm"}

// String gives the operation's name.
func (o Op) String() string { return opNames[o] }

// Intent is the record of a call before its first byte leaves. Without it there is no call.
type Intent struct {
	ID        UUID
	Lease     // the task that it is for; task 0 before a task exists
	Boundary  Boundary
	Op        Op
	Limiter   int32 // the target
	Arrival   int64 // before a task exists; else 0
	Pipeline  int32
	Part      PartKey
	Try       int16
	ItemCount int32
	ItemsSHA  Digest // over the ids of the items sent, and their digests where known
}

// CallSpec says what a call is about and what bounds it.
type CallSpec struct {
	Intent   Intent        // without its id
	Plan     []Part        // of the intent's task, made durable together with the intent
	Timeout  time.Duration // from the first byte sent to the last received; 0: only ctx bounds it
	Priority int16
	Unit     UnitUse
	Patience time.Duration // for UnitKept: how long a unit is waited for before the call is given up unrecorded

	// Holds looks at what was sent and received once a call went well; its error is the call's then. nil: nobody does.
	Holds func(*Outcome) error
}

// UnitUse says how a call stands to the units of its target's limit.
type UnitUse uint8

// The ways. A call takes a unit after its intent and gives it back at the answer's last byte. A submission takes
// one first, since there may be none for long, and keeps it until its outcome is committed: a part that is out
// then holds the unit. What is done about such a part needs no unit of its own.
const (
	UnitOfCall UnitUse = iota
	UnitKept
	UnitNone
)

// Result says how a call ended.
type Result uint8

// The results. The numbers stand in the database. A call whose process died has no outcome at all
// and is shown as lost.
const (
	ResultOK Result = iota
	ResultFailed
	ResultNotSent // given up between the intent and the first byte
	ResultFenced  // answered, but the task belonged to another process by then
)

var resultNames = [...]string{"ok", "failed", "not_sent", "fenced"}

// String gives the result's name.
func (r Result) String() string { return resultNames[r] }

// Outcome is the record of a call after it ended.
type Outcome struct {
	ID       UUID
	Task     TaskID
	Limiter  int32
	Status   int32 // the protocol's own: an HTTP status; 0 if there was none
	Result   Result
	Kind     Kind
	Sent     time.Duration // from the intent's making to the first byte
	TTFB     time.Duration // from the first byte sent to the first received
	Took     time.Duration // from the first byte sent to the last received
	ReqSize  int64         // bytes of the body as sent
	RespSize int64
	ReqSHA   Digest
	RespSHA  Digest
	Code     Code
}

// Digested fills in, in place, the digests of items that were all of the call's request. Where that is not as long as the
// item, the digest stays unknown, and the mark goes.
func (o *Outcome) Digested(marks []ItemMark) []ItemMark {
	known := marks[:0]
	for _, m := range marks {
		if m.Sent {
			m.SHA = o.ReqSHA
		}
		if !m.Sent || m.Size == o.ReqSize && !m.SHA.IsZero() {
			known = append(known, m)
		}
	}
	return known
}

// Write is what one caller wants durable at once. The parts that belong to a task land only if
// the lease still holds; an outcome always lands, since it is a fact.
type Write struct {
	Lease      Lease // of the task that items, marks and parts belong to
	Intent     *Intent
	Outcome    *Outcome
	Items      []Item
	Marks      []ItemMark
	Of         TaskID // the task whose items the marks are on; 0: the lease's own
	Plan       []Part // new parts; one that exists already stays as it is
	Parts      []Part // results of parts
	Cursor     int64  // if above 0, how far the effect got
	Transition *Transition
}

// ControlKey says whose control traffic it is.
type ControlKey struct {
	Boundary Boundary
	Limiter  int32 // the target
	Pipeline int32
	Index    int16 // of the source, sink or processor in the pipeline
}

// Control is the record of requests that belong to no call of a task, such as listings: the sum of
// those that went through within about a minute, or one that failed.
type Control struct {
	ControlKey
	ID                 UUID
	From, To           time.Time // of the first request's beginning and the last one's end
	Requests, Failures int32
	ReqSize, RespSize  int64 // bytes of bodies
	Took               time.Duration
	Status             int32 // of one that failed: the protocol's own
	Kind               Kind  // of one that failed
	Code               Code  // of one that failed; else empty
}
