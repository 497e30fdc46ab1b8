package gantry

import (
	"context"
	"io"
	"net"
)

// Keepable is a connection of Egress.DialContext that may outlive the call that it was opened in and carry later ones, one after
// another, as an association of DICOM does. The record of each is its own.
type Keepable interface {
	net.Conn
	// Keep lets the connection outlive its call, whose first byte has not left yet: what is said to agree on how to talk is no
	// part of any call. It is called once, before anything is written.
	Keep()
	// Carry has what follows be that of the call that runs in ctx, until End. Without a call it is Illegal with code no_record.
	// A connection carries one at a time.
	Carry(ctx context.Context) (Carriage, error)
}

// Carriage is a call on a connection that was kept. A call may have several, one after another; its sizes and digests are then
// over all of them.
type Carriage interface {
	// Body counts and digests what is read of r as sent.
	Body(r io.Reader) io.Reader
	// Status keeps the protocol's own status for the record.
	Status(code int)
	// End ends it, with what went wrong, or nil.
	End(err error)
}
