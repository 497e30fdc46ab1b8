package slack

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

// In a process of its own this package's test is a program that widens its slack, or leaves it, and says on what terms its threads are.
const role = "SLACK_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "widen":
		Widen()
		fallthrough
	case "leave":
		for range 8 {
			os.Stdout.WriteString(onNewThread().String() + "\n")
		}
		os.Stdout.WriteString(strings.Join(os.Args[1:], " ") + "\n")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// onNewThread is the slack of a thread that was not there before.
func onNewThread() time.Duration {
	told := make(chan time.Duration)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		told <- Now()
	}()
	return <-told
}

// program runs this test's binary in a role, from a thread with the usual slack.
func program(t *testing.T, as string) []string {
	t.Helper()
	c := exec.Command(os.Args[0], "two", "words")
	c.Env = append(os.Environ(), role+"="+as)
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// TestWiden: every thread of a process that widened its slack has it, with the arguments kept; one that did not has the usual.
func TestWiden(t *testing.T) {
	if Now() >= Wide {
		t.Fatalf("the test began with a slack of %s: nothing can be seen", Now())
	}
	for as, want := range map[string]time.Duration{"widen": Wide, "leave": Now()} {
		lines := program(t, as)
		last := len(lines) - 1
		if lines[last] != "two words" {
			t.Errorf("%s: the arguments are %q", as, lines[last])
		}
		for _, l := range lines[:last] {
			if l != want.String() {
				t.Errorf("%s: a thread's slack is %s, want %s", as, l, want)
			}
		}
	}
}
