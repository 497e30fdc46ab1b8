package media

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// childLimits bounds what a child may take.
type childLimits struct {
	memory  uint64 // address space, bytes
	seconds uint64 // of processor time
	file    uint64 // bytes of a file that it writes
}

var decoderLimits = childLimits{memory: 3 << 30, seconds: 1800, file: 64 << 30}

// child is a program that works on foreign bytes: in a process group and an empty folder of its own,
// without our environment, confined.
type child struct {
	cmd    *exec.Cmd
	ctx    context.Context
	dir    string
	stderr tail
}

// tail keeps the first bytes of what a child complains of. They are looked at, never shown.
type tail struct{ bytes.Buffer }

// Write takes it all and keeps the beginning.
func (t *tail) Write(p []byte) (int, error) {
	if room := 16<<10 - t.Len(); room > 0 {
		t.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// newChild prepares a program of PATH. Without it the error is Unavailable, ffmpeg_missing.
func newChild(ctx context.Context, program string, args ...string) (*child, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, gantry.Errorf(gantry.Unavailable, CodeFFmpegMissing, "find %s: not in PATH", program)
	}
	dir, err := os.MkdirTemp("", "gantry-child-*")
	if err != nil {
		return nil, gantry.Errorf(gantry.Unavailable, "no_space", "make folder of a child: %w", err)
	}
	c := &child{cmd: exec.CommandContext(ctx, path, args...), ctx: ctx, dir: dir}
	c.cmd.Dir, c.cmd.Stderr = dir, &c.stderr
	c.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir, "LC_ALL=C", "AV_LOG_FORCE_NOCOLOR=1"}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.cmd.Cancel = c.kill
	c.cmd.WaitDelay = 5 * time.Second
	return c, nil
}

// kill ends the child and all that it started.
func (c *child) kill() error { return syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) }

// start starts and confines it.
func (c *child) start() error {
	if err := c.cmd.Start(); err != nil {
		os.RemoveAll(c.dir)
		return gantry.Errorf(gantry.Unavailable, "child_failed", "start a child: %w", err)
	}
	confine(c.cmd.Process.Pid, decoderLimits)
	return nil
}

// wait ends what start began and gives a verdict on how it went.
func (c *child) wait() error {
	err := c.cmd.Wait()
	os.RemoveAll(c.dir)
	if ended := c.ended(); ended != nil {
		return ended
	}
	return c.verdict(err)
}

// abort ends the child because of err, and gives that, or why the context ended if it did.
func (c *child) abort(err error) error {
	_ = c.kill()
	_ = c.cmd.Wait()
	os.RemoveAll(c.dir)
	if ended := c.ended(); ended != nil {
		return ended
	}
	return err
}

// ended is why the context ended, or nil.
func (c *child) ended() error {
	if c.ctx.Err() == nil {
		return nil
	}
	cause := context.Cause(c.ctx)
	if errors.Is(cause, context.DeadlineExceeded) {
		return gantry.Errorf(gantry.Timeout, CodeTimeout, "%w", cause)
	}
	return cause
}

// verdict tells from how a child ended, and from what it complained of, what is wrong with its input.
func (c *child) verdict(err error) error {
	said := c.stderr.Bytes()
	says := func(texts ...string) bool {
		for _, t := range texts {
			if bytes.Contains(said, []byte(t)) {
				return true
			}
		}
		return false
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() {
			switch s.Signal() {
			case syscall.SIGXCPU, syscall.SIGKILL:
				return gantry.Errorf(gantry.Timeout, CodeTimeout, "the decoder used up its processor time")
			case syscall.SIGXFSZ:
				return illegal(gantry.CodeTooLarge, "the output is over the limit")
			}
		}
	}
	switch {
	case says("No space left on device", "Disk quota exceeded"):
		return gantry.Errorf(gantry.Unavailable, "no_space", "write the output of a child: the disk is full")
	case says("Cannot allocate memory"):
		return illegal(gantry.CodeTooLarge, "the decoder needs more memory than it may have")
	case says("moov atom not found", "partial file", "File ended prematurely", "Truncat", "truncat"):
		return illegal(gantry.CodeTruncated, "the decoder found a part missing")
	case says("Decoder not found", "no decoder", "does not contain any stream", "matches no streams", "Decoder (codec"):
		return illegal(gantry.CodeUnsupportedFormat, "no video that can be decoded")
	case exit != nil, len(said) > 0:
		return illegal(gantry.CodeMalformed, "the decoder found broken data")
	case err != nil:
		return fmt.Errorf("run a child: %w", err)
	}
	return nil
}

// output runs it and gives at most most bytes that it printed.
func (c *child) output(most int64) ([]byte, error) {
	var out bytes.Buffer
	c.cmd.Stdout = &limited{w: &out, left: most}
	if err := c.start(); err != nil {
		return nil, err
	}
	err := c.wait()
	return out.Bytes(), err
}

// limited fails once more than left bytes were written.
type limited struct {
	w    io.Writer
	left int64
}

// Write passes on what is allowed.
func (l *limited) Write(p []byte) (int, error) {
	if l.left -= int64(len(p)); l.left < 0 {
		return 0, illegal(gantry.CodeTooLarge, "a child prints too much")
	}
	return l.w.Write(p)
}

// fileURL names a local file so that ffmpeg takes it for nothing else.
func fileURL(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find file: %w", err)
	}
	return "file:" + abs, nil
}
