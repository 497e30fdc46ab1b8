package dimse

// This file is the contract between the rooms of the package and their users while they are built. Each body is replaced by the
// room named beside it, in a file of its own, and its declaration here is deleted then; nothing of it stays.

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"time"
)

// Context is a presentation context as a requestor proposes it (PS3.8 section 9.3.2.2).
type Context struct {
	Abstract string   // UID of the SOP class
	Transfer []string // UIDs of transfer syntaxes
	SCU, SCP bool     // the requestor's roles (PS3.7 section D.3.3.4); neither: the default, SCU
}

// Accepted is a presentation context that both sides agreed on.
type Accepted struct {
	ID       byte // odd
	Abstract string
	Transfer string
	SCU, SCP bool // the requestor's roles
}

// Identity is what a user shows of himself (PS3.7 section D.3.3.7).
type Identity struct {
	Type      byte   // 1 user name, 2 user name and passcode, 3 Kerberos, 4 SAML, 5 JWT
	Primary   []byte // never printed
	Secondary []byte
	Response  bool // a positive answer is asked for
}

// Timeouts bound each wait for the peer. The zero value of a field is its default.
type Timeouts struct {
	Associate time.Duration // ARTIM: for the association to be asked for, or answered; 30 s
	Idle      time.Duration // of an association between messages, as an acceptor; 5 min
	Data      time.Duration // for more bytes within a PDU or a message, and for each write; 60 s
	Response  time.Duration // for the response to an operation; 5 min
	Release   time.Duration // for the answer to a release, and for the peer to close; 10 s
}

// Params say how an association is asked for.
type Params struct {
	Calling, Called string // AE titles, at most 16 characters
	Contexts        []Context
	MaxPDU          int // that we take, in bytes; 0: 128 KiB
	Window          int // operations that we invoke at once; 0: 1. The peer may allow fewer
	Identity        *Identity
	Timeouts        Timeouts
}

// Peer is who is at the other end of an association.
type Peer struct {
	Calling, Called string // AE titles, without padding
	Address         netip.AddrPort
	TLS             *tls.ConnectionState // nil: none
	Implementation  string               // class UID
	Version         string               // implementation version name
	MaxPDU          uint32               // that it takes; 0: no limit
	Window          int                  // operations at once that were agreed on
}

// Association is an association that is open. Its methods may be called concurrently; operations beyond the agreed window
// wait. [room wire]
type Association struct{ ops operations }

// Request asks for an association on conn, which it closes if that fails. Errors: Denied with a code of rejection where
// asking again is of no use, Unavailable where the peer says that it is busy, Transient where the connection broke or was
// aborted, Timeout, BadResponse for nonsense. [room wire]
func Request(ctx context.Context, conn net.Conn, p Params) (*Association, error) { panic("wire") }

// Peer says who is at the other end.
func (a *Association) Peer() Peer { panic("wire") }

// Contexts are those that were accepted, in the order of their IDs.
func (a *Association) Contexts() []Accepted { panic("wire") }

// Find gives an accepted context of an abstract syntax with this transfer syntax, or with any if transfer is empty; false if there is none.
func (a *Association) Find(abstract, transfer string) (Accepted, bool) { panic("wire") }

// Release ends the association in order and closes the connection (PS3.8 section 7.2).
func (a *Association) Release(ctx context.Context) error { panic("wire") }

// Abort ends it at once. It is safe after Release.
func (a *Association) Abort() { panic("wire") }

// Done is closed when the association has ended, however that was.
func (a *Association) Done() <-chan struct{} { panic("wire") }

// message is a DIMSE message on its way in or out. [room wire sends and receives, room services reads and writes commands]
type message struct {
	context byte
	command []byte    // the command set, implicit VR little endian, with its group length
	data    io.Reader // the data set's bytes as they are in the context's transfer syntax; nil: there is none
}

// send writes a message: the command, then the data to its end, in PDVs of at most what the peer takes. Messages do not mix. [wire]
func (a *Association) send(ctx context.Context, m message) error { panic("wire") }

// An Association runs one reader. Each complete command set that comes is given to dispatch with a stream of its data set (nil if
// hasData says none); dispatch returns when the data was read to its end or is not wanted (the rest is then skipped). Requests and responses
// both come this way: responses are matched by services to those who wait.
// [wire calls; services provides the next five. The association has a field ops of type operations]

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

// run calls do in a goroutine of its own: an operation that the peer invoked is under way until it returns. It waits while as many as the
// window allows are under way, and does not call do but gives an error if the association ends meanwhile. A release by the peer is answered,
// and a server's drain waits, until none is under way. do's ctx ends with the association. [wire provides, dispatch calls]
func (a *Association) run(do func(ctx context.Context)) error { panic("wire") }

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

// Rejection refuses an association (PS3.8 section 9.3.4). It is an error.
type Rejection struct {
	Transient bool // result 2; else permanent, 1
	Source    byte // 1 service-user, 2 service-provider (ACSE), 3 service-provider (presentation)
	Reason    byte
}

// Error says why.
func (r *Rejection) Error() string { panic("wire") }

// Proposal is an association that a peer asks for.
type Proposal struct {
	Peer
	Contexts []Context
	Identity *Identity
}

// Terms are how an association is accepted.
type Terms struct {
	Handler Handler
	// Accept gives the index in Context.Transfer of the transfer syntax for a proposed context; -1: abstract syntax not
	// supported, -2: none of the transfer syntaxes is.
	Accept func(Context) int
	MaxPDU int // that we take, in bytes; 0: 128 KiB
	Window int // operations that the peer may invoke at once; 0: 1
}

// Server accepts associations. [room wire]
type Server struct {
	Admit    func(ctx context.Context, p Proposal) (Terms, error) // error: *Rejection
	Most     int                                                  // associations at once; 0: 128. Above it they are rejected: local limit exceeded
	TLS      *tls.Config                                          // nil: none
	Timeouts Timeouts
	Log      func(peer netip.AddrPort, err error) // what went wrong before an association was there; may be nil
}

// Serve accepts connections until ctx ends. Then it takes no more, rejects those that come, lets operations that are under way
// come to their end within grace, aborts the rest, and returns when all have ended. It leaves no goroutine behind.
func (s *Server) Serve(ctx context.Context, l net.Listener, grace time.Duration) error { panic("wire") }
