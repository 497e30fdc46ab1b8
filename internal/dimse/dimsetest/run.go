package dimsetest

import (
	"context"
	"errors"
	"os/exec"
	"testing"
	"time"
)

// Result is what a program did.
type Result struct {
	Output string // standard output and errors in one
	Exit   int    // its exit code; -1 if it was killed
}

// Run runs a program of a peer, such as echoscu, storescu, dcmsend, findscu or gdcmscu, for at most five minutes, and gives what it
// wrote, however it ended.
func Run(t testing.TB, program string, args ...string) Result {
	t.Helper()
	path, err := Find(program)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, path, args...)
	said := &buffer{}
	c.Env, c.Stdout, c.Stderr = environment(), said, said
	err = c.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("run %s: %v", program, err)
	}
	return Result{Output: said.String(), Exit: c.ProcessState.ExitCode()}
}

// Must is Run of a program that has to end well.
func Must(t testing.TB, program string, args ...string) string {
	t.Helper()
	r := Run(t, program, args...)
	if r.Exit != 0 {
		t.Fatalf("%s ended with %d:\n%s", program, r.Exit, r.Output[max(0, len(r.Output)-8000):])
	}
	return r.Output
}
