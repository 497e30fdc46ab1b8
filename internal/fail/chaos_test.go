package fail_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// program passes two points three times and says so.
const program = `package main

import (
	"fmt"

	"github.com/gantry-imaging/gantry/internal/fail"
)

func main() {
	for n := range 3 {
		fail.Point("here")
		fmt.Println(n)
		fail.Point("there")
	}
}
`

// TestPointsOfAProcess builds a program with the tag chaos and without, and lets it die and stand still.
func TestPointsOfAProcess(t *testing.T) {
	t.Parallel()
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("testdata", "program-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir); os.Remove("testdata") })
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(program), 0o644); err != nil {
		t.Fatal(err)
	}
	build := func(name string, flags ...string) string {
		file := filepath.Join(t.TempDir(), name)
		if out, err := exec.Command("go", append(append([]string{"build"}, flags...), "-o", file, "./"+dir)...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return file
	}
	chaos, plain := build("chaos", "-tags", "chaos"), build("plain")
	hits := filepath.Join(t.TempDir(), "hits")
	for _, c := range []struct {
		binary, env, out string
		code             int
		signal           syscall.Signal
	}{
		{plain, "here:kill:1", "0\n1\n2\n", 0, 0},
		{chaos, "", "0\n1\n2\n", 0, 0},
		{chaos, "here:kill:1", "", -1, syscall.SIGKILL},
		{chaos, "elsewhere:kill:1,there:kill:2", "0\n1\n", -1, syscall.SIGKILL},
		{chaos, "there:kill:4", "0\n1\n2\n", 0, 0},
		{chaos, "here:exit:3", "0\n1\n", 3, 0},
		{chaos, "here:melt:3", "", 2, 0},
		{chaos, "here:kill", "", 2, 0},
		{chaos, "here:kill:0", "", 2, 0},
	} {
		var out strings.Builder
		x := exec.Command(c.binary)
		x.Env, x.Stdout = append(os.Environ(), "GANTRY_FAIL="+c.env, "GANTRY_FAIL_HITS="+hits), &out
		err := x.Run()
		code, signal := 0, syscall.Signal(0)
		if e, ok := errors.AsType[*exec.ExitError](err); ok {
			code = e.ExitCode()
			if s := e.Sys().(syscall.WaitStatus); s.Signaled() {
				signal = s.Signal()
			}
		}
		if out.String() != c.out || code != c.code || signal != c.signal {
			t.Errorf("%s: %q, exit %d, signal %v", c.env, out.String(), code, signal)
		}
	}
	b, err := os.ReadFile(hits)
	if err != nil || !strings.Contains(string(b), "here\nthere\n") {
		t.Errorf("hits %q: %v", b, err)
	}
	stopped(t, chaos)
}

// stopped lets a process stand still, and go on.
func stopped(t *testing.T, binary string) {
	t.Helper()
	x := exec.Command(binary)
	x.Env = append(os.Environ(), "GANTRY_FAIL=here:stop:2")
	if err := x.Start(); err != nil {
		t.Fatal(err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(x.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Errorf("it did not stop: %v %v", status, err)
	}
	time.AfterFunc(10*time.Millisecond, func() { x.Process.Signal(syscall.SIGCONT) })
	if err := x.Wait(); err != nil {
		t.Errorf("it did not go on: %v", err)
	}
}
