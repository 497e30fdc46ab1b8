package dicom

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"

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

// knownAs has a server known by a name in its certificate, as peers that call us are, in place of the host that it is reached at. Its
// chain is verified all the same.
func knownAs(c *tls.Config, name string) {
	roots := c.RootCAs
	c.InsecureSkipVerify = true // of the host: what follows verifies the chain
	c.VerifyConnection = func(s tls.ConnectionState) error {
		o := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
		for _, more := range s.PeerCertificates[1:] {
			o.Intermediates.AddCert(more)
		}
		if _, err := s.PeerCertificates[0].Verify(o); err != nil {
			return err
		}
		if !bears(s.PeerCertificates[0], name) {
			return errors.New("the certificate does not bear the name of the peer")
		}
		return nil
	}
}

// bears tells whether a certificate has a name as its common name or as a DNS name.
func bears(c *x509.Certificate, name string) bool {
	return c.Subject.CommonName == name || slices.Contains(c.DNSNames, name)
}
