package dicom

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Codes of reports of storage commitment that cannot be made.
const (
	codeNoReport gantry.Code = "no_report_address" // Permanent: the association is over, and the file says no other way
	codeNoClass  gantry.Code = "no_context"        // Permanent: the peer takes no reports
)

const (
	maxReports  = 256 // that wait
	sideReports = 8   // that are being made
)

// reportAfter are the pauses before the tries of one report.
var reportAfter = []time.Duration{0, time.Second, 5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute}

// Of storage commitment: what failed, and why a request is not taken (PS3.3 section C.14.1.1, PS3.7 section C.5).
const (
	reasonNoInstance uint16       = 0x0112 // no such object instance
	statusLimited    dimse.Status = 0x0213 // resource limitation
)

// committer is a Desk of this package that answers requests for storage commitment on the association on which they came.
type committer interface {
	commit(s *session, c dimse.Commitment) (mine bool, r dimse.Response)
}

// report is a request for storage commitment that is to be answered.
type report struct {
	session *session
	dimse.Commitment
}

// Commit is never asked: commit is.
func (s *source) Commit(context.Context, dimse.Peer, dimse.Commitment) (bool, dimse.Response) {
	return false, dimse.Response{}
}

// commit takes a request; the answer comes later.
func (s *source) commit(from *session, c dimse.Commitment) (bool, dimse.Response) {
	if !s.config.Commit {
		return false, dimse.Response{}
	}
	select {
	case s.reports <- report{from, c}:
		return true, dimse.Response{Status: dimse.StatusSuccess}
	default:
		return true, dimse.Response{Status: statusLimited}
	}
}

// reportAll makes reports until ctx ends.
func (s *source) reportAll(ctx context.Context) {
	var g sync.WaitGroup
	defer g.Wait()
	for range sideReports {
		g.Go(func() {
			for {
				select {
				case r := <-s.reports:
					s.reportOne(ctx, r)
				case <-ctx.Done():
					return
				}
			}
		})
	}
}

// reportOne makes a report, in as many tries as it takes. One that cannot be made is told of.
func (s *source) reportOne(ctx context.Context, r report) {
	var err error
	for _, pause := range reportAfter {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		if err = s.tryReport(ctx, r); err == nil || !gantry.KindOf(err).Retryable() {
			break
		}
	}
	if err != nil && ctx.Err() == nil {
		s.to.Visited(gantry.Visit{Step: gantry.VisitNotTaken, At: time.Now(), Kind: gantry.KindOf(err), Code: gantry.CodeOf(err)})
	}
}

func (s *source) tryReport(ctx context.Context, r report) error {
	c, err := s.answer(ctx, r.Commitment)
	if err != nil {
		return err
	}
	for _, a := range s.config.Allow {
		if a.Report != "" && a.AET == r.session.peer.Calling {
			return s.reportTo(ctx, a, c)
		}
	}
	a := r.session.with.Load()
	if a == nil {
		return gantry.Errorf(gantry.Permanent, codeNoReport, "report storage commitment: the association is over, and the file says no address")
	}
	select {
	case <-a.Done():
		return gantry.Errorf(gantry.Permanent, codeNoReport, "report storage commitment: the association is over, and the file says no address")
	default:
	}
	_, err = a.Report(ctx, c)
	return err
}

// answer says which instances are on record.
func (s *source) answer(ctx context.Context, c dimse.Commitment) (out dimse.Commitment, err error) {
	out.Transaction = c.Transaction
	refs := make([]string, len(c.Instances))
	for i, x := range c.Instances {
		refs[i] = x.Instance
	}
	kept, err := s.to.OnRecord(ctx, refs)
	if err != nil {
		return out, err
	}
	for i, x := range c.Instances {
		if kept[i] {
			out.Instances = append(out.Instances, x)
		} else {
			out.Failed = append(out.Failed, dimse.Failed{Reference: x, Reason: reasonNoInstance})
		}
	}
	return out, nil
}

// reportTo makes a report on an association of our own, on which we are the provider (PS3.4 section J.3.3).
func (s *source) reportTo(ctx context.Context, to AllowConfig, c dimse.Commitment) error {
	way, ok := s.out.(gantry.Branching)
	if !ok {
		return gantry.Errorf(gantry.Illegal, "", "report storage commitment: there is no way to the peer")
	}
	branch, ok := way.Branch(to.reportTarget())
	if !ok {
		return gantry.Errorf(gantry.Illegal, "", "report storage commitment: there is no way to the peer")
	}
	conn, err := branch.DialContext(ctx, "tcp", to.Report)
	if err != nil {
		return err
	}
	if s.config.Cert != "" {
		if conn, err = s.secured(conn, to.Report); err != nil {
			return err
		}
	}
	class := dimse.Context{Abstract: dimse.StorageCommitment, Transfer: []string{dimse.ExplicitLE, dimse.ImplicitLE}, SCP: true}
	a, err := dimse.Request(ctx, conn, dimse.Params{Calling: s.config.AET, Called: to.AET, Contexts: []dimse.Context{class}})
	if err != nil {
		return err
	}
	defer a.Abort()
	if _, ok := a.Find(dimse.StorageCommitment, ""); !ok {
		return gantry.Errorf(gantry.Permanent, codeNoClass, "report storage commitment: the peer takes no reports")
	}
	if _, err := a.Report(ctx, c); err != nil {
		return err
	}
	return a.Release(ctx)
}

// secured speaks TLS to a peer, as peers do to us: with our certificate, and the same authorities.
func (s *source) secured(conn net.Conn, address string) (net.Conn, error) {
	host, _, _ := net.SplitHostPort(address)
	c, err := dimse.ClientTLS(s.config.Cert, s.config.Key, s.config.CA, host)
	if err != nil {
		conn.Close()
		return nil, gantry.Errorf(gantry.Illegal, codeBadTLS, "report storage commitment: %w", err)
	}
	return tls.Client(conn, c), nil
}
