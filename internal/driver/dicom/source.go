package dicom

import (
	"context"
	"io"
	"time"

	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// source is an AE title whose instances become objects.
type source struct {
	config  SourceConfig
	out     gantry.Egress
	to      gantry.Receiver // set before anything can come
	room    chan struct{}   // holds one for each of reports that is to be made, or is being made
	reports chan report     // of storage commitment that were asked for just now
	again   chan struct{}   // told that one is due which waited
}

var (
	_ gantry.Receiving = (*source)(nil)
	_ Called           = (*source)(nil)
	_ Watching         = (*source)(nil)
	_ committer        = (*source)(nil)
	_ expecting        = (*source)(nil)
)

// NewSource makes a source. A config that does not Check is Illegal with code bad_config.
func NewSource(_ context.Context, c SourceConfig, e gantry.Egress) (gantry.Source, error) {
	for _, p := range c.Check() {
		return nil, gantry.Errorf(gantry.Illegal, CodeBadConfig, "open source: %s: %s", p.Key, p.Text)
	}
	return &source{config: c, out: e, room: make(chan struct{}, maxReports), reports: make(chan report, maxReports), again: make(chan struct{}, 1)}, nil
}

// Watch reports storage commitment until ctx ends. Objects come by the port.
func (s *source) Watch(ctx context.Context, _ func(context.Context, gantry.Object) error) error {
	s.reportAll(ctx)
	return context.Cause(ctx)
}

// Open is NotFound with code source_gone: the bytes of an instance come once.
func (s *source) Open(context.Context, string) (io.ReadCloser, error) {
	return nil, gantry.Errorf(gantry.NotFound, gantry.CodeSourceGone, "open instance: its bytes came with it")
}

// Receive says who takes the instances.
func (s *source) Receive(r gantry.Receiver) { s.to = r }

// Called gives the source its place.
func (s *source) Called() (Place, Desk, bool) { return s.config.place(), s, s.to != nil }

// coming asks about an instance beforehand, where the answer cannot be old by then: an instance that is to be taken once is asked about
// when it is complete, and no other of its UID is being taken.
func (s *source) coming(ctx context.Context, uid string) gantry.Ahead {
	if s.config.Duplicates == duplicatesRefuse {
		return nil
	}
	return s.to.Coming(ctx, uid)
}

// Take makes an instance durable: its ref is its UID, its version the digest of its data set.
func (s *source) Take(ctx context.Context, in *Instance) (bool, dimse.Response) {
	x := gantry.Inbound{Ref: in.UID, Name: in.UID + ".dcm", Version: in.SHA.String(), Staged: in.Staged, Tags: in.Tags, Ahead: in.ahead,
		Once: s.config.Duplicates == duplicatesRefuse, Began: in.Began, Took: in.Took, Size: in.Size, SHA: in.SHA, Warning: in.Warning}
	if _, err := s.to.Received(ctx, x); err != nil {
		if ctx.Err() == nil { // else it is told at the end that the peer broke off
			s.to.Visited(gantry.Visit{Step: gantry.VisitNotTaken, At: time.Now(), Kind: gantry.KindOf(err), Code: gantry.CodeOf(err)})
		}
		return true, refusal(err)
	}
	return true, dimse.Response{Status: dimse.StatusSuccess}
}

// Visited passes on what happened.
func (s *source) Visited(v gantry.Visit) {
	s.to.Visited(v)
}

// Reported is never the source's.
func (s *source) Reported(context.Context, dimse.Peer, dimse.Commitment) (bool, dimse.Response) {
	return false, dimse.Response{}
}
