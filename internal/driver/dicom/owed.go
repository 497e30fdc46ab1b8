package dicom

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	maxReports  = 256 // that were asked for just now, and were not tried
	sideReports = 8   // that are being made at once, and as many of those that waited

	reportWithin = 45 * time.Second // one try
	reportHold   = time.Minute      // how long a report is this process's: if it dies, another takes it up then
	reportUntil  = 24 * time.Hour   // after that a report is given up
	lookForOwed  = 5 * time.Second  // how often those are looked for that waited, or that another process left
)

// reportAfter are the pauses before the second try of a report, the third, and so on; the last stands for all that follow.
var reportAfter = []time.Duration{time.Second, 5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour}

// report is a request for storage commitment that is to be answered.
type report struct {
	gantry.Debt
	session *session // on which it was asked for, in this process; nil: none
}

// commit takes a request once it is on record that the peer is owed an answer, which comes later, from whatever process.
func (s *source) commit(ctx context.Context, from *session, c dimse.Commitment) (bool, dimse.Response) {
	if !s.config.Commit {
		return false, dimse.Response{}
	}
	select {
	case s.room <- struct{}{}:
	default:
		return true, dimse.Response{Status: statusLimited}
	}
	d, err := s.to.Owe(ctx, gantry.Debt{Peer: from.peer.Calling, Name: c.Transaction, Request: writeRequest(c)}, reportHold)
	if err != nil {
		<-s.room
		return true, dimse.Response{Status: owingStatus(err)}
	}
	s.reports <- report{d, from}
	return true, dimse.Response{Status: dimse.StatusSuccess}
}

// owingStatus is the answer to a request that is not taken (PS3.4 section J.3.2.1.3, PS3.7 section 10.1.4.1.10).
func owingStatus(err error) dimse.Status {
	switch gantry.CodeOf(err) {
	case gantry.CodeDuplicate:
		return statusDuplicateTransaction
	case gantry.CodeTooMany:
		return statusLimited
	}
	return dimse.StatusProcessing
}

// writeRequest puts a request down as it is kept: its transaction, and a line for each instance.
func writeRequest(c dimse.Commitment) []byte {
	var b strings.Builder
	b.WriteString(c.Transaction + "\n")
	for _, r := range c.Instances {
		b.WriteString(r.Class + " " + r.Instance + "\n")
	}
	return []byte(b.String())
}

// readRequest reads what writeRequest wrote. Anything else is Permanent.
func readRequest(b []byte) (c dimse.Commitment, err error) {
	for i, line := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
		class, instance, two := strings.Cut(line, " ")
		switch {
		case i == 0 && !two && dicom.ValidUID(class):
			c.Transaction = class
		case i > 0 && two && dicom.ValidUID(class) && dicom.ValidUID(instance):
			c.Instances = append(c.Instances, dimse.Reference{Class: class, Instance: instance})
		default:
			return c, gantry.Errorf(gantry.Permanent, gantry.CodeMalformed, "report storage commitment: what was asked is not on record as it should be")
		}
	}
	return c, nil
}

// reportAll makes reports until ctx ends: those that are asked for now, and those that waited or were left by a process that ended.
func (s *source) reportAll(ctx context.Context) {
	var g sync.WaitGroup
	defer g.Wait()
	for range sideReports {
		g.Go(func() {
			for {
				select {
				case r := <-s.reports:
					if !s.reportOne(ctx, r) {
						s.reports <- r // of which there is room
						return
					}
					<-s.room
				case <-ctx.Done():
					return
				}
			}
		})
	}
	free := make(chan struct{}, sideReports)
	for {
		s.takeUp(ctx, &g, free)
		select {
		case <-time.After(lookForOwed):
		case <-s.again:
		case <-ctx.Done():
			return
		}
	}
}

// takeUp has as many reports made that are due as there is room for.
func (s *source) takeUp(ctx context.Context, g *sync.WaitGroup, free chan struct{}) {
	n := cap(free) - len(free) // nobody else adds to them
	if n == 0 {
		return
	}
	due, err := s.to.Due(ctx, n, reportHold)
	if err != nil {
		return // it is looked again
	}
	for _, d := range due {
		free <- struct{}{}
		g.Go(func() {
			s.reportOne(ctx, report{d, nil})
			if <-free; len(due) == n {
				s.hurry()
			}
		})
	}
}

// hurry has reports that are due looked for at once.
func (s *source) hurry() {
	select {
	case s.again <- struct{}{}:
	default:
	}
}

// reportOne tries a report. One that cannot be made now waits, on record, for its next try, in this process or another; one that can only
// go out on the association on which it was asked for waits here, and is not done with if ctx ends before. One that is given up is told of.
func (s *source) reportOne(ctx context.Context, r report) (done bool) {
	asked := time.Now().Add(-r.Age)
	_, elsewhere := s.reporting(r.Peer)
	here := r.session != nil && !elsewhere
	for {
		err := s.within(ctx, r)
		pause := reportAfter[min(r.Tries, len(reportAfter)-1)]
		switch {
		case err == nil:
			s.settled(ctx, r, nil)
			return true
		case ctx.Err() != nil && here:
			return false
		case ctx.Err() != nil:
			s.postpone(ctx, r, 0)
			return true
		}
		if r.Tries++; gantry.KindOf(err) == gantry.Permanent || time.Since(asked)+pause > reportUntil {
			s.settled(ctx, r, err)
			return true
		}
		if !here {
			s.postpone(ctx, r, pause)
			return true
		}
		s.postpone(ctx, r, pause+reportHold)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return false
		}
	}
}

// within makes one try in bounded time.
func (s *source) within(ctx context.Context, r report) error {
	ctx, cancel := context.WithTimeout(ctx, reportWithin)
	defer cancel()
	return s.tryReport(ctx, r)
}

// recordWithin bounds what is put on record of a report, also at the end of the process.
const recordWithin = 5 * time.Second

// postpone has a report wait. If that cannot be put on record, it waits until nobody holds it any more.
func (s *source) postpone(ctx context.Context, r report, by time.Duration) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordWithin)
	defer cancel()
	if s.to.Postpone(ctx, r.Debt, by) == nil && by > 0 && by < lookForOwed {
		time.AfterFunc(by, s.hurry)
	}
}

// settled puts the end of a report on record: it was made, or is given up for a reason. If that cannot be, it is made once more.
func (s *source) settled(ctx context.Context, r report, why error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordWithin)
	defer cancel()
	if why == nil {
		s.to.Settle(ctx, r.Debt, "")
		return
	}
	s.to.Settle(ctx, r.Debt, gantry.CodeOf(why))
	s.to.Visited(gantry.Visit{Step: gantry.VisitUnanswered, At: time.Now(), Kind: gantry.KindOf(why), Code: gantry.CodeOf(why)})
}
