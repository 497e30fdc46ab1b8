package dimsetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority signs certificates for one test.
type Authority struct {
	File string // its own certificate, PEM
	Pool *x509.CertPool

	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Identity is a certificate with its key, in PEM files, and that of the authority that signed it.
type Identity struct{ Cert, Key, CA string }

// NewAuthority makes an authority of its own for a test.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{dir: t.TempDir(), Pool: x509.NewCertPool(), key: newKey(t)}
	tmpl := template("Test Authority")
	tmpl.IsCA, tmpl.BasicConstraintsValid, tmpl.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	a.cert = sign(t, tmpl, tmpl, &a.key.PublicKey, a.key)
	a.Pool.AddCert(a.cert)
	a.File = writePEM(t, filepath.Join(a.dir, "ca.pem"), "CERTIFICATE", a.cert.Raw)
	return a
}

// Issue makes a certificate of a common name that holds for 127.0.0.1, localhost and more names, as server and as client.
func (a *Authority) Issue(t testing.TB, name string, hosts ...string) Identity {
	t.Helper()
	return a.IssueUntil(t, time.Now().Add(time.Hour), name, hosts...)
}

// IssueUntil is Issue with an end of validity, which may be past.
func (a *Authority) IssueUntil(t testing.TB, end time.Time, name string, hosts ...string) Identity {
	t.Helper()
	tmpl := template(name)
	tmpl.NotAfter, tmpl.KeyUsage = end, x509.KeyUsageDigitalSignature
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	tmpl.IPAddresses, tmpl.DNSNames = []net.IP{net.IPv4(127, 0, 0, 1)}, append([]string{"localhost"}, hosts...)
	key := newKey(t)
	cert := sign(t, tmpl, a.cert, &key.PublicKey, a.key)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(a.dir, tmpl.SerialNumber.Text(16))
	return Identity{Cert: writePEM(t, base+".pem", "CERTIFICATE", cert.Raw), Key: writePEM(t, base+".key", "PRIVATE KEY", private), CA: a.File}
}

// Arguments are those with which dcmtk's programs show it and trust its authority.
func (i Identity) Arguments() []string { return []string{"+tls", i.Key, i.Cert, "+cf", i.CA} }

// Config is a configuration that shows it and trusts its authority, as client and as server, which asks for a certificate.
func (i Identity) Config(t testing.TB) *tls.Config {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(i.Cert, i.Key)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(i.CA)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		t.Fatal("no certificate of an authority")
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, ServerName: "localhost", MinVersion: tls.VersionTLS12}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func template(name string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)) // crypto/rand gives no errors
	return &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(time.Hour)}
}

func sign(t testing.TB, tmpl, parent *x509.Certificate, public *ecdsa.PublicKey, by *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, public, by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func writePEM(t testing.TB, path, kind string, der []byte) string {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
