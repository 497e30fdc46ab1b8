package dicom

import (
	"cmp"
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// maxInstance is the largest data set where a place says none, in bytes.
const maxInstance = 4 << 30

// mostFirst is what the first instance of an association is taken to be long at most, by those that came over others.
const mostFirst = 1 << 20

// session is one association of a peer, and does what the peer asks for.
type session struct {
	door   *door
	title  *title
	who    caller
	peer   dimse.Peer
	stands []stand // who let it in, in the order in which they are asked
	began  time.Time

	last           atomic.Int64 // size of the file that came last: the next of a series is about as long
	in, not, bytes atomic.Int64

	with atomic.Pointer[dimse.Association] // the association, as what the peer asks for is answered on it
}

var _ dimse.Attending = (*session)(nil)

// Attend keeps the association.
func (s *session) Attend(a *dimse.Association) { s.with.Store(a) }

// expecting is a Desk of this package that asks about instances while they come.
type expecting interface {
	coming(ctx context.Context, uid string) gantry.Ahead
}

func (s *session) tell(v gantry.Visit) {
	for _, x := range s.stands {
		if w, ok := x.Desk.(Watching); ok {
			w.Visited(v)
		}
	}
}

// Store receives an instance and gives it to whoever takes it.
func (s *session) Store(ctx context.Context, r dimse.StoreRequest) dimse.Response {
	in, err := s.receive(ctx, r)
	if err != nil {
		return s.refuse(ctx, err)
	}
	defer in.Staged.Discard()
	s.bytes.Add(in.Size)
	for _, x := range s.stands {
		mine, answer := x.Take(ctx, in)
		if !mine {
			continue
		}
		if class := answer.Status.Class(); class == dimse.Success || class == dimse.Warning {
			s.in.Add(1)
		} else {
			s.not.Add(1)
		}
		return answer
	}
	return s.refuse(ctx, gantry.Errorf(gantry.Denied, codeNobody, "receive instance: nobody at this AE title waits for it"))
}

// receive stages an instance that is whole and is what its command says.
func (s *session) receive(ctx context.Context, r dimse.StoreRequest) (*Instance, error) {
	if !dicom.ValidUID(r.Class) || !dicom.ValidUID(r.Instance) {
		return nil, gantry.Errorf(gantry.Illegal, codeBadUID, "receive instance: the command names it by what is no UID")
	}
	blobs, err := s.door.port.opts.Blobs()
	if err != nil {
		return nil, err
	}
	now := s.door.port.opts.Now
	in := &Instance{Peer: s.peer, Class: r.Class, UID: r.Instance, Transfer: r.Context.Transfer, Began: now()}
	for _, x := range s.stands {
		if e, ok := x.Desk.(expecting); ok {
			in.ahead = e.coming(ctx, r.Instance)
			break // it takes everything
		}
	}
	limit := s.limit()
	g := guard(dicom.FileMeta{Class: r.Class, Instance: r.Instance, Syntax: r.Context.Transfer, Sender: s.peer.Calling, Receiver: s.peer.Called}, r.Data, limit)
	defer g.stop()
	hint := cmp.Or(s.last.Load(), s.door.last.Load(), -1)
	if in.Staged, err = blobs.Stage(ctx, g, hint, limit+int64(len(g.head))); err != nil {
		return nil, err
	}
	if err := g.agrees(r.Class, r.Instance); err != nil {
		in.Staged.Discard()
		return nil, err
	}
	n := in.Staged.Size()
	s.last.Store(n)
	if n <= mostFirst {
		s.door.last.Store(n)
	}
	in.Warning = g.warning()
	in.Took, in.Tags, in.Size, in.SHA = now().Sub(in.Began), g.tags, g.size, g.set
	return in, nil
}

func (s *session) limit() int64 {
	var most int64
	for _, x := range s.stands {
		most = max(most, x.MaxBytes)
	}
	if most == 0 {
		return maxInstance
	}
	return most
}

// refuse answers that an instance is not taken, and tells why. What the peer broke off itself is told at its end.
func (s *session) refuse(ctx context.Context, err error) dimse.Response {
	s.not.Add(1)
	answer := refusal(err)
	if ctx.Err() == nil {
		s.tell(gantry.Visit{Step: gantry.VisitNotTaken, At: s.door.port.opts.Now(), Kind: gantry.KindOf(err), Code: gantry.CodeOf(err)})
		s.door.port.opts.Log.Debug("instance not taken", "listen", s.door.address, "aet", s.title.name, "status", slog.Uint64Value(uint64(answer.Status)),
			"code", string(gantry.CodeOf(err)), "err", err)
	}
	return answer
}

// refusal is the answer to an instance that is not taken (PS3.4 section B.2.3, PS3.7 annex C). What may go another way later
// is out of resources, which senders try again; the comment holds a reason code.
func refusal(err error) dimse.Response {
	code := gantry.CodeOf(err)
	answer := dimse.Response{Status: dimse.StatusCannotUnderstand, Comment: string(code)}
	switch kind := gantry.KindOf(err); {
	case code == codeClassMismatch:
		answer.Status = dimse.StatusMismatch
	case code == codeBadUID:
		answer.Status = dimse.StatusInvalidInstance
	case code == gantry.CodeDuplicate:
		answer.Status = dimse.StatusDuplicate
	case code == codeNobody, code == gantry.CodeNoRoute: // there is nothing wrong with it: it is not for us
		answer.Status = dimse.StatusNotAuthorized
	case kind != gantry.Illegal:
		answer.Status = dimse.StatusOutOfResources
	}
	if len(answer.Comment) > 64 {
		answer.Comment = answer.Comment[:64]
	}
	return answer
}

// Commit gives a request for storage commitment to whoever takes it.
func (s *session) Commit(ctx context.Context, c dimse.Commitment) dimse.Response {
	for _, x := range s.stands {
		if own, ok := x.Desk.(committer); ok {
			if mine, answer := own.commit(ctx, s, c); mine {
				return answer
			}
		}
		if mine, answer := x.Desk.Commit(ctx, s.peer, c); mine {
			return answer
		}
	}
	return dimse.Response{Status: dimse.StatusNotSupported}
}

// Reported gives the answer to a request of ours for storage commitment to whoever waits for it.
func (s *session) Reported(ctx context.Context, c dimse.Commitment) dimse.Response {
	for _, x := range s.stands {
		if mine, answer := x.Desk.Reported(ctx, s.peer, c); mine {
			return answer
		}
	}
	return dimse.Response{Status: dimse.StatusNoSuchInstance}
}

// Ended counts the peer out.
func (s *session) Ended(err error) {
	s.door.leave(s)
	s.tell(s.over(err, s.door.port.opts.Now()))
}
