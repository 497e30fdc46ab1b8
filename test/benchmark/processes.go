package main

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gantry-imaging/gantry/pipelines"
)

// measureProcesses looks at the binary from outside: memory at rest, and the way from an empty
// home to the first result.
func measureProcesses(ctx context.Context, _ *bed, s settings, r *report) error {
	if s.binary == "" {
		return nil
	}
	binary, err := filepath.Abs(s.binary)
	if err != nil {
		return err
	}
	if err := measureDemo(ctx, binary, r); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if err := measureIdle(ctx, binary, r); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

func measureDemo(ctx context.Context, binary string, r *report) error {
	home, err := tempHome()
	if err != nil {
		return err
	}
	defer os.RemoveAll(home)
	out := filepath.Join(home, "files", "out")
	c := exec.CommandContext(ctx, binary, "--home", home, "demo")
	c.Stderr = os.Stderr
	began := time.Now()
	if err := c.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	var first time.Duration
	for {
		select {
		case <-look.C:
			if first == 0 && hasFile(out) {
				first = time.Since(began)
			}
		case err := <-ended:
			if err != nil {
				return err
			}
			r.add("demo_first_result_s", first.Seconds(), "s", atMost(6), "empty home, database made on the way; first file in the output folder")
			r.add("demo_total_s", time.Since(began).Seconds(), "s", bound{}, "until the process has ended, server stopped")
			return nil
		}
	}
}

// hasFile tells whether a folder holds a file that is complete.
func hasFile(dir string) bool {
	found := false
	filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && !strings.HasPrefix(e.Name(), ".") {
			found = true
			return fs.SkipAll
		}
		return nil
	})
	return found
}

func measureIdle(ctx context.Context, binary string, r *report) error {
	home, err := tempHome()
	if err != nil {
		return err
	}
	defer os.RemoveAll(home)
	file := filepath.Join(home, "first-light.yaml")
	if err := os.WriteFile(file, pipelines.FirstLight, 0o644); err != nil {
		return err
	}
	for _, folder := range []string{"in", "out"} {
		if err := os.Mkdir(filepath.Join(home, folder), 0o755); err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := l.Addr().String()
	l.Close()
	c := exec.CommandContext(ctx, binary, "--home", home, "serve", "--pipelines", file, "--listen", address)
	c.Dir, c.Stderr = home, os.Stderr
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	if err := c.Start(); err != nil {
		return err
	}
	defer c.Wait()
	defer c.Process.Signal(syscall.SIGTERM)
	for try := 0; ; try++ {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			break
		}
		if pause(ctx, 100*time.Millisecond); try > 300 || ctx.Err() != nil {
			return fmt.Errorf("it does not listen on %s", address)
		}
	}
	pause(ctx, 3*time.Second)
	mb, err := memoryMB(c.Process.Pid, "VmRSS")
	if err != nil {
		return err
	}
	r.add("idle_rss_mb", mb, "MB", atMost(60), "serve with one pipeline, 3 s after it listened; Postgres apart")
	return nil
}
