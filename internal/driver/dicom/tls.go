package dicom

import (
	"cmp"
	"crypto/tls"

	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// serverTLS reads what a place says about TLS; nil where it says nothing. Errors are Illegal with code bad_tls and name no file,
// since their texts are shown.
func serverTLS(p Place) (*tls.Config, error) {
	if p.Cert == "" {
		return nil, nil
	}
	c, err := dimse.ServerTLS(p.Cert, p.Key, p.CA)
	if err != nil {
		return nil, gantry.Errorf(gantry.Illegal, codeBadTLS, "listen at %s: %w", p.Listen, err)
	}
	return c, nil
}

// clientTLS reads what a config says about TLS to a host; nil where it says nothing. The peer is always verified. Errors are Illegal
// with code bad_config and name no file.
func clientTLS(c TLSConfig, host string) (*tls.Config, error) {
	if c == (TLSConfig{}) {
		return nil, nil
	}
	out, err := dimse.ClientTLS(c.Cert, c.Key, c.CA, cmp.Or(c.Name, host))
	if err != nil {
		return nil, gantry.Errorf(gantry.Illegal, CodeBadConfig, "open association: %w", err)
	}
	return out, nil
}
