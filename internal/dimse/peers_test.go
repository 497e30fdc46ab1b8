package dimse

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/sample"
)

// dcmtk makes a command of one of its programs; the tests need it.
func dcmtk(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is not installed: this test needs dcmtk", name)
	}
	c := exec.CommandContext(t.Context(), path, args...)
	c.Env = append(os.Environ(), "TCP_NODELAY=1")
	return c
}

// said runs a program that has to succeed.
func said(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := dcmtk(t, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// series writes the files of a series and gives the digests of their data sets by instance.
func series(t testing.TB, n, size int) (dir string, sums map[string][32]byte) {
	t.Helper()
	files, err := sample.CT(n, size)
	if err != nil {
		t.Fatal(err)
	}
	dir, sums = t.TempDir(), map[string][32]byte{}
	for i, f := range files {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%03d.dcm", i)), f, 0o600); err != nil {
			t.Fatal(err)
		}
		instance, data := split(t, f)
		sums[instance] = sha256.Sum256(data)
	}
	return dir, sums
}

// split takes a Part 10 file apart: Media Storage SOP Instance UID and data set.
func split(t testing.TB, file []byte) (string, []byte) {
	t.Helper()
	meta := file[132:]
	n := 12 + int(uint32(meta[8])|uint32(meta[9])<<8|uint32(meta[10])<<16)
	set, err := decodeDataset(meta[:n], ExplicitLE)
	if err != nil {
		t.Fatal(err)
	}
	return set.Get(2, 3), meta[n:]
}

func (s *shelf) all() map[string][32]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string][32]byte{}
	for k, v := range s.sums {
		out[k] = v
	}
	return out
}

func sameSums(t *testing.T, who string, got, want map[string][32]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d instances, want %d", who, len(got), len(want))
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s: an instance did not come as it was", who)
		}
	}
}

// TestTheirClients has dcmtk's programs call us, over plain TCP and over TLS with certificates on both sides.
func TestTheirClients(t *testing.T) {
	dir, sums := series(t, 12, 128)
	pem := keys(t, "server", "modality")
	at := func(name string) string { return filepath.Join(pem, name) }
	secure, err := ServerTLS(at("server.pem"), at("server.key"), at("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*tls.Config{"plain": nil, "tls": secure} {
		t.Run(name, func(t *testing.T) {
			var extra []string
			if c != nil {
				extra = []string{"+tls", at("modality.key"), at("modality.pem"), "+cf", at("ca.pem")}
			}
			h := newShelf()
			s := serverOf(nil)
			s.TLS = c
			s.Admit = func(_ context.Context, p Proposal) (Terms, error) {
				if p.Called != "GANTRY" || p.Calling != "THEM" || !strings.HasPrefix(p.Version, "OFFIS") {
					t.Errorf("proposal %+v", p.Peer)
				}
				return Terms{Handler: h, Accept: takeAll}, nil
			}
			up := serve(t, s, time.Second)
			host, port, _ := net.SplitHostPort(up.address)
			call := []string{"-aet", "THEM", "-aec", "GANTRY", host, port}
			said(t, "echoscu", append(extra, call...)...)
			<-h.ends
			for _, program := range [][]string{{"storescu", "-R", "+sd"}, {"dcmsend", "+sd"}, {"storescu", "-pdu", "4096", "+sd"}, {"storescu", "+sd", "-pdu", "131072"}} {
				if c != nil && program[0] == "dcmsend" {
					continue // it has no TLS
				}
				h.clear()
				said(t, program[0], append(append(append(extra, program[1:]...), call...), dir)...)
				sameSums(t, program[0], h.all(), sums)
				if err := <-h.ends; err != nil {
					t.Errorf("%s: ended with %v", program[0], err)
				}
			}
			if out, err := dcmtk(t, "echoscu", append(append(extra, "--abort"), call...)...).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			if err := <-h.ends; err == nil {
				t.Error("an abort ended without an error")
			}
		})
	}
}

// TestTheirRejections has dcmtk's echoscu say how we rejected it.
func TestTheirRejections(t *testing.T) {
	for want, r := range map[string]*Rejection{
		"Called AE Title Not Recognized":  {Source: 1, Reason: 7},
		"Calling AE Title Not Recognized": {Source: 1, Reason: 3},
		"Local Limit Exceeded":            rejectLimit(),
		"Rejected Transient":              {Transient: true, Source: 3, Reason: 1},
		"No Reason":                       rejectNoReason(),
	} {
		s := serverOf(nil)
		s.Admit = func(context.Context, Proposal) (Terms, error) { return Terms{}, r }
		up := serve(t, s, time.Second)
		host, port, _ := net.SplitHostPort(up.address)
		out, err := dcmtk(t, "echoscu", host, port).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%v: %v\n%s", r, err, out)
		}
		if err := up.stop(); err != nil {
			t.Error(err)
		}
	}
}

// storescp starts dcmtk's server on a free port, which has to be told it.
func storescp(t testing.TB, args ...string) (address, dir string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	dir = t.TempDir()
	c := dcmtk(t, "storescp", append(args, "+B", "-od", dir, strconv.Itoa(port))...)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
		if t.Failed() {
			t.Logf("storescp: %s", out.String())
		}
	})
	address = l.Addr().String()
	for range 200 {
		if conn, err := net.Dial("tcp", address); err == nil {
			_ = conn.Close()
			return address, dir
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("storescp does not answer: %s", out.String())
	return "", ""
}

// TestTheirServer sends to dcmtk's storescp, over plain TCP and TLS, with PDUs of the smallest and the largest size that it takes.
func TestTheirServer(t *testing.T) {
	files, err := sample.CT(6, 256)
	if err != nil {
		t.Fatal(err)
	}
	pem := keys(t, "server", "modality")
	at := func(name string) string { return filepath.Join(pem, name) }
	client, err := ClientTLS(at("modality.pem"), at("modality.key"), at("ca.pem"), "server")
	if err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"small": {"-pdu", "4096"}, "large": {"-pdu", "131072"}, "tls": {"+tls", at("server.key"), at("server.pem"), "+cf", at("ca.pem")},
	} {
		address, dir := storescp(t, args...)
		conn := dial(t, address)
		if name == "tls" {
			conn = tls.Client(conn, client)
		}
		a, err := Request(t.Context(), conn, plain())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if r, err := a.Echo(t.Context()); err != nil || r.Status != StatusSuccess {
			t.Errorf("%s: echo %v %v", name, r, err)
		}
		for _, f := range files {
			instance, data := split(t, f)
			if r, err := a.Store(t.Context(), storeOf(a, instance, bytes.NewReader(data))); err != nil || r.Status != StatusSuccess {
				t.Fatalf("%s: store %v %v", name, r, err)
			}
			kept, err := os.ReadFile(filepath.Join(dir, "CT."+instance))
			if err != nil {
				t.Fatal(err)
			}
			if _, got := split(t, kept); !bytes.Equal(got, data) {
				t.Errorf("%s: it keeps another data set", name)
			}
		}
		if err := a.Release(t.Context()); err != nil {
			t.Errorf("%s: release %v", name, err)
		}
	}
}

// TestTheirRefusal has dcmtk's storescp reject us.
func TestTheirRefusal(t *testing.T) {
	address, _ := storescp(t, "--refuse")
	_, err := Request(t.Context(), dial(t, address), plain())
	t.Log(err)
	if err == nil {
		t.Error("it accepts")
	}
}
