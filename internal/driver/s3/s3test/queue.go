package s3test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// Queues is a running SQS server. It takes any credentials.
type Queues struct {
	Endpoint string // http://127.0.0.1:PORT
}

// StartQueues runs an SQS server until the test ends: goaws, by the module test/sqsd.
func StartQueues(t testing.TB) *Queues {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	source := filepath.Join(filepath.Dir(file), "..", "..", "..", "..", "test", "sqsd")
	sum := sha256.New()
	for _, name := range []string{"main.go", "go.mod"} {
		b, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			t.Fatal(err)
		}
		sum.Write(b)
	}
	binary, err := cached("sqsd-"+hex.EncodeToString(sum.Sum(nil)[:6]), "sqsd", func(dir string) *exec.Cmd {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "sqsd"), ".")
		cmd.Dir = source
		return cmd
	})
	if err != nil {
		t.Fatalf("get an SQS server: %v", err)
	}
	address := freeAddress(t)
	q := &Queues{Endpoint: "http://" + address}
	run(t, exec.Command(binary, address), q.Endpoint+"/health")
	return q
}
