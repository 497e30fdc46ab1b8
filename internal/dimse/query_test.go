package dimse

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// finder answers queries with n matches, until it is told to stop.
type finder struct {
	t      *testing.T
	n      int
	broken int // the match that makes no sense; -1: none
	asked  Dataset
	stop   chan struct{}
	sent   int
}

func (f *finder) take(peer *side, c *command, m message) error {
	if c.field == fieldCancel {
		close(f.stop)
		return nil
	}
	var err error
	if f.asked, err = readDataset(m.data, ImplicitLE); err != nil {
		return err
	}
	f.stop = make(chan struct{})
	go f.answer(peer, c, m.context, f.stop)
	return nil
}

func (f *finder) answer(peer *side, c *command, id byte, stop <-chan struct{}) {
	for f.sent = range f.n {
		select {
		case <-stop:
			_ = peer.answer(c, id, StatusCancel, nil)
			return
		default:
		}
		b, _ := Dataset{Text(0x0010, 0x0020, "LO", fmt.Sprintf("P%d", f.sent))}.Encode(ImplicitLE)
		if f.sent == f.broken {
			b = b[:len(b)-1]
		}
		status := StatusPending
		if f.sent%2 == 1 {
			status = StatusPendingWarning
		}
		if err := peer.answer(c, id, status, b); err != nil {
			return
		}
	}
	_ = peer.answer(c, id, StatusSuccess, nil)
}

func newFinder(t *testing.T, n int) *finder {
	return &finder{t: t, n: n, broken: -1}
}

func TestQuery(t *testing.T) {
	f := newFinder(t, 300)
	us, _ := sides(t, 1, 0, f.take)
	identifier := Dataset{Text(0x0010, 0x0020, "LO", "P*"), Text(0x0008, 0x0052, "CS", "STUDY")} // in any order
	var got []string
	r, err := us.query(t.Context(), StudyRootFind, identifier, func(d Dataset) error {
		got = append(got, d.Get(0x0010, 0x0020))
		return nil
	})
	wantStatus(t, r, err, StatusSuccess)
	if len(got) != 300 || got[0] != "P0" || got[299] != "P299" || f.asked.Get(0x0008, 0x0052) != "STUDY" || f.asked.Get(0x0010, 0x0020) != "P*" {
		t.Errorf("%d matches for %v", len(got), f.asked)
	}
}

// TestQueryCancel cancels the rest when who asked has enough, and hears the end of it.
func TestQueryCancel(t *testing.T) {
	f := newFinder(t, 100_000)
	us, _ := sides(t, 1, 0, f.take)
	enough, calls := errors.New("enough"), 0
	r, err := us.query(t.Context(), StudyRootFind, nil, func(Dataset) error {
		if calls++; calls == 5 {
			return enough
		}
		return nil
	})
	if r.Status != StatusCancel || !errors.Is(err, enough) || calls != 5 || f.sent > 10_000 {
		t.Errorf("%v, %v, %d calls, %d sent", r, err, calls, f.sent)
	}
	f.n = 1
	r, err = us.query(t.Context(), StudyRootFind, nil, func(Dataset) error { return nil })
	wantStatus(t, r, err, StatusSuccess)
}

// TestQueryNonsense takes a match that is no data set for the end of the query, not of the association.
func TestQueryNonsense(t *testing.T) {
	f := newFinder(t, 100_000)
	f.broken = 2
	us, _ := sides(t, 1, 0, f.take)
	calls := 0
	r, err := us.query(t.Context(), StudyRootFind, nil, func(Dataset) error { calls++; return nil })
	wantError(t, err, gantry.BadResponse, CodeMalformedDataset)
	if r.Status != StatusCancel || calls != 2 {
		t.Errorf("%v, %d calls", r, calls)
	}
}

// TestQueryGivenUp cancels a query whose context ends; matches that still come are passed over.
func TestQueryGivenUp(t *testing.T) {
	f := newFinder(t, 100_000)
	us, _ := sides(t, 1, 0, f.take)
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err := us.query(ctx, StudyRootFind, nil, func(d Dataset) error {
		if d.Get(0x0010, 0x0020) == "P9" {
			cancel(gantry.ErrCancelled)
		}
		return nil
	})
	if !errors.Is(err, gantry.ErrCancelled) {
		t.Error(err)
	}
	f.n = 1
	r, err := us.query(t.Context(), StudyRootFind, nil, func(Dataset) error { return nil })
	wantStatus(t, r, err, StatusSuccess)
}

// TestQueryLost ends with the association.
func TestQueryLost(t *testing.T) {
	f := newFinder(t, 100_000)
	us, _ := sides(t, 1, 0, f.take)
	calls := 0
	_, err := us.query(t.Context(), StudyRootFind, nil, func(Dataset) error {
		if calls++; calls == 3 {
			us.lose(errLost)
		}
		return nil
	})
	wantError(t, err, gantry.Transient, "connection_lost")
}
