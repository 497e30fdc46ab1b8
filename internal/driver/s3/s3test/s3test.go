// Package s3test runs a real S3 server for tests: versitygw on 127.0.0.1, on a folder that goes
// with the test; and a real SQS server (queue.go). The servers are built once and kept in the user's cache.
package s3test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

const version = "1.8.0"

// Server is a running S3 server with versioning available. Its one account is the root user.
type Server struct {
	Endpoint  string // http://127.0.0.1:PORT
	AccessKey string
	SecretKey string
}

// Start runs a server until the test ends. A test that cannot get one fails.
func Start(t testing.TB) *Server { return start(t) }

// StartTelling runs a server that sends an event of each change of each bucket to a URL, which has to answer before
// the server begins.
func StartTelling(t testing.TB, hook string) *Server {
	return start(t, "--event-webhook-url", hook)
}

func start(t testing.TB, flags ...string) *Server {
	t.Helper()
	binary := Binary(t)
	address := freeAddress(t)
	data, versions := t.TempDir(), t.TempDir()
	s := &Server{Endpoint: "http://" + address, AccessKey: "gantry", SecretKey: "gantry-test-secret"}
	flags = append([]string{"--port", address, "--quiet", "--health", "/health"}, flags...)
	cmd := exec.Command(binary, append(flags, "posix", "--versioning-dir", versions, data)...)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+s.AccessKey, "ROOT_SECRET_KEY="+s.SecretKey)
	run(t, cmd, s.Endpoint+"/health")
	return s
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// run runs a server until the test ends, and waits until it answers.
func run(t testing.TB, cmd *exec.Cmd, health string) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get(health)
		if err != nil {
			continue
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return
		}
	}
	t.Fatal("the server does not answer")
}

// Binary is the path of the server's program, which is built if it is not there.
func Binary(t testing.TB) string {
	t.Helper()
	binary, err := build()
	if err != nil {
		t.Fatalf("get an S3 server: %v", err)
	}
	return binary
}

// build finds versitygw, and makes it if it is not there.
func build() (string, error) {
	return cached("versitygw-"+version, "versitygw", func(dir string) *exec.Cmd {
		cmd := exec.Command("go", "install", "github.com/versity/versitygw/cmd/versitygw@v"+version)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOBIN="+dir)
		return cmd
	})
}

// cached gives a program in a folder of the user's cache. If it is not there it is made, under a lock, by a command that
// gets the folder.
func cached(folder, name string, command func(dir string) *exec.Cmd) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "gantry-tools", folder)
	binary := filepath.Join(dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	if out, err := command(dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", name, err, out)
	}
	return binary, nil
}
