package dimse

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// CodeBadTLS means that files of certificates or keys cannot be used: kind Illegal.
const CodeBadTLS gantry.Code = "bad_tls_files"

// baseTLS is what the BCP 195 profiles of PS3.15 sections B.9 to B.12 have in common once those that may be downgraded are left
// out: TLS 1.3, or TLS 1.2 with forward secrecy and authenticated encryption (RFC 9325 section 4.2).
func baseTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
}

// ServerTLS makes the configuration of a server from PEM files: its certificate chain, its key, and the authorities of its clients'
// certificates, which are asked for and verified unless ca is empty. Errors: Illegal bad_tls_files.
func ServerTLS(cert, key, ca string) (*tls.Config, error) {
	c := baseTLS()
	if err := addKeyPair(c, cert, key); err != nil {
		return nil, err
	}
	if ca == "" {
		return c, nil
	}
	pool, err := authorities(ca)
	if err != nil {
		return nil, err
	}
	c.ClientCAs, c.ClientAuth = pool, tls.RequireAndVerifyClientCert
	return c, nil
}

// ClientTLS makes the configuration of a requestor from PEM files: its certificate chain and key, both empty if it shows none, and the
// authorities of the server's certificate, those of the system if ca is empty. The certificate has to be for serverName, a DNS name
// or an IP address. Errors: Illegal bad_tls_files.
func ClientTLS(cert, key, ca, serverName string) (*tls.Config, error) {
	c := baseTLS()
	if serverName == "" {
		return nil, gantry.Errorf(gantry.Illegal, CodeBadTLS, "make TLS configuration: no name of the server is given")
	}
	c.ServerName = serverName
	if cert != "" || key != "" {
		if err := addKeyPair(c, cert, key); err != nil {
			return nil, err
		}
	}
	if ca == "" {
		return c, nil
	}
	pool, err := authorities(ca)
	if err != nil {
		return nil, err
	}
	c.RootCAs = pool
	return c, nil
}

func addKeyPair(c *tls.Config, cert, key string) error {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return gantry.Errorf(gantry.Illegal, CodeBadTLS, "read certificate and key: %w", nameless(err))
	}
	c.Certificates = []tls.Certificate{pair}
	return nil
}

// authorities reads a file of certificates.
func authorities(file string) (*x509.CertPool, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, gantry.Errorf(gantry.Illegal, CodeBadTLS, "read certificate authorities: %w", nameless(err))
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, gantry.Errorf(gantry.Illegal, CodeBadTLS, "read certificate authorities: no certificate in the file")
	}
	return pool, nil
}

// nameless is an error of reading a file without the file's name: where it is shown nobody asked for it.
func nameless(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

// shakeHands begins TLS. Errors: Timeout, Transient if the connection broke, else Denied tls.
func shakeHands(ctx context.Context, conn *tls.Conn, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	err := conn.HandshakeContext(ctx)
	switch {
	case err == nil:
		return nil
	case ctx.Err() == context.DeadlineExceeded || timeout(err):
		return gantry.Errorf(gantry.Timeout, CodeArtim, "begin TLS: the handshake did not end in time")
	case ctx.Err() != nil:
		return gantry.Errorf(gantry.Transient, CodeAborted, "begin TLS: %w", context.Cause(ctx))
	case alert(err):
		return gantry.Errorf(gantry.Denied, CodeTLS, "begin TLS: the peer refuses the handshake")
	}
	if _, broke := errors.AsType[*net.OpError](err); broke || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return gantry.Errorf(gantry.Transient, CodeConnectionLost, "begin TLS: the connection broke")
	}
	return gantry.Errorf(gantry.Denied, CodeTLS, "begin TLS: the peer is not who it should be, or speaks no TLS that is safe")
}

// alert says whether an error is an alert of TLS that the peer sent, or that we did.
func alert(err error) bool {
	o, ok := errors.AsType[*net.OpError](err)
	return ok && (o.Op == "remote error" || o.Op == "local error")
}
