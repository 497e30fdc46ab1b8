package dicom

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestSinkCommit asks for commitment of what was delivered, and takes the answer to the request and no other.
func TestSinkCommit(t *testing.T) {
	t.Parallel()
	a := archiveAt(t, &archive{}, nil)
	c := configTo(t, a.address)
	c.Commit, c.Listen, c.CommitWithin = true, "127.0.0.1:11112", time.Minute
	s := openSink(t, c, drivertest.Egress(t))
	if s.Confirmation().Within != time.Minute {
		t.Error(s.Confirmation())
	}
	var list []gantry.Delivery
	var want []dimse.Reference
	for i := range 3 {
		b, _ := part10(classCT, uidOf(i), dimse.ExplicitLE, 100)
		if i == 0 {
			list = append(list, parcelOf("twice", b)) // asked about once
		}
		list, want = append(list, parcelOf("x", b)), append(want, dimse.Reference{Class: classCT, Instance: uidOf(i)})
		if err := s.Deliver(t.Context(), list[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Confirm(t.Context(), "2.25.77", list); err != nil {
		t.Fatal(err)
	}
	if len(a.commits) != 1 || a.commits[0].Transaction != "2.25.77" || !slices.Equal(a.commits[0].Instances, want) {
		t.Errorf("the archive was asked %+v", a.commits)
	}
	report := dimse.Commitment{Transaction: "2.25.77", Instances: want[:2], Failed: []dimse.Failed{{Reference: want[2], Reason: 0x0112}}}
	if mine, _ := s.Reported(t.Context(), dimse.Peer{}, report); mine {
		t.Error("a report is taken though nobody does")
	}
	var got gantry.Answer
	s.Tell(func(_ context.Context, x gantry.Answer) (bool, error) {
		got = x
		switch x.ID {
		case "2.25.77":
			return true, nil
		case "2.25.78":
			return false, errors.New("no database")
		}
		return false, nil
	})
	mine, r := s.Reported(t.Context(), dimse.Peer{}, report)
	name, err := s.NameOf(t.Context(), list[3])
	if !mine || r.Status != dimse.StatusSuccess || err != nil || got.Kept != 2 || len(got.Failed) != 1 || got.Failed[0] != (gantry.Unconfirmed{Name: name, Reason: 0x0112}) {
		t.Errorf("%v, %+v, %+v, %v", mine, r, got, err)
	}
	report.Transaction = "2.25.78"
	if mine, r := s.Reported(t.Context(), dimse.Peer{}, report); !mine || r.Status != dimse.StatusProcessing {
		t.Errorf("what could not be kept: %v, %+v", mine, r)
	}
	report.Transaction = "2.25.79"
	if r := (onOurs{s}).Reported(t.Context(), report); r.Status != dimse.StatusNoSuchInstance {
		t.Errorf("of somebody else: %+v", r)
	}
}

// TestSinkCommitStatus holds the answers to a request to what they mean.
func TestSinkCommitStatus(t *testing.T) {
	t.Parallel()
	var status dimse.Status
	a := archiveAt(t, &archive{commit: func(dimse.Commitment) dimse.Status { return status }}, nil)
	c := configTo(t, a.address)
	c.Commit, c.Listen = true, "127.0.0.1:11112"
	s := openSink(t, c, drivertest.Egress(t))
	b, _ := part10(classCT, uidOf(1), dimse.ExplicitLE, 100)
	for x, code := range map[dimse.Status]gantry.Code{0: "", statusDuplicateTransaction: "", 0x0110: CodeProcessing, 0x0124: CodeNotAuthorized, 0x0122: CodeNotSupported, 0x0112: CodeRefused} {
		status = x
		if err := s.Confirm(t.Context(), "2.25.1", []gantry.Delivery{parcelOf("x", b)}); gantry.CodeOf(err) != code {
			t.Errorf("%04X: %v", x, err)
		}
	}
	deaf := archiveAt(t, &archive{takes: func(c dimse.Context) bool { return c.Abstract != dimse.StorageCommitment }}, nil)
	c.Port = configTo(t, deaf.address).Port
	s = openSink(t, c, drivertest.Egress(t))
	wantError(t, "deaf", s.Confirm(t.Context(), "2.25.1", []gantry.Delivery{parcelOf("x", b)}), gantry.Permanent, CodeNotAccepted)
	if p := s.Probe(t.Context()); len(p) != 2 || p[0].Bad || !p[1].Bad {
		t.Errorf("%+v", p)
	}
}

// promptArchive is an archive that reports on the association on which it was asked, while that is open.
type promptArchive struct {
	*archive
	on *dimse.Association
}

// Attend is told which association that is.
func (r *promptArchive) Attend(a *dimse.Association) { r.on = a }

// Commit reports at once, and again, beside its response.
func (r *promptArchive) Commit(_ context.Context, c dimse.Commitment) dimse.Response {
	go func() {
		for range 2 {
			r.on.Report(context.Background(), c)
		}
	}()
	return dimse.Response{}
}

// TestSinkCommitSameAssociation takes a report on the association on which the request was made.
func TestSinkCommitSameAssociation(t *testing.T) {
	t.Parallel()
	a := &archive{}
	a.handler = func() dimse.Handler { return &promptArchive{archive: a} }
	archiveAt(t, a, nil)
	c := configTo(t, a.address)
	c.Commit, c.Listen = true, "127.0.0.1:11112"
	s := openSink(t, c, drivertest.Egress(t))
	answers := make(chan gantry.Answer, 2)
	s.Tell(func(_ context.Context, x gantry.Answer) (bool, error) { answers <- x; return true, nil })
	b, _ := part10(classCT, uidOf(1), dimse.ExplicitLE, 100)
	for i := range 3 {
		if err := s.Deliver(t.Context(), parcelOf("x", b)); err != nil {
			t.Fatal(err)
		}
		id := fmt.Sprintf("2.25.%d", i+1)
		if err := s.Confirm(t.Context(), id, []gantry.Delivery{parcelOf("x", b)}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if x := waitAnswer(t, answers); x.ID != id || x.Kept != 1 || x.Names != namesOf(t, s, []gantry.Delivery{parcelOf("x", b)}) {
				t.Errorf("%+v", x)
			}
		}
	}
	if _, n := a.seen(); n != 2 {
		t.Errorf("%d associations: one for objects, one that also takes requests", n)
	}
}
