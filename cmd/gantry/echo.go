package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"

	"github.com/gantry-imaging/gantry/internal/dimse"
)

type echoCmd struct {
	peerFlags
	JSON bool `name:"json" help:"JSON instead of text."`
}

// echoed is what came of a C-ECHO.
type echoed struct {
	Peer           string  `json:"peer"`
	Called         string  `json:"called"`
	Status         string  `json:"status"` // in hexadecimal
	OK             bool    `json:"ok"`
	MS             float64 `json:"ms"`
	Implementation string  `json:"implementation"`
	Version        string  `json:"version,omitempty"`
	MaxPDU         uint32  `json:"max_pdu"` // that the peer takes; 0: no limit
	TLS            string  `json:"tls,omitempty"`
}

// Run is called by the parser.
func (e *echoCmd) Run(ctx context.Context, c console) error {
	a, err := e.associate(ctx, []dimse.Context{{Abstract: dimse.Verification, Transfer: []string{dimse.ImplicitLE, dimse.ExplicitLE}}})
	if err != nil {
		return err
	}
	defer a.Abort()
	began := time.Now()
	r, err := a.Echo(ctx)
	if err != nil {
		return fmt.Errorf("%s as %s: %w", e.Address, e.Called, err)
	}
	took := time.Since(began)
	release(a, e.Timeout)
	peer := a.Peer()
	out := echoed{
		Peer: e.Address, Called: e.Called, Status: fmt.Sprintf("%04X", uint16(r.Status)), OK: r.Status == dimse.StatusSuccess,
		MS: float64(took.Microseconds()) / 1e3, Implementation: peer.Implementation, Version: peer.Version, MaxPDU: peer.MaxPDU,
	}
	if peer.TLS != nil {
		out.TLS = tlsVersion(peer.TLS)
	}
	if err := out.print(c, e.JSON, r); err != nil {
		return err
	}
	if !out.OK {
		return quietError(exitFailed)
	}
	return nil
}

func (e *echoed) print(c console, asJSON bool, r dimse.Response) error {
	if asJSON {
		return printJSON(c.out, e)
	}
	limit := "any size"
	if e.MaxPDU != 0 {
		limit = fmt.Sprintf("up to %d bytes", e.MaxPDU)
	}
	line := fmt.Sprintf("%s as %s: %s in %.1f ms; %s %s, PDUs of %s", e.Peer, e.Called, answerText(r), e.MS, printable(e.Implementation),
		printable(e.Version), limit)
	if e.TLS != "" {
		line += "; " + e.TLS
	}
	_, err := fmt.Fprintln(c.out, line)
	return err
}

// tlsVersion says how a connection is protected.
func tlsVersion(s *tls.ConnectionState) string {
	return tls.VersionName(s.Version) + " " + tls.CipherSuiteName(s.CipherSuite)
}
