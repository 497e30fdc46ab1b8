package blob

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// A test that needs a process of its own starts this binary again with these set.
const (
	childVar    = "GANTRY_BLOB_TEST_CHILD"
	childDirVar = "GANTRY_BLOB_TEST_DIR"
)

// runChild is what a child does: "commit" writes blobs until it is killed, "limit" until the size
// limit of its files is met.
func runChild(what, dir string) int {
	var err error
	switch what {
	case "commit":
		err = childCommits(dir)
	case "limit":
		err = childLimit(dir)
	default:
		err = fmt.Errorf("no child %q", what)
	}
	fmt.Fprintln(os.Stderr, "child:", err)
	return 3
}

func child(t *testing.T, what, dir string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(exe)
	c.Env = append(os.Environ(), childVar+"="+what, childDirVar+"="+dir)
	return c
}

// childCommits prints "location digest" for each blob after its commit.
func childCommits(dir string) error {
	ctx := context.Background()
	d, err := OpenDir(ctx, testOptions(dir))
	if err != nil {
		return err
	}
	failed := make(chan error)
	for range 8 {
		go func() {
			for {
				size, hint := rand.IntN(60<<10), int64(-1)
				if rand.IntN(20) == 0 {
					size, hint = unknownMost+rand.IntN(1<<20), maxRecord+1 // a file
				}
				s, err := d.Stage(ctx, bytes.NewReader(body(size, rand.Uint64())), hint, 1<<30)
				var where string
				if err == nil {
					where, err = s.Commit(ctx)
				}
				if err == nil {
					_, err = fmt.Printf("%s %s\n", where, s.SHA())
				}
				if err != nil {
					failed <- err
				}
			}
		}()
	}
	return <-failed
}

// Whatever was acknowledged before a kill is there after it.
func TestKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(1, 2))
	acked := map[string]gantry.Digest{}
	files := 0
	for range 12 {
		for where, sha := range killAfter(t, dir, 1+r.IntN(80)) {
			if _, ok := acked[where]; ok && !strings.HasPrefix(where, "sha/") {
				t.Errorf("%s was given twice", where)
			}
			if strings.HasPrefix(where, "sha/") {
				files++
			}
			acked[where] = sha
		}
	}
	d := openTest(t, testOptions(dir))
	for where, sha := range acked {
		if err := d.Verify(t.Context(), where, sha); err != nil {
			t.Errorf("%s: %v", where, err)
		}
	}
	if len(acked) < 12 || files == 0 {
		t.Errorf("only %d blobs and %d files were acknowledged", len(acked), files)
	}
	t.Logf("12 kills, %d acknowledged blobs, %d of them files", len(acked), files)
}

// killAfter starts a child and kills it when it has printed some lines; it runs on meanwhile, so
// the kill meets it anywhere. It gives what was acknowledged in whole lines.
func killAfter(t *testing.T, dir string, lines int) map[string]gantry.Digest {
	t.Helper()
	c := child(t, "commit", dir)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var kill sync.Once
	defer kill.Do(func() { c.Process.Kill() })
	acked := map[string]gantry.Digest{}
	in := bufio.NewReader(out)
	for n := 1; ; n++ {
		line, err := in.ReadString('\n')
		if err == io.EOF {
			break // a line without its end was not said
		}
		if err != nil {
			t.Fatal(err)
		}
		where, hex, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		sha, err := gantry.ParseDigest(hex)
		if err != nil || sha.IsZero() {
			t.Fatalf("child says %q", line)
		}
		acked[where] = sha
		if n == lines {
			kill.Do(func() { c.Process.Kill() })
		}
	}
	if err := c.Wait(); err == nil || c.ProcessState.Exited() {
		t.Fatalf("child ended by itself: %v %s", err, stderr.String())
	}
	if len(acked) < lines {
		t.Fatalf("child acknowledged %d, want %d: %s", len(acked), lines, stderr.String())
	}
	return acked
}

// fill commits records until one fails, and gives what was acknowledged and the error.
func fill(ctx context.Context, d *Dir, most int) (map[string]gantry.Digest, error) {
	acked := map[string]gantry.Digest{}
	for i := range most {
		s, err := d.Stage(ctx, bytes.NewReader(body(100<<10, uint64(i))), 100<<10, 1<<20)
		if err != nil {
			return acked, err
		}
		where, err := s.Commit(ctx)
		if err != nil {
			return acked, err
		}
		acked[where] = s.SHA()
	}
	return acked, nil
}

// segmentFiles counts the segment files of worker 7.
func segmentFiles(t *testing.T, dir string) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "seg", "7", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}
