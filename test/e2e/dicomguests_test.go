package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/dimse/dimsetest"
	"github.com/gantry-imaging/gantry/internal/models"
)

// guestPipeline takes what peers with a certificate of the authority send, or anybody, by what stands in it.
const guestPipeline = `gantry: v1
name: guests
sources: {modality: {kind: dicom, aet: GANTRY, listen: "127.0.0.1:%d"%s}}
group: {by: study, quiet: 12h}
stages: [{name: pass, call: mirror}]
processors: {mirror: {kind: http, url: %q}}
sinks: {results: {kind: dir, path: %q}}
`

// guests is a gantry that peers call.
type guests struct {
	installation
	*process
	listen int
}

func newGuests(t *testing.T, keys string) *guests {
	t.Helper()
	services := httptest.NewServer(models.Handler(models.Options{}))
	t.Cleanup(services.Close)
	g := &guests{installation: install(t), listen: dimsetest.FreePort(t)}
	g.process = g.serve(t, write(t, folder(t), "guests.yaml", fmt.Sprintf(guestPipeline, g.listen, keys, services.URL+"/v1/identity", folder(t))))
	g.ready(t)
	return g
}

// TestCertificates lets in a peer with a certificate of the authority that bears the name in the list, and nobody else. dcmtk is the peer.
func TestCertificates(t *testing.T) {
	a, other := dimsetest.NewAuthority(t), dimsetest.NewAuthority(t)
	own := a.Issue(t, "gantry")
	g := newGuests(t, fmt.Sprintf(`, cert: %q, key: %q, ca: %q, allow: [{aet: CT1, certificate: ct1.ward}]`, own.Cert, own.Key, own.CA))
	friend := a.Issue(t, "ct1", "ct1.ward")
	at := []string{"-aec", "GANTRY", "127.0.0.1", strconv.Itoa(g.listen)}
	for _, x := range []struct {
		who, title string
		shows      []string
		in         bool
	}{
		{"the friend", "CT1", friend.Arguments(), true},
		{"the friend's certificate under another title", "CT2", friend.Arguments(), false},
		{"another name of the same authority", "CT1", a.Issue(t, "ct2", "ct2.ward").Arguments(), false},
		{"the right name of another authority", "CT1", dimsetest.Identity{Cert: other.Issue(t, "ct1", "ct1.ward").Cert, Key: other.Issue(t, "ct1").Key, CA: a.File}.Arguments(), false},
		{"a certificate that is over", "CT1", a.IssueUntil(t, time.Now().Add(-time.Minute), "ct1", "ct1.ward").Arguments(), false},
		{"no certificate", "CT1", []string{"+tla", "+cf", a.File}, false},
		{"no TLS", "CT1", nil, false},
		{"one who does not trust gantry's authority", "CT1", dimsetest.Identity{Cert: friend.Cert, Key: friend.Key, CA: other.File}.Arguments(), false},
	} {
		r := dimsetest.Run(t, "echoscu", slices.Concat(x.shows, []string{"-aet", x.title}, at)...)
		if (r.Exit == 0) != x.in {
			t.Errorf("%s: echoscu ended with %d:\n%s", x.who, r.Exit, r.Output)
		}
		if x.in {
			r := dimsetest.Run(t, "echoscu", slices.Concat([]string{"-d", "-aet", x.title}, x.shows, at)...)
			said(t, "echoscu-tls", "echoscu -d -aet CT1 +tls KEY CERTIFICATE +cf CA -aec GANTRY 127.0.0.1 PORT", lines(r.Output, `TLS|Transport|Protocol|Cipher|Encryption|Association|Echo`))
		}
	}
	s := dimsetest.NewStudy(t, 2, 32)
	dimsetest.Must(t, "storescu", slices.Concat(friend.Arguments(), []string{"-aet", "CT1"}, at, s.Files)...)
	if n := openLedger(t, g.installation).count(t, `select count(*) from arrival`); n != 2 {
		t.Errorf("%d instances are on record", n)
	}
}

// manyAssociations is how many come one after another, from callers in turns.
const manyAssociations, callersAtOnce = 10_000, 16

// TestManyAssociations has ten thousand associations come and go, in order, by abort, by a connection that breaks and without ever
// saying a word, while a hundred peers are silent from the beginning. Memory, sockets and goroutines have to be what they were.
func TestManyAssociations(t *testing.T) {
	g := newGuests(t, ", allow_any: true")
	for range 200 {
		g.visit(t, 0)
	}
	rss, sockets := g.memory(t, "VmRSS"), g.sockets(t)
	silent := g.silence(t, 100)
	began := time.Now()
	var next, failed atomic.Int64
	var all sync.WaitGroup
	for range callersAtOnce {
		all.Go(func() {
			for n := next.Add(1); n <= manyAssociations; n = next.Add(1) {
				if !g.visit(t, int(n)) {
					failed.Add(1)
				}
			}
		})
	}
	all.Wait()
	t.Logf("%d associations in %s", manyAssociations, time.Since(began).Round(time.Millisecond))
	if failed.Load() > 0 {
		t.Errorf("%d associations failed", failed.Load())
	}
	silent(t)
	eventually(t, 10*time.Second, "sockets to be closed", func() bool { return g.sockets(t) <= sockets+4 })
	after, peak := g.memory(t, "VmRSS"), g.memory(t, "VmHWM")
	t.Logf("resident %d MiB before, %d after, %d at most", rss>>10, after>>10, peak>>10)
	if peak > 96<<10 {
		t.Errorf("it took %d MiB", peak>>10)
	}
}

// visit asks for an association, and ends it in one of several ways. False says that it was not let in as it should be.
func (g *guests) visit(t *testing.T, n int) bool {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", g.listen))
	if err != nil {
		return false
	}
	defer conn.Close()
	if n%5 == 4 {
		return true // it hangs up without a word
	}
	called := "GANTRY"
	if n%5 == 3 {
		called = "NOBODY"
	}
	a, err := dimse.Request(ctx, conn, dimse.Params{Calling: "GUEST", Called: called, Contexts: []dimse.Context{{Abstract: dimse.Verification, Transfer: []string{dimse.ImplicitLE}}}})
	if called != "GANTRY" {
		return err != nil
	}
	if err != nil {
		return false
	}
	defer a.Abort()
	if r, err := a.Echo(ctx); err != nil || r.Status != dimse.StatusSuccess {
		return false
	}
	switch n % 5 {
	case 1:
		a.Abort()
	case 2:
		conn.Close() // in the middle
	default:
		return a.Release(ctx) == nil
	}
	return true
}

// silence connects so many peers that say nothing, half of them after a beginning. What it gives wants them to be hung up on within the time
// that an association may take to be asked for.
func (g *guests) silence(t *testing.T, n int) func(*testing.T) {
	t.Helper()
	began := time.Now()
	conns := make([]net.Conn, n)
	for i := range conns {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", g.listen))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if i%2 == 1 {
			c.Write([]byte{1, 0, 0, 0, 2, 0, 0, 1}) // an A-ASSOCIATE-RQ of which nothing more comes
		}
		conns[i] = c
	}
	return func(t *testing.T) {
		t.Helper()
		for i, c := range conns {
			c.SetReadDeadline(began.Add(45 * time.Second))
			for b := make([]byte, 64); ; {
				_, err := c.Read(b)
				if ne, ok := err.(net.Error); ok && ne.Timeout() {
					t.Errorf("silent peer %d is still connected", i)
				}
				if err != nil {
					break
				}
			}
		}
	}
}

// memory is a figure of the process's memory in KiB.
func (p *process) memory(t *testing.T, field string) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			n, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			return n
		}
	}
	t.Fatalf("no %s", field)
	return 0
}

// sockets counts those that the process has open.
func (p *process) sockets(t *testing.T) (n int) {
	t.Helper()
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}
