package dimse

import (
	"context"
	"io"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Reason codes of operations.
const (
	// CodeNotOffered means that the peer accepted no presentation context that an operation could go by.
	CodeNotOffered gantry.Code = "no_presentation_context"
	// CodeNoResponse means that the peer did not answer an operation in time.
	CodeNoResponse gantry.Code = "no_response"
	// CodeEarlyEnd means that the association ended before an operation was answered.
	CodeEarlyEnd gantry.Code = "association_ended"
	// CodeUnexpected means that the peer sent a message that answers nothing, or not as it may.
	CodeUnexpected gantry.Code = "unexpected_message"
	// CodeBadUID means that a UID has other characters than digits and dots, or over 64.
	CodeBadUID gantry.Code = "bad_uid"
	// CodeOddLength means that a data set has an odd number of bytes, which DICOM cannot send.
	CodeOddLength gantry.Code = "odd_length"
	// CodePanic means that a handler panicked.
	CodePanic gantry.Code = "panic"
)

// StoreRequest is one C-STORE (PS3.7 section 9.1.1). Data is the data set alone, without preamble and file meta information, in the
// transfer syntax of its context.
type StoreRequest struct {
	Context       Accepted
	Class         string // Affected SOP Class UID
	Instance      string // Affected SOP Instance UID
	Priority      uint16 // 0 medium, 1 high, 2 low
	MoveAE        string // Move Originator Application Entity Title; empty: none
	MoveMessageID uint16
	Data          io.Reader
}

// Response is the answer to an operation.
type Response struct {
	Status  Status
	Comment string // Error Comment, at most 64 characters; may hold patient data: never logged
}

// Handler does what a peer asks for on an association. Each method is called concurrently up to the agreed window. Its context ends
// with the association, when the peer cancels the operation, and at the latest when the answer has been sent. A method that panics is
// answered for with StatusProcessing.
type Handler interface {
	// Store takes an instance: it reads r.Data to its end, and returns once the instance is as safe as its status says. What it
	// leaves unread is skipped. An error of r.Data means that the instance is not whole; then no answer is sent.
	Store(ctx context.Context, r StoreRequest) Response
	// Commit takes a request for storage commitment; the answer is sent later by Report.
	Commit(ctx context.Context, c Commitment) Response
	// Reported takes the answer to a request of ours for storage commitment.
	Reported(ctx context.Context, c Commitment) Response
	// Ended is called once when the association is over and no other method runs any more, with why: nil after a release.
	Ended(err error)
}

// Handle has a requestor's association answer what its peer asks for, such as an N-EVENT-REPORT on the same association.
// It is called before the first operation.
func (a *Association) Handle(h Handler) { a.ops.handle(h) }

// opened makes ready for operations, before the first message is read.
func (a *Association) opened() {
	window := a.peer.Window
	if !a.link.machine.requestor {
		window = 1 // what an acceptor may invoke: see answerTo
	}
	a.ops.open(a, window, a.link.times.Response)
}

// dispatch takes a message that came in; an error aborts the association. One is called at a time.
func (a *Association) dispatch(ctx context.Context, m message) error { return a.ops.dispatch(ctx, m) }

// ending tells all who wait that nothing comes any more, before what runs for the peer has returned: it may be among them.
func (a *Association) ending(err error) { a.ops.wake(err) }

// ended tells all who wait and the handler that the association is over, with why; nil is a release. It is called once.
func (a *Association) ended(err error) { a.ops.end(err) }

// Echo asks whether the peer is there (C-ECHO, PS3.7 section 9.1.5).
//
// The errors of this and the other operations are *gantry.Error, and say that there is no response: Permanent no_presentation_context, Timeout
// no_response, after which the association is aborted; Transient association_ended after a release by the peer; BadResponse
// unexpected_message; Illegal for a request that cannot be sent; the association's own if it broke; ctx's cause if it was cancelled.
func (a *Association) Echo(ctx context.Context) (Response, error) { return a.ops.echo(ctx) }

// Store sends one instance and waits for the response, whatever its status is. A failure that the peer answers before it has all
// data ends the sending (PS3.7 section 9.3.1): the association goes on. If Data fails, Store gives its error, and the association
// is aborted, since the data set cannot be brought to an end; so it is for Data of an odd number of bytes (Illegal odd_length), except in
// the deflated transfer syntax, where a zero follows.
func (a *Association) Store(ctx context.Context, r StoreRequest) (Response, error) {
	return a.ops.store(ctx, r)
}

// Query asks by an identifier (C-FIND; PS3.4 annex C) and hands each match to each, until it fails: then the rest is cancelled, and
// its error comes back with the last response. While each runs nothing else comes in on the association, so it must not wait for another operation
// of it. The context of class must have been accepted with implicit VR little endian or explicit VR little endian.
func (a *Association) Query(ctx context.Context, class string, identifier Dataset, each func(Dataset) error) (Response, error) {
	return a.ops.query(ctx, class, identifier, each)
}

// Commit asks that instances be kept safe (N-ACTION, PS3.4 section J.3.2). The response says that the peer took the request; the
// answer comes as an event. One request has room for 4,900 instances; for more it fails with Illegal too_large.
func (a *Association) Commit(ctx context.Context, c Commitment) (Response, error) {
	return a.ops.commit(ctx, c)
}

// Report tells what became of a request for commitment (N-EVENT-REPORT, event type 1 or, with Failed, 2; PS3.4 section J.3.3).
func (a *Association) Report(ctx context.Context, c Commitment) (Response, error) {
	return a.ops.report(ctx, c)
}
