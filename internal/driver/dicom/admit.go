package dicom

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Sources and reasons of rejections (PS3.8 section 9.3.4).
const (
	byUser         = 1
	byPresentation = 3

	reasonCalling = 3 // of the user: calling AE title not recognized
	reasonCalled  = 7 // of the user: called AE title not recognized
	reasonLimit   = 2 // of the presentation: local limit exceeded
)

// window is how many instances a peer may send before the first is answered, if it asks for it.
const window = 8

// caller is a peer as its associations are counted.
type caller struct {
	title   string
	address netip.Addr
}

// admit decides on an association.
func (d *door) admit(_ context.Context, p dimse.Proposal) (dimse.Terms, error) {
	s, rejection, code := d.enter(p.Peer)
	now := d.port.opts.Now()
	if rejection != nil {
		called := p.Called
		if code == codeCalled {
			called = "" // everybody at the address wants to know
		}
		v := gantry.Visit{Step: gantry.VisitRefused, At: now, Kind: kindOf(code), Code: code}
		for _, w := range d.watching(called) {
			w.Visited(v)
		}
		return dimse.Terms{}, rejection
	}
	s.began = now
	s.tell(gantry.Visit{Step: gantry.VisitBegan, At: now})
	commit := slices.ContainsFunc(s.stands, func(x stand) bool { return x.Place.Commit })
	return dimse.Terms{Handler: s, Window: window, Accept: func(c dimse.Context) int { return accept(c, commit) }}, nil
}

func kindOf(code gantry.Code) gantry.Kind {
	if code == codeBusy {
		return gantry.Unavailable
	}
	return gantry.Denied
}

// enter counts a peer in at the title that it calls, with those there who let it in.
func (d *door) enter(p dimse.Peer) (*session, *dimse.Rejection, gantry.Code) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.titles[p.Called]
	if t == nil {
		return nil, &dimse.Rejection{Source: byUser, Reason: reasonCalled}, codeCalled
	}
	var stands []stand
	most, each := 0, 0
	for _, s := range t.stands {
		if s.allows(p) {
			stands, most, each = append(stands, s), max(most, s.Most), max(each, s.PerPeer)
		}
	}
	if len(stands) == 0 {
		return nil, &dimse.Rejection{Source: byUser, Reason: reasonCalling}, codeCalling
	}
	who := caller{p.Calling, p.Address.Addr().Unmap()}
	if most > 0 && t.open >= most || each > 0 && t.peers[who] >= each {
		return nil, &dimse.Rejection{Transient: true, Source: byPresentation, Reason: reasonLimit}, codeBusy
	}
	t.open++
	t.peers[who]++
	return &session{door: d, title: t, who: who, peer: p, stands: stands}, nil, ""
}

// leave counts a peer out.
func (d *door) leave(s *session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s.title.open--
	if s.title.peers[s.who]--; s.title.peers[s.who] == 0 {
		delete(s.title.peers, s.who)
	}
}

// allows tells whether a peer may call a place: one without a list lets everybody in.
func (p Place) allows(peer dimse.Peer) bool {
	return len(p.Allow) == 0 || slices.ContainsFunc(p.Allow, func(a Allowed) bool { return a.matches(peer) })
}

func (a Allowed) matches(p dimse.Peer) bool {
	return (a.AET == "" || a.AET == p.Calling) && (!a.From.IsValid() || a.From.Contains(p.Address.Addr().Unmap())) &&
		(a.Certificate == "" || shows(p, a.Certificate))
}

// shows tells whether a peer's certificate, which was verified, is of a name.
func shows(p dimse.Peer, name string) bool {
	if p.TLS == nil || len(p.TLS.VerifiedChains) == 0 || len(p.TLS.PeerCertificates) == 0 {
		return false
	}
	return bears(p.TLS.PeerCertificates[0], name)
}

// over says how an association ended.
func (s *session) over(err error, now time.Time) gantry.Visit {
	v := gantry.Visit{Step: gantry.VisitLeft, At: now, Took: now.Sub(s.began), In: int(s.in.Load()), Not: int(s.not.Load()), Size: s.bytes.Load()}
	if err != nil {
		v.Step, v.Kind, v.Code = gantry.VisitBroken, gantry.Transient, codeBroken
		if e, ok := errors.AsType[*gantry.Error](err); ok {
			v.Kind = e.Kind
			if e.Code != "" {
				v.Code = e.Code
			}
		}
	}
	return v
}
