package engine

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/media"
	"github.com/gantry-imaging/gantry/internal/sample"
)

// slowFFmpeg puts a program in the place of ffmpeg that notes each start, waits and goes on as ffmpeg. starts gives
// the processes.
func slowFFmpeg(t *testing.T, wait string) (starts func() []string) {
	t.Helper()
	real, err := exec.LookPath("ffmpeg")
	if err != nil {
		t.Fatal("ffmpeg is not installed: this test needs it")
	}
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	script := fmt.Sprintf("#!/bin/sh\necho $$ >>%q\nsleep %s\nexec %q \"$@\"\n", log, wait, real)
	if err := os.WriteFile(filepath.Join(dir, "ffmpeg"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() []string {
		b, err := os.ReadFile(log)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return strings.Fields(string(b))
	}
}

// video has a task of n frames of a video.
func video(t *testing.T, n int) *world {
	t.Helper()
	w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
	w.plan.Extract.Video = gantry.RenderPNG
	avi, err := sample.AVI(sample.Loop(n, 32, 32), 10)
	if err != nil {
		t.Fatal(err)
	}
	w.blobs["in"] = avi
	return w
}

// TestVideoIsDecodedOnce: a process decodes a video once, however many parts wait for its frames, and not within the
// time of the calls that send them.
func TestVideoIsDecodedOnce(t *testing.T) {
	starts := slowFFmpeg(t, "0.4")
	w := video(t, 10)
	if leaves, code := through(t, w); code != "" || len(leaves) != 10 || len(starts()) != 1 {
		t.Fatalf("%d leaves, code %q, decoded %d times", len(leaves), code, len(starts()))
	}
	w.hurries, w.plan.Calls[0][0].Timeout = true, 300*time.Millisecond
	got := map[string][]byte{}
	w.process = sends(w, got)
	if tr := w.step(t.Context(), gantry.Inferring, 0); tr.To != gantry.Responding {
		t.Fatalf("left with %+v", tr)
	}
	if len(starts()) != 2 || len(w.called) != 10 {
		t.Errorf("decoded %d times in two processes, called %d times for 10 frames", len(starts()), len(w.called))
	}
	for i, x := range w.items[1:11] {
		if sum := sha256.Sum256(got[fmt.Sprintf("id/0/a/m/%d/0", i)]); gantry.Digest(sum) != x.SHA {
			t.Errorf("frame %d is not the one that was listed", i)
		}
	}
}

// TestDecodingStops leaves nothing behind where a task is given up while its video is decoded: no file, no row, no process.
func TestDecodingStops(t *testing.T) {
	starts := slowFFmpeg(t, "30")
	w := video(t, 3)
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	ctx, die := context.WithCancelCause(t.Context())
	go func() {
		for len(starts()) == 0 && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		die(errors.New("killed"))
	}()
	begun := time.Now()
	tr := w.step(ctx, gantry.Extracting, 0)
	if took := time.Since(begun); tr.Change != gantry.Release || took > 10*time.Second {
		t.Errorf("left after %s with %+v", took, tr)
	}
	for _, dir := range []string{w.scratch, temporary} {
		left, err := filepath.Glob(filepath.Join(dir, "*-*"))
		if err != nil || len(left) > 0 {
			t.Errorf("%v are left: %v", left, err)
		}
	}
	group, err := strconv.Atoi(starts()[0])
	if err != nil {
		t.Fatal(err)
	}
	for err == nil && time.Since(begun) < 10*time.Second {
		err = syscall.Kill(-group, 0)
	}
	if !errors.Is(err, syscall.ESRCH) || len(w.items) > 0 {
		t.Errorf("%d items are left, and of the processes: %v", len(w.items), err)
	}
}

// TestRefusedAtTheEdgeOfACommit refuses a broken archive among many entries whose row is committed before it is
// opened, or after: another process finds it refused.
func TestRefusedAtTheEdgeOfACommit(t *testing.T) {
	t.Parallel()
	broken := packed(t, media.ArchiveTarGzip, tinyPNG(t))[:60]
	for at := chunk - 3; at <= chunk+1; at++ { // the archive itself is the first row
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
			w.plan.OnError, w.plan.Extract.Archives, w.plan.Extract.MaxEntries = gantry.OnErrorSkip, []string{"zip", "tar.gz"}, 1000
			w.blobs["in"] = many(t, chunk+10, at, tinyPNG(t), broken)
			leaves, code := through(t, w)
			if code != "" || len(leaves) != chunk+10 {
				t.Fatalf("%d leaves, code %q", len(leaves), code)
			}
			for i, l := range leaves {
				want := fmt.Sprintf("input#%d image/png", i)
				if i == at {
					want = fmt.Sprintf("input#%d truncated", i)
				}
				if l != want {
					t.Errorf("%s, want %s", l, want)
				}
			}
			w.step(t.Context(), gantry.Inferring, 0)
			if len(w.called) != chunk+9 {
				t.Errorf("called %d times", len(w.called))
			}
		})
	}
}

// many is an archive of n bodies that are all alike but one.
func many(t *testing.T, n, at int, body, other []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := range n {
		f, err := z.Create(fmt.Sprintf("%04d", i))
		if err == nil && i == at {
			_, err = f.Write(other)
		} else if err == nil {
			_, err = f.Write(body)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestManyVolumes reads more archives within an archive than are kept open.
func TestManyVolumes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail), each("b", gantry.EachTask, gantry.OnErrorFail))
	w.plan.Extract.Archives = []string{"zip", "tar", "tar.gz"}
	p := tinyPNG(t)
	var inner [][]byte
	for range 2 * maxVolumes {
		inner = append(inner, packed(t, media.ArchiveTarGzip, p, p))
	}
	w.blobs["in"] = packed(t, media.ArchiveTar, inner...)
	if leaves, code := through(t, w); code != "" || len(leaves) != 4*maxVolumes {
		t.Fatalf("%d leaves, code %q", len(leaves), code)
	}
	got := map[string][]byte{}
	w.process = sends(w, got)
	w.step(t.Context(), gantry.Inferring, 0)
	if tr := w.step(t.Context(), gantry.Inferring, 1); tr.To != gantry.Responding {
		t.Fatalf("left with %+v", tr)
	}
	want := map[string][]byte{"id/0/b/m/0/0": p}
	for i := range 4 * maxVolumes {
		want[fmt.Sprintf("id/0/a/m/%d/0", i)] = p
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
}
