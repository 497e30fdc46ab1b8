package dicom

import (
	"context"
	"crypto/tls"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// CodeNotAccepted: the peer takes no objects of this SOP class in this transfer syntax. It is Permanent: an object is sent as it is
// or not at all.
const CodeNotAccepted gantry.Code = "not_accepted"

const (
	maxContexts   = 128              // of an association: their ids are the odd numbers of a byte (PS3.8 section 9.3.2.2)
	defaultMost   = 4                // associations at once
	keptIdle      = 10 * time.Second // an association that nobody uses; peers close them after 30 s and more
	releaseWithin = 5 * time.Second
)

// peering is how a peer is reached.
type peering struct {
	address         string      // host:port
	calling, called string      // AE titles
	tls             *tls.Config // nil: none
	most            int         // associations at once; 0: 4
	idle            time.Duration
	timeouts        dimse.Timeouts
	handler         dimse.Handler // of what the peer asks for on our associations; nil: nothing
}

// dial connects to the peer. Nothing is said yet, TLS begins with the request for an association; what is said then is no part of a call
// unless kept, which is nil where the way out keeps no record, carries it.
func (p peering) dial(ctx context.Context, egress gantry.Egress) (conn net.Conn, kept gantry.Keepable, err error) {
	if conn, err = egress.DialContext(ctx, "tcp", p.address); err != nil {
		return nil, nil, err
	}
	if k, ok := conn.(gantry.Keepable); ok {
		k.Keep()
		kept = k
	}
	if p.tls != nil {
		conn = tls.Client(conn, p.tls)
	}
	return conn, kept, nil
}

// pair is what a presentation context is proposed for: objects of a SOP class in one transfer syntax. A context has no other
// transfer syntax, so what the peer takes is known for each.
type pair struct{ class, transfer string }

// The pairs of services that are no storage. Implicit little endian is what every peer knows (PS3.5 section 10.1).
var (
	pairEcho   = pair{dimse.Verification, dimse.ImplicitLE}
	pairCommit = pair{dimse.StorageCommitment, dimse.ImplicitLE}
)

// line is an association of the pool.
type line struct {
	*dimse.Association
	conn     gantry.Keepable // nil where the way out keeps no record
	proposed map[pair]bool
	timer    *time.Timer // while it is idle
}

// accepts tells whether the peer takes a pair.
func (l *line) accepts(p pair) bool {
	_, ok := l.Find(p.class, p.transfer)
	return ok
}

// ended tells whether the association is over.
func (l *line) ended() bool {
	select {
	case <-l.Done():
		return true
	default:
		return false
	}
}

// sender keeps associations to one peer, each for one operation at a time, and opens others where an object's SOP class and transfer
// syntax were not proposed on those that are there. It may be used concurrently.
type sender struct {
	peering
	egress gantry.Egress
	room   chan struct{} // holds one for each association that is in use, or will be
	turn   chan struct{} // held while associations that are no longer free are released: until then they count nowhere

	mu     sync.Mutex
	free   []*line // the one that was used last is last
	seen   []pair  // what was sent, the newest last: new associations propose these too
	closed bool
}

// newSender makes a sender. It opens nothing.
func newSender(egress gantry.Egress, p peering) *sender {
	if p.most <= 0 {
		p.most = defaultMost
	}
	if p.idle <= 0 {
		p.idle = keptIdle
	}
	return &sender{peering: p, egress: egress, room: make(chan struct{}, p.most), turn: make(chan struct{}, 1)}
}

// borrow gives an association on which need was proposed, for the caller alone, and waits for one if as many as there may be are in
// use. A new one proposes also as well. It is given back by giveBack or by drop.
func (s *sender) borrow(ctx context.Context, need pair, also ...pair) (l *line, err error) {
	select {
	case s.room <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if l = s.match(need); l == nil {
		l, err = s.new(ctx, need, also)
	}
	if err != nil {
		<-s.room
		return nil, err
	}
	return l, nil
}

// match takes a free association on which need was proposed: nil without one.
func (s *sender) match(need pair) *line {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(slices.DeleteFunc(s.seen, func(p pair) bool { return p == need }), need)
	if n := len(s.seen); n > maxContexts {
		s.seen = slices.Delete(s.seen, 0, n-maxContexts)
	}
	s.free = slices.DeleteFunc(s.free, (*line).ended)
	for i, f := range slices.Backward(s.free) {
		if f.proposed[need] && f.timer.Stop() {
			s.free = slices.Delete(s.free, i, i+1)
			return f
		}
	}
	return nil
}

// new opens an association once there is room for it. Who waited for the turn may find one that was given back meanwhile.
func (s *sender) new(ctx context.Context, need pair, also []pair) (*line, error) {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	l := s.match(need)
	if l == nil {
		s.release(s.surplus()...)
	}
	<-s.turn
	if l != nil {
		return l, nil
	}
	return s.open(ctx, s.proposal(need, also))
}

// surplus takes the free associations that have to make room, since each who holds a place uses one or will. Only whose turn it is may
// call it, and releases them before the turn ends.
func (s *sender) surplus() []*line {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(s.free), max(0, len(s.free)+len(s.room)-s.most))
	out := slices.Clone(s.free[:n])
	for _, l := range out {
		l.timer.Stop()
	}
	s.free = slices.Delete(s.free, 0, n)
	return out
}

// proposal is what a new association is to be for: need, also, and what else was sent before, as far as there is room.
func (s *sender) proposal(need pair, also []pair) []pair {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := append([]pair{need}, also...)
	for _, p := range slices.Backward(s.seen) {
		list = append(list, p)
	}
	var out []pair
	for _, p := range list {
		if len(out) < maxContexts && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// open asks for an association. What is said for that is no part of the running call, in which it must be.
func (s *sender) open(ctx context.Context, pairs []pair) (*line, error) {
	conn, kept, err := s.dial(ctx, s.egress)
	if err != nil {
		return nil, err
	}
	l := &line{proposed: map[pair]bool{}, conn: kept}
	params := dimse.Params{Calling: s.calling, Called: s.called, Timeouts: s.timeouts}
	for _, p := range pairs {
		l.proposed[p] = true
		params.Contexts = append(params.Contexts, dimse.Context{Abstract: p.class, Transfer: []string{p.transfer}})
	}
	if l.Association, err = dimse.Request(ctx, conn, params); err != nil {
		return nil, err
	}
	if s.handler != nil {
		l.Handle(s.handler)
	}
	return l, nil
}

// giveBack keeps an association for who comes next.
func (s *sender) giveBack(l *line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || l.ended() {
		go func() {
			s.release(l)
			<-s.room
		}()
		return
	}
	s.free = append(s.free, l)
	l.timer = time.AfterFunc(s.idle, func() { s.retire(l) })
	<-s.room
}

// retire ends an association that nobody used for a while.
func (s *sender) retire(l *line) {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	s.mu.Lock()
	i := slices.Index(s.free, l)
	if i >= 0 {
		s.free = slices.Delete(s.free, i, i+1)
	}
	s.mu.Unlock()
	if i >= 0 {
		s.release(l)
	}
}

// drop ends an association on which something went wrong.
func (s *sender) drop(l *line) {
	l.Abort()
	<-s.room
}

// release ends associations in order, or else at once.
func (s *sender) release(lines ...*line) {
	for _, l := range lines {
		ctx, cancel := context.WithTimeout(context.Background(), releaseWithin)
		l.Release(ctx) // what is wrong with it now concerns nobody
		cancel()
		l.Abort()
	}
}

// close ends the associations that nobody uses, side by side: a peer that does not answer is left after releaseWithin. Those in use end when
// they are given back.
func (s *sender) close() {
	s.mu.Lock()
	s.closed = true
	free := s.free
	s.free = nil
	for _, l := range free {
		l.timer.Stop()
	}
	s.mu.Unlock()
	var g sync.WaitGroup
	for _, l := range free {
		g.Go(func() { s.release(l) })
	}
	g.Wait()
}
