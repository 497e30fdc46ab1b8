// Package dimsetest runs real peers on the DICOM network for tests: dcmtk's storescp and dcmqrscp, Orthanc, and the tools that call.
// peer.go starts and ends programs, scp.go and orthanc.go are the servers, run.go the tools, authority.go certificates, study.go
// something to send. What takes a test fails it; what gives an error is for benchmarks. The servers of dcmtk and Orthanc's DICOM port
// listen on all addresses, having no setting for it; they know each other as 127.0.0.1. Each gets TCP_NODELAY=1, without which dcmtk
// takes 50 ms for an image.
package dimsetest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// packages says which package of Debian holds a program.
var packages = map[string]string{
	"storescp": "dcmtk", "dcmqrscp": "dcmtk", "echoscu": "dcmtk", "storescu": "dcmtk", "dcmsend": "dcmtk", "findscu": "dcmtk", "movescu": "dcmtk",
	"dcmdump": "dcmtk", "dcmconv": "dcmtk", "gdcmscu": "libgdcm-tools", "Orthanc": "orthanc", "dicomweb": "orthanc-dicomweb",
}

// Find gives the path of a program of a peer. An error names the package of Debian that holds it.
func Find(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + program)
	}
	if err != nil {
		return "", fmt.Errorf("no %s; Debian's package %s holds it, and make deps-test installs it", program, packages[program])
	}
	return path, nil
}

// Peer is a server of another make under way.
type Peer struct {
	AET  string // its AE title
	Port int    // of DICOM, on 127.0.0.1
	PID  int    // of the process that listens, which leads a group of its own
	Dir  string // what it received lies there

	cmd  *exec.Cmd
	said *buffer
	done chan struct{}
}

// Address is host and port.
func (p *Peer) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.Port)) }

// At is host and port as the tools of dcmtk take them.
func (p *Peer) At() []string { return []string{"127.0.0.1", strconv.Itoa(p.Port)} }

// Output is all that it wrote so far.
func (p *Peer) Output() string { return p.said.String() }

// Stop kills the process, and those it forked. It may be called again.
func (p *Peer) Stop() {
	syscall.Kill(-p.PID, syscall.SIGKILL)
	<-p.done
}

// Received lists the files below Dir that hold DICOM, in the order of their names; those that are being written too.
func (p *Peer) Received() ([]string, error) {
	var files []string
	err := filepath.WalkDir(p.Dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // it was renamed meanwhile
		case err != nil || e.IsDir():
			return err
		}
		head := make([]byte, 132)
		f, err := os.Open(path)
		if err != nil {
			return nil
		}
		defer f.Close()
		if n, _ := f.ReadAt(head, 0); n == len(head) && string(head[128:]) == "DICM" {
			files = append(files, path)
		}
		return nil
	})
	return files, err
}

// start runs a server and returns once it listens. Port is of DICOM; args gets it. If the port was taken meanwhile it tries others.
func start(program, dir string, args func(port int) ([]string, error)) (*Peer, error) {
	path, err := Find(program)
	if err != nil {
		return nil, err
	}
	var p *Peer
	for range 3 {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		list, err := args(port)
		if err != nil {
			return nil, err
		}
		p = &Peer{Port: port, Dir: dir, said: &buffer{}, done: make(chan struct{}), cmd: exec.Command(path, list...)}
		p.cmd.Env = environment()
		p.cmd.Stdout, p.cmd.Stderr = p.said, p.said
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := p.cmd.Start(); err != nil {
			return nil, err
		}
		p.PID = p.cmd.Process.Pid
		go func() { p.cmd.Wait(); close(p.done) }()
		if p.listens() {
			return p, nil
		}
		p.Stop()
	}
	return nil, fmt.Errorf("%s does not listen: %.2000s", program, p.Output())
}

// listens waits until the port answers.
func (p *Peer) listens() bool {
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		if c, err := net.DialTimeout("tcp", p.Address(), time.Second); err == nil {
			c.Close()
			return true
		}
		select {
		case <-p.done:
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
	return false
}

// environment is this process's, with Nagle's algorithm off in dcmtk.
func environment() []string { return append(os.Environ(), "TCP_NODELAY=1") }

// freePort finds a port that nobody listens on, below those that the system gives to connections.
func freePort() (int, error) {
	for range 100 {
		port := 15000 + rand.IntN(17000)
		l, err := net.Listen("tcp", ":"+strconv.Itoa(port))
		if err == nil {
			l.Close()
			return port, nil
		}
	}
	return 0, errors.New("no free port")
}

// FreePort gives a port of 127.0.0.1 that nobody listens on.
func FreePort(t testing.TB) int {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// until makes a peer end with its test, and shows what it wrote if that failed.
func until(t testing.TB, name string, p *Peer, err error) *Peer {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Stop()
		if said := p.Output(); t.Failed() && said != "" {
			t.Logf("%s wrote:\n%s", name, said[max(0, len(said)-8000):])
		}
	})
	return p
}

// Wait waits until n files were received, for at most a minute, and gives them. It does not wait for the last to be whole:
// that is so once the association that brought it has ended.
func (p *Peer) Wait(t testing.TB, n int) []string {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		files, err := p.Received()
		if err != nil {
			t.Fatal(err)
		}
		if len(files) >= n {
			return files
		}
		if time.Now().After(end) {
			t.Fatalf("%d of %d files came to %s", len(files), n, p.AET)
		}
	}
}

// buffer keeps what a process writes.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends.
func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String is all of it, as valid UTF-8.
func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.ToValidUTF8(b.b.String(), "?")
}
