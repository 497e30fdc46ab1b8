package dimse

// This file is the contract between the rooms of the package and their users while they are built. Each body is replaced by the
// room named beside it, in a file of its own, and its declaration here is deleted then; nothing of it stays.

import (
	"context"
	"io"
)

// An Association runs one reader. Each complete command set that comes is given to dispatch with a stream of its data set (nil if
// hasData says none); dispatch returns when the data was read to its end or is not wanted (the rest is then skipped). Requests and responses
// both come this way: responses are matched by services to those who wait.
// [wire calls; services provides the next five. The association has a field ops of type operations; a.ctx is done when it is about to end,
// and context.Cause(a.ctx) says why: who waits for a response waits for that too]

// operations is what services keep with an association: who waits for which response, the handler.
type operations struct{}

// opened is called once, before the reader begins; Peer, Contexts and Find can be asked.
func (a *Association) opened() { panic("services") }

// dispatch takes a message. An error aborts the association. What runs for longer than the data set comes is begun by a.run.
func (a *Association) dispatch(ctx context.Context, m message) error { panic("services") }

// hasData says whether a data set follows a command set (PS3.7 section E.1, Command Data Set Type).
func hasData(command []byte) (bool, error) { panic("services") }

// ended is called once, when nothing comes any more, what run began has returned and Done is about to be closed: it wakes those who
// wait for responses, and tells the handler, if there is one, by Ended(err).
func (a *Association) ended(err error) { panic("services") }

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

// Echo asks whether the peer is there (C-ECHO). [room services, as all operations]
func (a *Association) Echo(ctx context.Context) (Response, error) { panic("services") }

// Store sends one instance and waits for the response, whatever its status is. An error means that there was none.
func (a *Association) Store(ctx context.Context, r StoreRequest) (Response, error) { panic("services") }

// Query asks by an identifier (C-FIND; PS3.4 annex C) and hands each match to each, until it fails: then the rest is cancelled.
// The context of class must have been accepted with implicit VR little endian or explicit VR little endian.
func (a *Association) Query(ctx context.Context, class string, identifier Dataset, each func(Dataset) error) (Response, error) {
	panic("services")
}

// Reference names an instance (PS3.3 section 10.8).
type Reference struct{ Class, Instance string }

// Failed is an instance that was not committed, with why (PS3.3 section C.14).
type Failed struct {
	Reference
	Reason uint16
}

// Commitment is a request for storage commitment, or the answer to one (PS3.4 annex J).
type Commitment struct {
	Transaction string // UID
	Instances   []Reference
	Failed      []Failed // of an answer
}

// Commit asks that instances be kept safe (N-ACTION). The response says that the peer took the request; the answer comes as an event.
func (a *Association) Commit(ctx context.Context, c Commitment) (Response, error) { panic("services") }

// Report tells what became of a request for commitment (N-EVENT-REPORT, event type 1 or, with Failed, 2).
func (a *Association) Report(ctx context.Context, c Commitment) (Response, error) { panic("services") }

// Dataset is a small data set: what identifiers, requests and events are made of. Values are in the order of their tags.
type Dataset []Element

// Element is one data element. A sequence has Items.
type Element struct {
	Group, Number uint16
	VR            string // two letters; empty where the transfer syntax is implicit and the tag is not known
	Value         []byte // padded, as it is on the wire
	Items         []Dataset
}

// Get gives an element's value as text without padding; empty if it is not there. [services]
func (d Dataset) Get(group, number uint16) string { panic("services") }

// Text makes an element of a string value, padded as its VR asks. [services]
func Text(group, number uint16, vr, value string) Element { panic("services") }

// Handler does what a peer asks for on an association. Each method is called concurrently up to the agreed window.
type Handler interface {
	// Store takes an instance: it reads r.Data to its end, and returns once the instance is as safe as its status says.
	Store(ctx context.Context, r StoreRequest) Response
	// Commit takes a request for storage commitment; the answer is sent later by Report.
	Commit(ctx context.Context, c Commitment) Response
	// Reported takes the answer to a request of ours for storage commitment.
	Reported(ctx context.Context, c Commitment) Response
	// Ended is called once when the association is over, with why: nil after a release.
	Ended(err error)
}

// Handle has a requestor's association answer what its peer asks for, such as an N-EVENT-REPORT on the same association.
// It is called before the first operation. [services]
func (a *Association) Handle(h Handler) { panic("services") }
