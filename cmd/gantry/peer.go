package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// peerFlags say which DICOM peer is called, and how. peer.go opens associations for the commands that speak to peers themselves.
type peerFlags struct {
	Address string        `arg:"" name:"host:port" help:"Where the peer listens."`
	Called  string        `help:"AE title of the peer." default:"ANY-SCP" placeholder:"AET"`
	Calling string        `help:"AE title of ours." default:"GANTRY" placeholder:"AET"`
	Timeout time.Duration `help:"How long to wait for the connection, for the association and for each answer." default:"30s"`
	TLS     bool          `name:"tls" help:"Use TLS, with the system's authorities; --tls-ca and the others mean it too."`
	TLSCA   string        `name:"tls-ca" help:"File with the authorities that the peer's certificate must come from." placeholder:"FILE"`
	TLSCert string        `name:"tls-cert" help:"File with the certificate that we show." placeholder:"FILE"`
	TLSKey  string        `name:"tls-key" help:"File with its key." placeholder:"FILE"`
	TLSName string        `name:"tls-name" help:"Name in the peer's certificate; the host without it." placeholder:"NAME"`
}

// host gives the address's host, and says what is wrong with the flags.
func (p *peerFlags) host() (string, error) {
	host, port, err := net.SplitHostPort(p.Address)
	switch {
	case err != nil || host == "" || port == "":
		return "", usageError{errors.New("want the peer as HOST:PORT, as in pacs.local:104")}
	case len(p.Called) < 1 || len(p.Called) > 16 || len(p.Calling) < 1 || len(p.Calling) > 16:
		return "", usageError{errors.New("--called and --calling have 1 to 16 characters")}
	case p.Timeout <= 0:
		return "", usageError{errors.New("--timeout is above 0")}
	case (p.TLSCert == "") != (p.TLSKey == ""):
		return "", usageError{errors.New("--tls-cert and --tls-key go together")}
	}
	return host, nil
}

// secure reads the TLS flags; nil without any.
func (p *peerFlags) secure(host string) (*tls.Config, error) {
	if !p.TLS && p.TLSCA == "" && p.TLSCert == "" && p.TLSName == "" {
		return nil, nil
	}
	c, err := dimse.ClientTLS(p.TLSCert, p.TLSKey, p.TLSCA, cmp.Or(p.TLSName, host))
	if err != nil {
		return nil, usageError{fmt.Errorf("--tls-cert, --tls-key, --tls-ca: %w", err)}
	}
	return c, nil
}

// associate opens an association for contexts. Its error says how far it came.
func (p *peerFlags) associate(ctx context.Context, contexts []dimse.Context) (*dimse.Association, error) {
	host, err := p.host()
	if err != nil {
		return nil, err
	}
	secure, err := p.secure(host)
	if err != nil {
		return nil, err
	}
	dialing, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(dialing, "tcp", p.Address)
	if err != nil {
		return nil, fmt.Errorf("%s: no connection: %w", p.Address, err)
	}
	if secure != nil {
		conn = tls.Client(conn, secure)
	}
	a, err := dimse.Request(ctx, conn, dimse.Params{
		Calling: p.Calling, Called: p.Called, Contexts: contexts, Timeouts: dimse.Timeouts{Associate: p.Timeout, Response: p.Timeout},
	})
	switch {
	case gantry.CodeOf(err) == dimse.CodeTLS:
		return nil, fmt.Errorf("%s: no TLS: %w", p.Address, err)
	case err != nil:
		return nil, fmt.Errorf("%s as %s: %w", p.Address, p.Called, err)
	}
	return a, nil
}

// release ends an association in order.
func release(a *dimse.Association, wait time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	_ = a.Release(ctx) // what was asked for has been answered
}

// statusText says a status in words (PS3.7 annex C, PS3.4 annexes B.2.3 and C.4.1.1.4) with its number.
func statusText(s dimse.Status) string {
	words := map[dimse.Status]string{
		dimse.StatusSuccess: "success", dimse.StatusCancel: "cancelled", dimse.StatusProcessing: "processing failure",
		dimse.StatusDuplicate: "duplicate instance", dimse.StatusNoSuchInstance: "no such instance", dimse.StatusNoSuchClass: "no such SOP class",
		dimse.StatusInvalidInstance: "invalid instance", dimse.StatusNotSupported: "SOP class not supported", dimse.StatusNotAuthorized: "not authorized",
		dimse.StatusUnrecognized: "unrecognized operation", dimse.StatusInvalidArgument: "invalid argument",
		0x0119: "class and instance conflict",
		0xB000: "elements were changed", 0xB006: "elements were discarded", 0xB007: "does not match its SOP class",
	}[s]
	switch {
	case words != "":
	case s&0xFF00 == dimse.StatusOutOfResources:
		words = "out of resources"
	case s&0xFF00 == dimse.StatusMismatch:
		words = "does not match its SOP class"
	case s&0xF000 == dimse.StatusCannotUnderstand:
		words = "not understood, or not processed"
	default:
		words = "status"
	}
	return fmt.Sprintf("%s (0x%04X)", words, uint16(s))
}

// answerText is a response for a person.
func answerText(r dimse.Response) string {
	if r.Comment == "" {
		return statusText(r.Status)
	}
	return statusText(r.Status) + ": " + printable(r.Comment)
}

// printable keeps what a peer sent from moving a terminal's cursor, or a table's columns.
func printable(s string) string {
	out := []rune(s)
	for i, r := range out {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			out[i] = '?'
		}
	}
	return string(out)
}

// codeOf is the reason code of an error for --json.
func codeOf(err error) string { return string(gantry.CodeOf(err)) }
