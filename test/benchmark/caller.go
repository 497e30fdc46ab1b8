package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gantry-imaging/gantry/internal/blob"
	httpdriver "github.com/gantry-imaging/gantry/internal/driver/http"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/gate"
	"github.com/gantry-imaging/gantry/internal/media"
	"github.com/gantry-imaging/gantry/internal/scheduler"
)

const (
	units    = 64      // calls at the service at once
	inFlight = 160     // callers for them: while one waits for its commits, another has the unit
	bodySize = 100_000 // bytes of a request
)

// caller makes calls as the engine does: intent, unit, POST, output made durable, and outcome,
// item and part in one commit.
type caller struct {
	gate     *gate.Gate
	session  *scheduler.Session
	blobs    *blob.Dir
	procs    map[string]gantry.Processor // by path
	limiter  int32
	pipeline int32
	body     []byte
	tasks    []*holding
}

// holding is a task whose lease this process has.
type holding struct {
	gantry.Task
	next    atomic.Int32 // its next part and item
	planMu  sync.Mutex
	planned int32 // parts that are planned so far
}

// plan sees to it that part n is planned, with some hundreds more, as a stage plans them.
func (h *holding) plan(ctx context.Context, s *scheduler.Session, n int32) error {
	const ahead = 500
	h.planMu.Lock()
	defer h.planMu.Unlock()
	if n <= h.planned {
		return nil
	}
	w := &gantry.Write{Lease: h.Lease}
	for k := range int32(ahead) {
		w.Plan = append(w.Plan, gantry.Part{PartKey: gantry.PartKey{Ordinal: h.planned + k + 1}, Count: 1, DueIn: -1})
	}
	h.planned += ahead
	return s.Commit(ctx, w)
}

// withCaller claims n tasks and lends a caller that holds their leases.
func (b *bed) withCaller(ctx context.Context, name string, n int, base string, use func(context.Context, *bench, *caller) error) error {
	x, err := b.open(ctx, name, -1)
	if err != nil {
		return err
	}
	defer x.close()
	if err := x.enqueue(ctx, n); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	claimed := make(chan gantry.Task, n)
	var used error
	done := make(chan struct{})
	err = scheduler.Run(ctx, x.Store, scheduler.Options{Tasks: n}, func(loops context.Context, s *scheduler.Session) (scheduler.Begin, error) {
		c, err := x.newCaller(loops, b, s, base, filepath.Join(b.home, name))
		if err != nil {
			close(done)
			return nil, err
		}
		go func() {
			defer close(done)
			defer cancel()
			defer c.blobs.Close()
			for len(c.tasks) < n {
				select {
				case t := <-claimed:
					c.tasks = append(c.tasks, &holding{Task: t})
				case <-loops.Done():
					return
				}
			}
			used = use(loops, x, c)
		}()
		return func(t gantry.Task) (scheduler.Step, func()) {
			claimed <- t
			return func(context.Context, gantry.Task) gantry.Transition { <-done; return gantry.Transition{} }, func() {}
		}, nil
	})
	<-done
	if used != nil {
		return used
	}
	return err
}

func (x *bench) newCaller(ctx context.Context, b *bed, s *scheduler.Session, base, dir string) (*caller, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	target := gantry.Target{Scheme: u.Scheme, Host: u.Hostname(), Port: u.Port()}
	c := &caller{gate: gate.New(s, b.ids, time.Now), session: s, pipeline: x.pipeline, procs: map[string]gantry.Processor{},
		body: bytes.Repeat([]byte("gantry.."), bodySize/8)}
	if c.limiter, err = x.EnsureLimiter(ctx, target.Key(), gantry.LimiterSpec{MaxUnits: units, Burst: 1, Hold: time.Minute}, true); err != nil {
		return nil, err
	}
	egress := gate.NewEgress(target, gate.Policy{})
	for _, path := range []string{"/json", "/png"} {
		if c.procs[path], err = httpdriver.NewProcessor(ctx, httpdriver.ProcessorConfig{URL: base + path}, egress); err != nil {
			return nil, err
		}
	}
	c.blobs, err = blob.OpenDir(ctx, blob.Options{Dir: dir, Worker: s.Worker, Key: bytes.Repeat([]byte{1}, 32)})
	return c, err
}

// call makes one call on record for the k-th task.
func (c *caller) call(ctx context.Context, k int, path string) error {
	t := c.tasks[k%len(c.tasks)]
	n := t.next.Add(1)
	if err := t.plan(ctx, c.session, n); err != nil {
		return err
	}
	part := gantry.Part{PartKey: gantry.PartKey{Ordinal: n}, Status: gantry.PartOK, Attempt: 1, Count: 1, DueIn: -1}
	spec := gantry.CallSpec{Timeout: 30 * time.Second, Priority: t.Priority, Intent: gantry.Intent{Lease: t.Lease, Boundary: gantry.AtProcessor,
		Op: gantry.OpProcess, Limiter: c.limiter, Pipeline: c.pipeline, Part: part.PartKey, Try: 1, ItemCount: 1, ItemsSHA: gantry.Digest{1}}}
	var staged gantry.Staged
	req := &gantry.Request{
		Key:   strconv.Itoa(int(n)),
		Items: []gantry.Item{{Size: int64(len(c.body)), Media: gantry.MediaDICOM, SHA: gantry.Digest{1}}},
		Open: func(context.Context, int) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(c.body)), nil
		},
		Receive: func(ctx context.Context, kind string, size int64, r io.Reader) (err error) {
			if kind == gantry.MediaPNG {
				r = media.Verify(kind, r)
			}
			staged, err = c.blobs.Stage(ctx, r, size, 1<<30)
			return err
		},
	}
	return c.gate.Call(ctx, spec,
		func(ctx context.Context) error { return c.procs[path].Process(ctx, req) },
		func(ctx context.Context, err error) (*gantry.Write, error) {
			if err != nil {
				return nil, err
			}
			defer staged.Discard()
			item := gantry.Item{ID: gantry.ItemID(n), Part: n, Media: gantry.MediaPNG, Size: staged.Size(), SHA: staged.SHA(), Body: staged.Inline()}
			if item.Body == nil {
				if item.Location, err = staged.Commit(context.WithoutCancel(ctx)); err != nil {
					return nil, err
				}
			}
			return &gantry.Write{Items: []gantry.Item{item}, Parts: []gantry.Part{part}}, nil
		})
}

// bare is what anybody would write without gantry: POST, and read the answer.
type bare struct {
	client *http.Client
	base   string
	body   []byte
}

func newBare(base string) *bare {
	return &bare{base: base, body: bytes.Repeat([]byte("gantry.."), bodySize/8),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: units, DisableCompression: true}}}
}

func (b *bare) call(ctx context.Context, _ int, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.base+path, bytes.NewReader(b.body))
	if err != nil {
		return err
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("bare call: status %d", resp.StatusCode)
	}
	return nil
}
