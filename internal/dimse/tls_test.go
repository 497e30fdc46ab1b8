package dimse

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// keys makes PEM files in a folder of the test: an authority, and certificates that it signed, <name>.pem and <name>.key.
func keys(t testing.TB, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caKey := writeCert(t, dir, "ca", ca, ca, nil)
	for i, name := range names {
		writeCert(t, dir, name, &x509.Certificate{SerialNumber: big.NewInt(int64(i + 2)), Subject: pkix.Name{CommonName: name}, NotBefore: ca.NotBefore,
			NotAfter: ca.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature, DNSNames: []string{name, "localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}, ca, caKey)
	}
	return dir
}

func writeCert(t testing.TB, dir, name string, c, parent *x509.Certificate, signer *ecdsa.PrivateKey) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return key
}

func TestTLSBetweenOwnEnds(t *testing.T) {
	dir := keys(t, "server", "modality")
	other := keys(t, "modality")
	at := func(dir, name string) string { return filepath.Join(dir, name) }
	server, err := ServerTLS(at(dir, "server.pem"), at(dir, "server.key"), at(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if server.MinVersion != tls.VersionTLS12 || server.MaxVersion != 0 {
		t.Errorf("versions %x to %x", server.MinVersion, server.MaxVersion)
	}
	h := newShelf()
	s := serverOf(h)
	s.TLS, s.Timeouts = server, brief
	up := serve(t, s, time.Second)
	data := noise(1 << 20)
	good, err := ClientTLS(at(dir, "modality.pem"), at(dir, "modality.key"), at(dir, "ca.pem"), "server")
	if err != nil {
		t.Fatal(err)
	}
	a, err := Request(t.Context(), tls.Client(dial(t, up.address), good), plain())
	if err != nil {
		t.Fatal(err)
	}
	if p := a.Peer(); p.TLS == nil || p.TLS.Version != tls.VersionTLS13 {
		t.Errorf("peer %+v", p)
	}
	if r, err := a.Store(t.Context(), storeOf(a, "1.2.3", bytes.NewReader(data))); err != nil || r.Status != StatusSuccess {
		t.Errorf("store: %v %v", r, err)
	}
	if err := a.Release(t.Context()); err != nil {
		t.Error(err)
	}
	foreign, _ := ClientTLS(at(other, "modality.pem"), at(other, "modality.key"), at(dir, "ca.pem"), "server")
	none, _ := ClientTLS("", "", at(dir, "ca.pem"), "server")
	misnamed, _ := ClientTLS(at(dir, "modality.pem"), at(dir, "modality.key"), at(dir, "ca.pem"), "elsewhere")
	distrusting, _ := ClientTLS(at(dir, "modality.pem"), at(dir, "modality.key"), at(other, "ca.pem"), "server")
	old := good.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	weak := good.Clone()
	weak.MaxVersion, weak.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
	for name, c := range map[string]*tls.Config{"foreign": foreign, "none": none, "misnamed": misnamed, "distrusting": distrusting, "old": old, "weak": weak} {
		if a, err := Request(t.Context(), tls.Client(dial(t, up.address), c), plain()); err == nil {
			t.Errorf("%s: let in", name)
			a.Abort()
		} else if gantry.KindOf(err) != gantry.Denied || gantry.CodeOf(err) != CodeTLS {
			t.Errorf("%s: %v", name, err)
		}
	}
	if a, err := Request(t.Context(), dial(t, up.address), plain()); err == nil {
		t.Error("without TLS: let in")
		a.Abort()
	}
	twelve := good.Clone()
	twelve.MaxVersion = tls.VersionTLS12
	if a, err := Request(t.Context(), tls.Client(dial(t, up.address), twelve), plain()); err != nil {
		t.Errorf("TLS 1.2: %v", err)
	} else if err := a.Release(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTLSFilesThatCannotBeUsed(t *testing.T) {
	dir := keys(t, "one", "two")
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, err := range map[string]error{
		"no file":      second(ServerTLS(at("none.pem"), at("one.key"), "")),
		"other key":    second(ServerTLS(at("one.pem"), at("two.key"), "")),
		"no authority": second(ServerTLS(at("one.pem"), at("one.key"), at("none"))),
		"key as CA":    second(ClientTLS("", "", at("one.key"), "x")),
		"no name":      second(ClientTLS("", "", "", "")),
		"half a pair":  second(ClientTLS(at("one.pem"), "", "", "x")),
		"no CA file":   second(ClientTLS("", "", at("none"), "x")),
	} {
		if gantry.KindOf(err) != gantry.Illegal || gantry.CodeOf(err) != CodeBadTLS {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestHandshakesThatBreak are not refusals: asking again may go differently.
func TestHandshakesThatBreak(t *testing.T) {
	c, err := ClientTLS("", "", filepath.Join(keys(t), "ca.pem"), "server")
	if err != nil {
		t.Fatal(err)
	}
	p := plain()
	p.Timeouts = brief
	for name, x := range map[string]struct {
		play func(raw)
		kind gantry.Kind
		code gantry.Code
	}{
		"closed":   {func(raw) {}, gantry.Transient, CodeConnectionLost},
		"silent":   {func(r raw) { r.expectEnd() }, gantry.Timeout, CodeArtim},
		"no TLS":   {func(r raw) { r.say(encodeAbort(0, 0)); r.expectEnd() }, gantry.Denied, CodeTLS},
		"an alert": {func(r raw) { r.say([]byte{21, 3, 3, 0, 2, 2, 40}); r.expectEnd() }, gantry.Denied, CodeTLS},
	} {
		_, err := Request(t.Context(), tls.Client(dial(t, acceptor(t, x.play)), c), p)
		if gantry.KindOf(err) != x.kind || gantry.CodeOf(err) != x.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := Request(ctx, tls.Client(dial(t, acceptor(t, func(r raw) { r.expectEnd() })), c), plain()); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}

func second(_ *tls.Config, err error) error { return err }
