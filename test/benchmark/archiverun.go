package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// nullPipeline sends every entry of an archive to a service that reads it and has nothing to say.
const nullPipeline = `gantry: v1
name: nothing
extract: {archives: [zip], depth: 3, max_bytes: 20GiB, max_entries: 100000, max_ratio: 200}
stages:
  - name: nothing
    each: part
    call: nothing
processors:
  nothing: {kind: http, url: "%s/null", timeout: 60s, limits: {concurrency: 16}}
`

// measureZipRun counts from the archive's arrival to the end of its task, without the start of the database.
func measureZipRun(ctx context.Context, s settings, r *report, path string, entries int, peer contender, about string) error {
	binary, err := filepath.Abs(s.binary)
	if err != nil {
		return err
	}
	base, stop, err := startService(ctx)
	if err != nil {
		return err
	}
	defer stop()
	var most float64
	own := func(ctx context.Context) (time.Duration, error) {
		took, peak, err := runFiles(ctx, binary, base, entries, path)
		most = max(most, peak)
		return took, err
	}
	race, err := versus(ctx, min(s.rounds, 3), own, peer)
	if err != nil {
		return err
	}
	r.add("zip_vs_unzip_sha", race.ratio(), "ratio", atLeast(0.7), "%s; gantry run, each entry a call on record; %s", about, race.note("gantry", "unzip"))
	r.add("zip_rss_mb", most, "MB", atMost(256), "the process of gantry run, most of any round; Postgres apart")
	return nil
}

// runFiles takes inputs through the product, each of them a task, in a home of its own. It gives the time without the
// start of the database, and the peak memory in MB.
func runFiles(ctx context.Context, binary, base string, calls int, inputs ...string) (took time.Duration, peak float64, err error) {
	home, err := tempHome()
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(home)
	file, results := filepath.Join(home, "nothing.yaml"), filepath.Join(home, "out")
	if err := os.WriteFile(file, fmt.Appendf(nil, nullPipeline, base), 0o644); err != nil {
		return 0, 0, err
	}
	c := exec.CommandContext(ctx, binary, append([]string{"--home", filepath.Join(home, "home"), "run", "--json", "-f", file, "-o", results}, inputs...)...)
	var out, complaints bytes.Buffer
	c.Dir, c.Stdout, c.Stderr = home, &out, &complaints
	if peak, err = runWatched(ctx, c); err != nil {
		return 0, 0, fmt.Errorf("run gantry: %w: %.1000s%.1000s", err, complaints.String(), out.String())
	}
	var a struct {
		Seconds float64 `json:"seconds"`
		Done    int     `json:"done"`
		Calls   int     `json:"calls"`
	}
	if err := json.Unmarshal(out.Bytes(), &a); err != nil {
		return 0, 0, err
	}
	if a.Done != len(inputs) || a.Calls != calls {
		return 0, 0, fmt.Errorf("%d of %d tasks done, %d of %d calls", a.Done, len(inputs), a.Calls, calls)
	}
	return time.Duration(a.Seconds * float64(time.Second)), peak, nil
}

// runWatched runs a process and looks often at its peak memory: what the system tells of it afterwards
// includes that of this process, from which it was forked.
func runWatched(ctx context.Context, c *exec.Cmd) (peak float64, err error) {
	if err := c.Start(); err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	pause(ctx, 200*time.Millisecond) // until it is no longer the fork
	for {
		select {
		case <-look.C:
			if mb, err := memoryMB(c.Process.Pid, "VmHWM"); err == nil {
				peak = max(peak, mb)
			}
		case err := <-ended:
			return peak, err
		}
	}
}
