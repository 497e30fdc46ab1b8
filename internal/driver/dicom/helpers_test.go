package dicom

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/blob"
	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/sample"
)

// object is an instance as a sender has it.
type object struct {
	class, uid, syntax string
	set                []byte // its data set
}

// split takes a Part 10 file apart.
func split(t testing.TB, file []byte) (o object) {
	t.Helper()
	at := 132
	for at+8 <= len(file) && file[at] == 2 && file[at+1] == 0 {
		number, vr, n, head := binary.LittleEndian.Uint16(file[at+2:]), string(file[at+4:at+6]), int(binary.LittleEndian.Uint16(file[at+6:])), 8
		if vr == "OB" {
			n, head = int(binary.LittleEndian.Uint32(file[at+8:])), 12
		}
		value := strings.TrimRight(string(file[at+head:at+head+n]), "\x00 ")
		switch number {
		case 0x02:
			o.class = value
		case 0x03:
			o.uid = value
		case 0x10:
			o.syntax = value
		}
		at += head + n
	}
	o.set = file[at:]
	return o
}

// slices gives instances of one series.
func series(t testing.TB, n, size int) (out []object) {
	t.Helper()
	files, err := sample.CT(n, size)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		out = append(out, split(t, f))
	}
	return out
}

// valid gives the DICOM files of the corpus that are sound and not a directory.
func valid(t testing.TB) (names []string, dir string) {
	t.Helper()
	dir = os.Getenv("GANTRY_CORPUS")
	if dir == "" {
		t.Skip("GANTRY_CORPUS is not set: it names the folder with manifest.json")
	}
	b, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []struct{ Path, Kind, Expect string }
	if err := json.Unmarshal(b, &rows); err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if r.Kind == "dicom" && strings.HasPrefix(r.Expect, "accept") {
			names = append(names, r.Path)
		}
	}
	if len(names) < 100 {
		t.Fatalf("%d sound files in the corpus", len(names))
	}
	return names, dir
}

// store opens a blob store of its own.
func store(t testing.TB) *blob.Dir {
	t.Helper()
	d, err := blob.OpenDir(t.Context(), blob.Options{Dir: t.TempDir(), Worker: 1, Key: make([]byte, 32), SegmentSize: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// keeper takes what a source receives, as long as nothing is wrong.
type keeper struct {
	t     testing.TB
	blobs *blob.Dir

	mu     sync.Mutex
	err    error
	got    []gantry.Inbound
	files  map[string][]byte // by ref
	visits []gantry.Visit
	debts  map[int64]*debt
}

func newKeeper(t testing.TB) *keeper {
	return &keeper{t: t, blobs: store(t), files: map[string][]byte{}}
}

func (k *keeper) Coming(_ context.Context, ref string) gantry.Ahead { return ref }

func (k *keeper) Received(ctx context.Context, x gantry.Inbound) (bool, error) {
	k.mu.Lock()
	err := k.err
	k.mu.Unlock()
	if err != nil {
		return false, err
	}
	where, err := x.Staged.Commit(ctx)
	if err != nil {
		return false, err
	}
	b, err := k.blobs.Open(ctx, where)
	if err != nil {
		return false, err
	}
	defer b.Close()
	file, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	k.mu.Lock()
	defer k.mu.Unlock()
	_, known := k.files[x.Ref]
	k.got, k.files[x.Ref] = append(k.got, x), file
	return known, err
}

func (k *keeper) OnRecord(_ context.Context, refs []string) ([]bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := make([]bool, len(refs))
	for i, ref := range refs {
		_, out[i] = k.files[ref]
	}
	return out, k.err
}

func (k *keeper) Visited(v gantry.Visit) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.visits = append(k.visits, v)
}

func (k *keeper) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err = err
}

func (k *keeper) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.got)
}

// steps counts the visits of a step and a code.
func (k *keeper) steps(step gantry.VisitStep, code gantry.Code) (n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, v := range k.visits {
		if v.Step == step && v.Code == code {
			n++
		}
	}
	return n
}

// free gives an address that nobody listens at.
func free(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// open makes a source that gives what it receives to k.
func open(t testing.TB, k *keeper, c SourceConfig) *source {
	t.Helper()
	s, err := NewSource(t.Context(), c, drivertest.Egress(t))
	if err != nil {
		t.Fatal(err)
	}
	s.(gantry.Receiving).Receive(k)
	return s.(*source)
}

// ajar makes a port on which somebody is called; it does not listen yet.
func ajar(t testing.TB, blobs func() (gantry.Blobs, error), who ...Called) *Port {
	t.Helper()
	p := NewPort(Options{Blobs: blobs, Grace: time.Second, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	for _, c := range who {
		if err := p.Add(c); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// serve has a port listen until the test ends.
func serve(t testing.TB, p *Port) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Serve(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(stop)
	for !p.ready() {
		time.Sleep(time.Millisecond)
	}
	return stop
}

func (p *Port) ready() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.serving != nil
}

// writePair writes a certificate of a name, signed by another or by itself, and gives the files of both.
func writePair(t testing.TB, dir, name string, by *signer) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name + ".test"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, IsCA: by == nil, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	parent, signing := c, private
	if by != nil {
		parent, signing = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &private.PublicKey, signing)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// signer signs certificates.
type signer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}
