package gantry

import (
	"context"
	"io"
	"net/http"
	"time"
)

// Deferring is a Processor whose service may take a request now and answer it later. While it works
// nobody waits: the part is out, and its task is parked until a poll is due, a callback comes or the
// deadline passes. Each method makes one try; errors are *Error with a Kind.
type Deferring interface {
	Processor
	// Deferral says how answers are waited for; nil: every answer comes at once, and only Process is called.
	Deferral() *Deferral
	// Submit sends one request. callback is the address that the service may answer to, empty if
	// there is none. A service that answered at once, to req.Receive, gives a ticket without ID.
	Submit(ctx context.Context, req *Request, callback string) (Ticket, error)
	// Poll asks how the work on a ticket goes, as control traffic: it moves no media. A job that the
	// service has given up is an error.
	Poll(ctx context.Context, t Ticket) (Progress, error)
	// Collect fetches the answer that Poll found ready, to req.Receive, as a recorded call.
	Collect(ctx context.Context, t Ticket, req *Request) error
	// Unpack takes an answer that came as a callback, to req.Receive. Nothing is sent.
	Unpack(ctx context.Context, cb Callback, req *Request) error
	// Abandon tells the service that nobody waits for the ticket any more, as control traffic. A
	// service without cancellation is left alone, which is no error.
	Abandon(ctx context.Context, t Ticket) error
}

// Deferral says how the answers of a Deferring processor are waited for.
type Deferral struct {
	Poll      time.Duration // between polls of one ticket; 0: it is never polled
	Callback  SecretRef     // the secret that callbacks are signed with; empty: none are taken
	Deadline  time.Duration // from the request to the answer
	Heartbeat time.Duration // the longest silence of a service that is at work; 0: no sign of life is asked for
	Inbox     bool          // answers come to an Inbox, which says when a ticket is to be polled
}

// Ticket is what a service gave for a request that it answers later.
type Ticket struct {
	ID    string        // what the service calls the job, at most 1 KiB; empty: there is nothing to wait for
	After time.Duration // before the first poll, as the service asks; 0: as configured
}

// Progress is the answer to a poll.
type Progress struct {
	Ready bool          // the answer can be collected
	After time.Duration // before the next poll, as the service asks; 0: as configured
}

// Callback is an answer that a service sent on its own. Its signature has been checked.
type Callback struct {
	Header http.Header
	Status CallbackStatus
	Body   func(context.Context) (io.ReadCloser, error) // opens the answer's bytes
}

// CallbackStatus says what a callback means.
type CallbackStatus string

// The statuses: a sign of life, the answer itself, or the news that none will come.
const (
	CallbackRunning CallbackStatus = "running"
	CallbackDone    CallbackStatus = "done"
	CallbackFailed  CallbackStatus = "failed"
)

// Codes of jobs that bring no answer any more, whatever their kind: asking again is of no use, only a
// new request may be. Every other error of Poll and Collect is one of asking, but for an answer that was collected
// and makes no sense (BadResponse), which is that of a try.
const (
	CodeJobFailed Code = "job_failed" // the service gave it up: Permanent, or Transient where it says so
	CodeJobLost   Code = "job_lost"   // the service knows nothing of it any more: NotFound, and yet a new request may be taken
)

// CodeNotReady is that of a Collect whose answer, which was there, is not: the job is at work again.
const CodeNotReady Code = "not_ready" // Transient

// TicketUncalled is the ID of a ticket that cannot be asked for: its service calls back.
const TicketUncalled = "-"

type elsewhereKey struct{}

// AllowElsewhere gives a ctx in which Egress hands on the answers 302 and 303 to a GET: what was asked for
// lies elsewhere (RFC 9110 section 15.4.4). Nothing follows them but the driver, to its declared target.
func AllowElsewhere(ctx context.Context) context.Context {
	return context.WithValue(ctx, elsewhereKey{}, true)
}

// MayBeElsewhere tells whether AllowElsewhere made ctx.
func MayBeElsewhere(ctx context.Context) bool {
	ok, _ := ctx.Value(elsewhereKey{}).(bool)
	return ok
}
