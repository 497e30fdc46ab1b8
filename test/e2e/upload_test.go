package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// sent is how many files are uploaded while the process is killed, again and again.
const (
	sent    = 120
	senders = 8
)

var readyAt = regexp.MustCompile(`health on (http://[0-9.:]+)/readyz`)

// door is where uploads go at the moment; it moves whenever the process is begun again.
type door struct {
	url   atomic.Value
	taken atomic.Int64 // uploads that were acknowledged
}

// upload sends a file until it is acknowledged, as a sender that wants it taken does, and gives the task's id.
func (d *door) upload(t *testing.T, body []byte) string {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		resp, err := http.Post(d.url.Load().(string)+"/api/v1/pipelines/up/tasks", "image/png", bytes.NewReader(body))
		if err != nil {
			continue // the process is dead
		}
		var x struct{ ID string }
		err = json.NewDecoder(resp.Body).Decode(&x)
		resp.Body.Close()
		switch {
		case err == nil && resp.StatusCode == http.StatusCreated:
			d.taken.Add(1)
			return x.ID
		case resp.StatusCode != http.StatusServiceUnavailable && err == nil:
			t.Errorf("an upload was answered with %d", resp.StatusCode)
			return ""
		}
	}
	t.Error("an upload was not taken within a minute")
	return ""
}

// uploading starts a process whose only pipeline takes uploads, and gives how to begin it anew.
func uploading(t *testing.T, out, model string) (installation, func() (*process, string)) {
	t.Helper()
	file := filepath.Join(folder(t), "p.yaml")
	text := fmt.Sprintf(`gantry: v1
name: up
sources: {door: {kind: http, max_mib: 512}}
sinks: {results: {kind: dir, path: %q}}
stages: [{name: enhance, call: model}]
processors: {model: {kind: http, url: %q, timeout: 1s, limits: {concurrency: 8}}}
retry: {attempts: 5, initial: 100ms}
`, out, model+"/v1/enhance")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	i := install(t)
	return i, func() (*process, string) {
		p := i.serve(t, file, "--lease", lease)
		return p, readyAt.FindStringSubmatch(p.log.tail(1 << 20))[1]
	}
}

// TestUploadsOutliveTheProcess kills the process while files are uploaded. What was acknowledged is a task that
// ends; what was sent again is the same one.
func TestUploadsOutliveTheProcess(t *testing.T) {
	out, d := filepath.Join(folder(t), "out"), &door{}
	i, start := uploading(t, out, newForeign(t, 5*time.Millisecond).URL)
	begin := func() *process {
		p, url := start()
		d.url.Store(url)
		return p
	}
	p := begin()
	ids := make([]string, sent)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			for n := next.Add(1) - 1; n < sent; n = next.Add(1) - 1 {
				sum := sha256.Sum256(fmt.Appendf(nil, "upload %d", n))
				ids[n] = d.upload(t, picture(sum[:]))
			}
		})
	}
	for k := range 4 { // each after a fifth of the files
		eventually(t, time.Minute, "uploads", func() bool { return d.taken.Load() >= int64(k+1)*sent/5 })
		p.kill()
		p = begin()
	}
	wg.Wait()
	eventually(t, 2*time.Minute, "every task to end", func() bool {
		time.Sleep(200 * time.Millisecond)
		for _, x := range i.tasks(t) {
			if x.State != "done" {
				return false
			}
		}
		return true
	})
	known := map[string]bool{}
	for _, x := range i.tasks(t) {
		known[x.ID] = true
	}
	for n, id := range ids {
		if !known[id] {
			t.Errorf("upload %d was acknowledged as %q, and there is no such task", n, id)
		}
		delete(known, id)
		if n%16 > 0 {
			continue
		}
		sum := sha256.Sum256(fmt.Appendf(nil, "upload %d", n))
		if again := d.upload(t, picture(sum[:])); again != id {
			t.Errorf("upload %d is task %s, and sent again %s", n, id, again)
		}
	}
	if len(known) != 0 {
		t.Errorf("%d tasks that nobody was told of", len(known))
	}
	if got := tree(t, out); len(got) != 2*sent {
		t.Errorf("%d files at the sink, want an image and a manifest for each of %d", len(got), sent)
	}
	p.stop(t)
}

// TestLargeUpload sends four objects of 128 MiB side by side: the process never holds much of them.
func TestLargeUpload(t *testing.T) {
	const size, room = 128 << 20, 32 << 20
	i, start := uploading(t, filepath.Join(folder(t), "out"), newForeign(t, 0).URL)
	p, url := start()
	d := &door{}
	d.url.Store(url)
	d.upload(t, picture([]byte("first")))
	before := p.peak(t)
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			body := io.MultiReader(bytes.NewReader([]byte{byte(n)}), io.LimitReader(zeros{}, size-1))
			resp, err := http.Post(url+"/api/v1/pipelines/up/tasks", "application/octet-stream", body)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusCreated {
				t.Errorf("answered with %d", resp.StatusCode)
			}
		})
	}
	wg.Wait()
	if grown := p.peak(t) - before; grown > room {
		t.Errorf("the process grew by %d MiB over four uploads of %d MiB", grown>>20, size>>20)
	} else {
		t.Logf("peak of %d MiB before, %d MiB more after", before>>20, grown>>20)
	}
	if n := len(i.tasks(t)); n != 5 {
		t.Errorf("%d tasks", n)
	}
	p.stop(t)
}

type zeros struct{}

// Read gives zeros.
func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// peak is the most memory that the process ever had, in bytes (VmHWM of proc(5)).
func (p *process) peak(t *testing.T) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	var kib int64
	for line := range strings.Lines(string(b)) {
		if n, err := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 && err == nil {
			return kib << 10
		}
	}
	t.Fatal("there is no VmHWM")
	return 0
}
