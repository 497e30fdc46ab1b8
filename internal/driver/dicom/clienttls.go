package dicom

import (
	"crypto/tls"
	"crypto/x509"
	"os"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// clientTLS reads what a config says about TLS to a host; nil where it says nothing. The peer is always verified. Errors are Illegal with
// code bad_config and name no file, since their texts are shown.
func clientTLS(c TLSConfig, host string) (*tls.Config, error) {
	if c == (TLSConfig{}) {
		return nil, nil
	}
	bad := func(what string) error {
		return gantry.Errorf(gantry.Illegal, CodeBadConfig, "open association: tls: %s", what)
	}
	out := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12, CipherSuites: bcp195}
	if c.Name != "" {
		out.ServerName = c.Name
	}
	if c.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, bad("cert and key cannot be read, or do not go together")
		}
		out.Certificates = []tls.Certificate{pair}
	}
	if c.CA == "" {
		return out, nil
	}
	pem, err := os.ReadFile(c.CA)
	if err != nil {
		return nil, bad("ca cannot be read")
	}
	out.RootCAs = x509.NewCertPool()
	if !out.RootCAs.AppendCertsFromPEM(pem) {
		return nil, bad("ca holds no certificate")
	}
	return out, nil
}
