package dimse

import (
	"crypto/tls"
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
