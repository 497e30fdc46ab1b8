// Package dicom speaks DICOM to modalities, archives and inference services: a source that receives (C-STORE SCP), a sink and a
// processor that send (C-STORE SCU), and the port on which all of them are called.
package dicom

import (
	"context"
	"net/netip"
	"time"

	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Instance is a SOP instance that a peer sent, complete and staged, not durable.
type Instance struct {
	Peer                 dimse.Peer
	Class, UID, Transfer string            // checked: valid UIDs that agree with the data set's own
	Tags                 map[string]string // by keyword, as dicom.Tags gives them
	SHA                  gantry.Digest     // of the data set as it came
	Size                 int64             // of the same, in bytes
	Began                time.Time         // when its first byte was waited for
	Took                 time.Duration     // until its last
	Staged               gantry.Staged     // the Part 10 file: file meta information of ours, then the data set as it came
	Warning              gantry.Code       // of the scanner, which it passed under the default limits; empty: none
	ahead                gantry.Ahead      // of the source
}

// Desk takes what peers send to one AE title. Of several with the same title at the same address each is asked, those that wait for
// something before those that take everything (sources); the first that says mine answers.
type Desk interface {
	// Take makes an instance safe and says so, or says why it does not.
	Take(ctx context.Context, in *Instance) (mine bool, r dimse.Response)
	// Commit takes a peer's request for storage commitment of instances that it sent us.
	Commit(ctx context.Context, peer dimse.Peer, c dimse.Commitment) (mine bool, r dimse.Response)
	// Reported takes a peer's answer to a request of ours for storage commitment.
	Reported(ctx context.Context, peer dimse.Peer, c dimse.Commitment) (mine bool, r dimse.Response)
}

// Allowed is who may call an AE title: all that is set must hold.
type Allowed struct {
	AET         string       // calling AE title; empty: any
	From        netip.Prefix // zero: from anywhere
	Certificate string       // common name or DNS name of the client's certificate; empty: none is asked for
}

// Place is where a desk stands.
type Place struct {
	Listen string // host:port; places with the same one share a listener
	AET    string // called AE title
	Allow  []Allowed
	Cert   string // file of the server's certificate chain; empty: no TLS
	Key    string // file of its key
	CA     string // file of the authorities of client certificates; empty: none is asked for
	Last   bool   // asked after the others of the title

	Most     int   // associations to the title at once; 0: as many as to the address
	PerPeer  int   // of these, of one calling AE title at one address; 0: as many
	MaxBytes int64 // of an instance's data set; 0: 4 GiB
	Commit   bool  // storage commitment is spoken of there, in whatever direction
}

// Watching is a Desk that wants to know of the associations to its title, and of those that were turned away at its address.
type Watching interface {
	Desk
	Visited(v gantry.Visit)
}

// Called is a source, sink or processor that peers call on associations of their own.
type Called interface {
	// Called says where, and who answers there; false: it is not called.
	Called() (Place, Desk, bool)
}
