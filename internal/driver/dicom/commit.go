package dicom

import (
	"context"
	"crypto/tls"
	"net"
	"slices"

	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Codes of reports of storage commitment that cannot be made.
const (
	codeNoReport gantry.Code = "no_report_address" // Permanent: the association is over, and the file says no other way
	codeNoClass  gantry.Code = "no_context"        // Denied: the peer takes no reports
	codeRefused  gantry.Code = "report_refused"    // Permanent: the peer does not know the request, or takes no such report
)

// Of storage commitment: what failed, and why a request is not taken (PS3.3 section C.14.1.1, PS3.7 section C.5).
const (
	reasonNoInstance uint16       = 0x0112 // no such object instance
	statusLimited    dimse.Status = 0x0213 // resource limitation
)

// committer is a Desk of this package that answers requests for storage commitment on the association on which they came.
type committer interface {
	commit(ctx context.Context, s *session, c dimse.Commitment) (mine bool, r dimse.Response)
}

// Commit is never asked: commit is.
func (s *source) Commit(context.Context, dimse.Peer, dimse.Commitment) (bool, dimse.Response) {
	return false, dimse.Response{}
}

// tryReport makes one report: to the address of the peer, or, where the file says none, on the association on which it was asked for.
func (s *source) tryReport(ctx context.Context, r report) error {
	request, err := readRequest(r.Request)
	if err != nil {
		return err
	}
	c, err := s.answer(ctx, request)
	if err != nil {
		return err
	}
	if to, ok := s.reporting(r.Peer); ok {
		return s.reportTo(ctx, to, c)
	}
	if r.session == nil {
		return noReport()
	}
	a := r.session.with.Load()
	if a == nil {
		return noReport()
	}
	select {
	case <-a.Done():
		return noReport()
	default:
	}
	got, err := a.Report(ctx, c)
	return reported(got, err)
}

func noReport() error {
	return gantry.Errorf(gantry.Permanent, codeNoReport, "report storage commitment: the association is over, and the file says no address")
}

// reporting finds where a peer is reported to, if the file says so.
func (s *source) reporting(peer string) (AllowConfig, bool) {
	i := slices.IndexFunc(s.config.Allow, func(a AllowConfig) bool { return a.Report != "" && a.AET == peer })
	if i < 0 {
		return AllowConfig{}, false
	}
	return s.config.Allow[i], true
}

// reported says what the response to an N-EVENT-REPORT means (PS3.7 section 10.1.1.1.8): a peer that could not take it may
// do so later, one that does not know what it is about never will.
func reported(r dimse.Response, err error) error {
	switch {
	case err != nil:
		return err
	case r.Status == dimse.StatusProcessing || r.Status == statusLimited:
		return gantry.Errorf(gantry.Unavailable, CodeProcessing, "report storage commitment: the peer cannot take it now")
	case r.Status.Class() == dimse.Failure:
		return gantry.Errorf(gantry.Permanent, codeRefused, "report storage commitment: the peer does not take it")
	}
	return nil
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
		if conn, err = s.secured(conn, to); err != nil {
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
		return gantry.Errorf(gantry.Denied, codeNoClass, "report storage commitment: the peer takes no reports")
	}
	got, err := a.Report(ctx, c)
	if err := reported(got, err); err != nil {
		return err
	}
	a.Release(ctx) // what is wrong with the association now changes nothing for the report
	return nil
}

// secured speaks TLS to a peer, as peers do to us: with our certificate, the same authorities, and the same name in the peer's certificate,
// if the file says one. Else that has to be for the host that it listens at.
func (s *source) secured(conn net.Conn, to AllowConfig) (net.Conn, error) {
	host, _, _ := net.SplitHostPort(to.Report)
	c, err := dimse.ClientTLS(s.config.Cert, s.config.Key, s.config.CA, host)
	if err != nil {
		conn.Close()
		return nil, gantry.Errorf(gantry.Illegal, codeBadTLS, "report storage commitment: %w", err)
	}
	if to.Certificate != "" {
		knownAs(c, to.Certificate)
	}
	return tls.Client(conn, c), nil
}
