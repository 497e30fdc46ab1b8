package dicom

import (
	"crypto/tls"
	"crypto/x509"
	"os"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// bcp195 are the cipher suites of TLS 1.2 that the non-downgrading profile of BCP 195 lets stand (PS3.15 section B.10, RFC 9325):
// with forward secrecy and authenticated encryption. Those of TLS 1.3 all are.
var bcp195 = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// serverTLS reads what a place says about TLS; nil where it says nothing. Its errors name no file, since their texts are shown.
func serverTLS(p Place) (*tls.Config, error) {
	if p.Cert == "" {
		return nil, nil
	}
	bad := func(what string) error {
		return gantry.Errorf(gantry.Illegal, codeBadTLS, "listen at %s: %s", p.Listen, what)
	}
	pair, err := tls.LoadX509KeyPair(p.Cert, p.Key)
	if err != nil {
		return nil, bad("cert and key cannot be read, or do not go together")
	}
	c := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, CipherSuites: bcp195}
	if p.CA == "" {
		return c, nil
	}
	pem, err := os.ReadFile(p.CA)
	if err != nil {
		return nil, bad("ca cannot be read")
	}
	c.ClientCAs, c.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !c.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, bad("ca holds no certificate")
	}
	return c, nil
}
