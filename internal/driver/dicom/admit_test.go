package dicom

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/netip"
	"testing"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// come asks to be let in.
func come(p *Port, listen string, who dimse.Peer) (*session, *dimse.Rejection) {
	terms, err := p.doors[listen].admit(context.Background(), dimse.Proposal{Peer: who})
	if r, ok := errors.AsType[*dimse.Rejection](err); ok {
		return nil, r
	}
	return terms.Handler.(*session), nil
}

func TestAdmit(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	c := sound()
	c.Allow = []AllowConfig{{AET: "ECHO1", From: "10.0.0.0/8"}, {AET: "CT"}, {From: "192.168.1.7"}}
	p := ajar(t, nil, open(t, k, c))
	for name, x := range map[string]struct {
		calling, called, from string
		want                  dimse.Rejection
		code                  gantry.Code
	}{
		"all holds":        {"ECHO1", "GANTRY", "10.2.3.4", dimse.Rejection{}, ""},
		"mapped":           {"ECHO1", "GANTRY", "::ffff:10.2.3.4", dimse.Rejection{}, ""},
		"title alone":      {"CT", "GANTRY", "172.16.0.1", dimse.Rejection{}, ""},
		"address alone":    {"WHO", "GANTRY", "192.168.1.7", dimse.Rejection{}, ""},
		"other network":    {"ECHO1", "GANTRY", "11.2.3.4", dimse.Rejection{Source: 1, Reason: 3}, codeCalling},
		"other title":      {"echo1", "GANTRY", "10.2.3.4", dimse.Rejection{Source: 1, Reason: 3}, codeCalling},
		"nobody is called": {"CT", "PACS", "172.16.0.1", dimse.Rejection{Source: 1, Reason: 7}, codeCalled},
	} {
		before := k.steps(gantry.VisitRefused, x.code)
		s, r := come(p, c.Listen, peer(x.calling, x.called, x.from))
		if r == nil {
			r = &dimse.Rejection{}
			s.Ended(nil)
		}
		if *r != x.want {
			t.Errorf("%s: %+v", name, *r)
		}
		if x.code != "" && k.steps(gantry.VisitRefused, x.code) != before+1 {
			t.Errorf("%s: it was not told", name)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	c := sound()
	c.MaxAssociations, c.MaxPerPeer = 3, 2
	p := ajar(t, nil, open(t, k, c))
	busy := dimse.Rejection{Transient: true, Source: 3, Reason: 2}
	enter := func(calling, from string, ok bool) *session {
		t.Helper()
		s, r := come(p, c.Listen, peer(calling, "GANTRY", from))
		if ok != (r == nil) || r != nil && *r != busy {
			t.Fatalf("%s from %s: %+v", calling, from, r)
		}
		return s
	}
	a := enter("A", "10.0.0.1", true)
	b := enter("A", "10.0.0.1", true)
	enter("A", "10.0.0.1", false)
	other := enter("A", "10.0.0.2", true)
	enter("B", "10.0.0.3", false) // the title's limit
	b.Ended(nil)
	enter("B", "10.0.0.3", true).Ended(nil)
	enter("A", "10.0.0.1", true)
	for _, s := range []*session{a, other} {
		s.Ended(nil)
	}
	if len(p.doors[c.Listen].titles["GANTRY"].peers) != 1 {
		t.Error("peers that left are still counted")
	}
	if k.steps(gantry.VisitRefused, codeBusy) != 2 {
		t.Errorf("%+v", k.visits)
	}
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	shown := &x509.Certificate{Subject: pkix.Name{CommonName: "ct-1"}, DNSNames: []string{"ct.hospital.test"}}
	verified := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{shown}, VerifiedChains: [][]*x509.Certificate{{shown}}}
	for name, x := range map[string]struct {
		state *tls.ConnectionState
		want  string
		ok    bool
	}{
		"common name":  {verified, "ct-1", true},
		"DNS name":     {verified, "ct.hospital.test", true},
		"another":      {verified, "ct-2", false},
		"no TLS":       {nil, "ct-1", false},
		"not verified": {&tls.ConnectionState{PeerCertificates: []*x509.Certificate{shown}}, "ct-1", false},
		"none":         {&tls.ConnectionState{}, "ct-1", false},
	} {
		p := peer("A", "GANTRY", "10.0.0.1")
		p.TLS = x.state
		if got := (Place{Allow: []Allowed{{Certificate: x.want, From: netip.MustParsePrefix("10.0.0.0/8")}}}).allows(p); got != x.ok {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestAccept(t *testing.T) {
	t.Parallel()
	const ct, private, find = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.113619.4.30", dimse.StudyRootFind
	const jpeg, htj2k, strange = "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.202", "1.2.840.113619.5.2"
	for name, x := range map[string]struct {
		class  string
		offers []string
		commit bool
		want   int
	}{
		"CT":                     {ct, []string{dimse.ExplicitLE}, false, 0},
		"implicit alone":         {ct, []string{dimse.ImplicitLE}, false, 0},
		"explicit is better":     {ct, []string{dimse.ImplicitLE, dimse.ExplicitLE}, false, 1},
		"what the sender has":    {ct, []string{jpeg, dimse.ExplicitLE, dimse.ImplicitLE}, false, 0},
		"one that we know":       {ct, []string{strange, htj2k}, false, 1},
		"none that we know":      {ct, []string{strange}, false, noTransfer},
		"nothing":                {ct, nil, false, noTransfer},
		"big endian":             {ct, []string{dimse.ExplicitBE}, false, 0},
		"deflated":               {ct, []string{dimse.DeflatedLE}, false, 0},
		"private class":          {private, []string{dimse.ExplicitLE}, false, 0},
		"query":                  {find, []string{dimse.ExplicitLE}, false, noAbstract},
		"no UID":                 {"CT", []string{dimse.ExplicitLE}, false, noAbstract},
		"verification":           {dimse.Verification, []string{jpeg, dimse.ImplicitLE}, false, 1},
		"commitment":             {dimse.StorageCommitment, []string{dimse.ImplicitLE}, true, 0},
		"commitment unspoken of": {dimse.StorageCommitment, []string{dimse.ImplicitLE}, false, noAbstract},
	} {
		if got := accept(dimse.Context{Abstract: x.class, Transfer: x.offers}, x.commit); got != x.want {
			t.Errorf("%s: %d, want %d", name, got, x.want)
		}
	}
	if !dicom.KnownSyntax(jpeg) {
		t.Error("the test knows another syntax than the scanner")
	}
}

// Several stand at one address, some by the same title; what cannot stand together is refused.
func TestPlaces(t *testing.T) {
	t.Parallel()
	one, two := newKeeper(t), newKeeper(t)
	c, d := sound(), sound()
	d.AET = "OTHER"
	d.Allow = []AllowConfig{{AET: "CT"}}
	p := ajar(t, nil, open(t, one, c), open(t, two, d))
	if len(p.doors) != 1 || p.Empty() {
		t.Fatalf("%d addresses", len(p.doors))
	}
	if s, r := come(p, c.Listen, peer("US", "GANTRY", "127.0.0.1")); r != nil || s.stands[0].Desk.(*source).to != gantry.Receiver(one) {
		t.Errorf("the first title: %v", r)
	}
	if s, r := come(p, c.Listen, peer("CT", "OTHER", "127.0.0.1")); r != nil || s.stands[0].Desk.(*source).to != gantry.Receiver(two) {
		t.Errorf("the second title: %v", r)
	}
	if _, r := come(p, c.Listen, peer("US", "OTHER", "127.0.0.1")); r == nil {
		t.Error("the second title lets in who is not on its list")
	}
	cert, key := writePair(t, t.TempDir(), "server", nil)
	e := sound()
	e.AET, e.Cert, e.Key = "THIRD", cert, key
	if err := p.Add(open(t, one, e)); gantry.CodeOf(err) != codeUnlike {
		t.Errorf("TLS and none at one address: %v", err)
	}
	e.Listen, e.Key = "127.0.0.1:11113", cert
	if err := p.Add(open(t, one, e)); gantry.CodeOf(err) != codeBadTLS {
		t.Errorf("a key that is none: %v", err)
	}
	idle, err := NewSource(t.Context(), sound(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if q := ajar(t, nil, idle.(Called)); !q.Empty() {
		t.Error("a source whose instances nobody takes is called")
	}
}
