package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gantry-imaging/gantry/internal/dimse/dimsetest"
)

// slicePixels is the size of the images that are sent: 512 x 512 samples of 16 bits, 525 KB a file.
const slicePixels = 512

// imaging is a study that is written anew for each sending, with UIDs that were not there before: a receiver can skip none.
type imaging struct {
	drawn *dimsetest.Drawn
	dir   string
	bytes int64
}

// draw makes a study of so many images, to be written into a folder of the bed.
func (b *bed) draw(images int) (*imaging, error) {
	d, err := dimsetest.Draw(images, slicePixels)
	return &imaging{drawn: d, dir: filepath.Join(b.home, "load")}, err
}

// write makes the files of a new study in the place of those of the last.
func (i *imaging) write(images int) (dimsetest.Study, error) {
	if err := os.RemoveAll(i.dir); err != nil {
		return dimsetest.Study{}, err
	}
	if err := os.MkdirAll(i.dir, 0o755); err != nil {
		return dimsetest.Study{}, err
	}
	s, err := i.drawn.Write(i.dir, images)
	if err != nil {
		return s, err
	}
	syscall.Sync() // else a receiver that syncs waits for what was written here
	i.bytes = 0
	for _, f := range s.Files {
		info, err := os.Stat(f)
		if err != nil {
			return s, err
		}
		i.bytes += info.Size()
	}
	return s, nil
}

// receiver is a server that images are sent to.
type receiver struct {
	title   string
	port    int
	pid     int
	stop    func()
	discard string // a folder of what it received, which is emptied after each sending; empty: it keeps it
}

// of makes a receiver of a peer.
func receiverOf(p *dimsetest.Peer, discard string) receiver {
	return receiver{title: p.AET, port: p.Port, pid: p.PID, stop: p.Stop, discard: discard}
}

// take sends files to it over so many associations at once, each a dcmsend of its own, and wants success for every one.
func (x receiver) take(ctx context.Context, files []string, associations int) (time.Duration, error) {
	lists, reports := make([]string, associations), make([]string, associations)
	dir := filepath.Dir(files[0])
	for k := range associations {
		var list strings.Builder
		for i := k; i < len(files); i += associations {
			fmt.Fprintf(&list, "%q\n", files[i])
		}
		lists[k], reports[k] = filepath.Join(dir, fmt.Sprintf("list%d", k)), filepath.Join(dir, fmt.Sprintf("report%d", k))
		if err := os.WriteFile(lists[k], []byte(list.String()), 0o644); err != nil {
			return 0, err
		}
	}
	errs := make([]error, associations)
	began := time.Now()
	var all sync.WaitGroup
	for k := range associations {
		all.Go(func() {
			errs[k] = runQuietly(ctx, "dcmsend", "-q", "-aet", fmt.Sprintf("BENCH%d", k), "-aec", x.title, "+crf", reports[k], "127.0.0.1", strconv.Itoa(x.port), "@"+lists[k])
		})
	}
	all.Wait()
	took := time.Since(began)
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	if n := stored(reports); n != len(files) {
		return 0, fmt.Errorf("%d of %d images were stored by %s", n, len(files), x.title)
	}
	return took, x.empty()
}

var storedLine = regexp.MustCompile(`with status SUCCESS\s*:\s*(\d+)`)

// stored counts what reports of dcmsend call a success.
func stored(reports []string) (n int) {
	for _, file := range reports {
		text, err := os.ReadFile(file)
		if m := storedLine.FindSubmatch(text); err == nil && m != nil {
			k, _ := strconv.Atoi(string(m[1]))
			n += k
		}
	}
	return n
}

// empty removes the files that came.
func (x receiver) empty() error {
	if x.discard == "" {
		return nil
	}
	entries, err := os.ReadDir(x.discard)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(x.discard, e.Name())))
	}
	return err
}

// startStorescp starts dcmtk's storescp in a folder of the bed, with a process for each association.
func (b *bed) startStorescp(name string) (receiver, error) {
	dir := filepath.Join(b.home, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return receiver{}, err
	}
	p, err := dimsetest.StartStorescp(dir, dimsetest.SCP{AET: "STORESCP", Fork: true, Args: []string{"-q"}})
	if err != nil {
		return receiver{}, err
	}
	return receiverOf(p, dir), nil
}

// startOrthanc starts Orthanc in a folder of the bed.
func (b *bed) startOrthanc(name string) (receiver, error) {
	dir := filepath.Join(b.home, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return receiver{}, err
	}
	p, err := dimsetest.StartOrthanc(dir, dimsetest.Settings{AET: "ORTHANC"})
	if err != nil {
		return receiver{}, err
	}
	return receiverOf(p.Peer, ""), nil
}

// needPeers says which program is missing.
func needPeers(programs ...string) error {
	for _, p := range programs {
		if _, err := dimsetest.Find(p); err != nil {
			return err
		}
	}
	return nil
}

// listensOn waits until something takes connections.
func listensOn(ctx context.Context, port int) error {
	for range 200 {
		if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return c.Close()
		}
		pause(ctx, 50*time.Millisecond)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return fmt.Errorf("nothing listens on port %d", port)
}

// freePort gives a port of 127.0.0.1 that nobody listens on.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// quiet runs a command, whose complaints go with its error, and gives the time that it took.
func quiet(ctx context.Context, c *exec.Cmd) (time.Duration, error) {
	var complaints strings.Builder
	c.Stderr = &complaints
	began := time.Now()
	if err := c.Run(); err != nil {
		return 0, fmt.Errorf("run %s: %w: %.1000s", filepath.Base(c.Path), err, complaints.String())
	}
	return time.Since(began), context.Cause(ctx)
}

// holds wants so many files that came, and removes them.
func (x receiver) holds(n int) error {
	entries, err := os.ReadDir(x.discard)
	if err != nil {
		return err
	}
	if len(entries) != n {
		return fmt.Errorf("%d of %d images came to %s", len(entries), n, x.title)
	}
	return x.empty()
}
