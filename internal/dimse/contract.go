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

// run calls do in a goroutine of its own: an operation that the peer invoked is under way until it returns. It waits while as many as the
// window allows are under way, and does not call do but gives an error if the association ends meanwhile. A release by the peer is answered,
// and a server's drain waits, until none is under way. do's ctx ends with the association. [wire provides, dispatch calls]
func (a *Association) run(do func(ctx context.Context)) error { panic("wire") }

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
