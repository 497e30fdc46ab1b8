package e2e

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/postgres"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
)

// visit is one request as the foreign server saw it.
type visit struct {
	key        string
	start, end time.Time
	cut        bool // the caller went away before the answer
}

// foreign is an inference service of somebody else: it takes its time and writes down what comes.
// A request that its caller left goes on to its end all the same, as real inference does.
type foreign struct {
	*httptest.Server
	latency func(n int) time.Duration // of the n-th request

	mu    sync.Mutex
	log   []visit
	now   int
	worst int
}

func newForeign(t *testing.T, latency func(n int) time.Duration) *foreign {
	t.Helper()
	f := &foreign{latency: latency}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

// ServeHTTP answers after the latency. The answer leaves when the handler has returned, so that the
// end is on the log before the caller can know of it.
func (f *foreign) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	n := len(f.log)
	f.log = append(f.log, visit{key: r.Header.Get("Idempotency-Key"), start: time.Now()})
	f.now++
	f.worst = max(f.worst, f.now)
	f.mu.Unlock()
	done := time.NewTimer(f.latency(n))
	io.Copy(io.Discard, r.Body)
	<-done.C
	w.Header().Set("Content-Type", "application/json")
	io.WriteString(w, `{"score": 1}`)
	f.mu.Lock()
	f.now--
	f.log[n].end, f.log[n].cut = time.Now(), r.Context().Err() != nil
	f.mu.Unlock()
}

func (f *foreign) visits() []visit {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.log)
}

func (f *foreign) keys() int {
	keys := map[string]bool{}
	for _, v := range f.visits() {
		if !v.end.IsZero() && !v.cut {
			keys[v.key] = true
		}
	}
	return len(keys)
}

// fleet is one installation: a folder, a database, and the processes on both.
type fleet struct {
	t     *testing.T
	bin   string
	home  string
	dsn   string
	store *postgres.Store
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	home, err := os.MkdirTemp("", "gantry-limits-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	f := &fleet{t: t, bin: filepath.Join(home, "gantry"), home: home, dsn: postgrestest.Durable(t)}
	if out, err := exec.Command("go", "build", "-o", f.bin, "../../cmd/gantry").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	if f.store, err = postgres.Open(t.Context(), f.dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.store.Close)
	return f
}

// process starts gantry; it is killed at the latest when the test ends.
func (f *fleet) process(args ...string) *exec.Cmd {
	f.t.Helper()
	var log bytes.Buffer
	c := exec.Command(f.bin, append([]string{"--database-url", f.dsn, "--home", filepath.Join(f.home, "h"),
		"--key", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"}, args...)...)
	c.Stdout, c.Stderr = &log, &log
	if err := c.Start(); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
		if f.t.Failed() {
			f.t.Logf("%v:\n%s", args, log.Bytes())
		}
	})
	return c
}

// pipeline writes a pipeline file whose one stage calls url, and makes its inbox.
func (f *fleet) pipeline(name, url, limits string) {
	f.t.Helper()
	text := fmt.Sprintf(`gantry: v1
name: %[1]s
sources:
  inbox: {kind: dir, path: %[2]s/in-%[1]s, settle: 100ms}
sinks:
  out: {kind: dir, path: %[2]s/out-%[1]s}
stages:
  - {name: score, each: part, call: score}
processors:
  score: {kind: http, url: "%[3]s/v1/%[1]s", timeout: 3s, limits: %[4]s}
retry: {attempts: 5, initial: 100ms, factor: 2, max: 1s}
`, name, f.home, url, limits)
	for _, dir := range []string{"pipelines", "in-" + name, "out-" + name} {
		if err := os.MkdirAll(filepath.Join(f.home, dir), 0o755); err != nil {
			f.t.Fatal(err)
		}
	}
	f.write("pipelines/"+name+".yaml", []byte(text))
}

func (f *fleet) write(path string, b []byte) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.home, path), b, 0o644); err != nil {
		f.t.Fatal(err)
	}
}

// singles puts n images into an inbox, archives n zips of each images.
func (f *fleet) singles(pipeline string, n int) {
	for i := range n {
		f.write(fmt.Sprintf("in-%s/single-%d.png", pipeline, i), picture(f.t, i))
	}
}

func (f *fleet) archives(pipeline string, n, each int) {
	for i := range n {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		for j := range each {
			w, err := z.Create(fmt.Sprintf("image-%d.png", j))
			if err != nil {
				f.t.Fatal(err)
			}
			w.Write(picture(f.t, 1000*(i+1)+j))
		}
		if err := z.Close(); err != nil {
			f.t.Fatal(err)
		}
		f.write(fmt.Sprintf("in-%s/archive-%d.zip", pipeline, i), b.Bytes())
	}
}

// picture is a small image that differs from those of other seeds.
func picture(t *testing.T, seed int) []byte {
	t.Helper()
	m := image.NewGray(image.Rect(0, 0, 16, 16))
	for i := range m.Pix {
		m.Pix[i] = byte(i)
	}
	for i := range 4 {
		m.SetGray(i, 0, color.Gray{Y: byte(seed >> (8 * i))})
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (f *fleet) number(q string, args ...any) int {
	f.t.Helper()
	var n int
	if err := f.store.Pool().QueryRow(f.t.Context(), q, args...).Scan(&n); err != nil {
		f.t.Fatal(err)
	}
	return n
}

// unitsOf says how many units of the target a process has on the books.
func (f *fleet) unitsOf(pid int) int {
	return f.number(`select coalesce(sum(g.units), 0) from limit_grant g join worker w on w.id = g.worker
		join limiter l on l.id = g.limiter where w.pid = $1 and l.key like 'http%'`, pid)
}

func (f *fleet) await(what string, within time.Duration, cond func() bool) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), within)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			f.t.Fatalf("%s: not within %s", what, within)
		}
	}
}

// done says how many tasks ended well, and fails the test if any ended otherwise.
func (f *fleet) done() int {
	f.t.Helper()
	if n := f.number(`select count(*) from task where error_code is not null`); n > 0 {
		f.t.Fatalf("%d tasks failed", n)
	}
	return f.number(`select count(*) from task where finished_at is not null`)
}

// mostStarts is the largest number of starts in any window of the length.
func mostStarts(log []visit, window time.Duration) int {
	worst, from := 0, 0
	for i := range log {
		for log[i].start.Sub(log[from].start) >= window {
			from++
		}
		worst = max(worst, i-from+1)
	}
	return worst
}

// inUse is how many requests were under way on average between two moments.
func inUse(log []visit, from, to time.Time) float64 {
	var sum time.Duration
	for _, v := range log {
		start, end := v.start, v.end
		if start.Before(from) {
			start = from
		}
		if end.After(to) {
			end = to
		}
		sum += max(0, end.Sub(start))
	}
	return sum.Seconds() / to.Sub(from).Seconds()
}

// TestLimitsHoldOverProcesses has three processes and two pipelines share a target with a rate. One
// process is killed with its units out; the target must not notice but for the calls cut off.
func TestLimitsHoldOverProcesses(t *testing.T) {
	const units, rate, burst, limits = 8, 20, 5, "{concurrency: 8, rate: 20/s, burst: 5}"
	service := newForeign(t, func(n int) time.Duration { return time.Duration(150+n*37%50) * time.Millisecond })
	f := newFleet(t)
	f.pipeline("left", service.URL, limits)
	f.pipeline("right", service.URL, limits)
	f.archives("left", 9, 20)
	f.singles("left", 10)
	f.archives("right", 1, 20)
	f.singles("right", 40)
	const parts, tasks = 9*20 + 10 + 20 + 40, 9 + 10 + 1 + 40

	f.process("serve", "--pipelines", filepath.Join(f.home, "pipelines"), "--listen", "127.0.0.1:0", "--lease", "2s", "--tasks", "8")
	f.process("worker", "--lease", "2s", "--tasks", "8")
	victim := f.process("worker", "--lease", "2s", "--tasks", "8")
	f.await("a third of the work, and units at the victim", 20*time.Second, func() bool {
		return len(service.visits()) > parts/3 && f.unitsOf(victim.Process.Pid) > 0
	})
	victim.Process.Kill()
	killed := time.Now()
	f.await("all tasks", 30*time.Second, func() bool { return f.done() == tasks })

	log := service.visits()
	if n := service.keys(); n != parts {
		t.Errorf("%d parts were answered, not %d", n, parts)
	}
	if service.worst > units {
		t.Errorf("%d requests at once", service.worst)
	}
	most := mostStarts(log, time.Second)
	if most > rate+burst {
		t.Errorf("%d starts within a second", most)
	}
	// The last twentieth is not measured: there are not always calls left to make.
	busy := log[:len(log)*19/20]
	got := float64(len(busy)-1) / busy[len(busy)-1].start.Sub(busy[0].start).Seconds()
	if got < 0.9*rate {
		t.Errorf("%.1f starts a second of %d", got, rate)
	}
	cut := 0
	for _, v := range log {
		if v.cut {
			cut++
		}
	}
	t.Logf("%d requests for %d parts, %d cut off by the kill at %s; at most %d at once and %d starts within a second; %.2f starts a second of %d",
		len(log), parts, cut, killed.Sub(log[0].start).Round(time.Millisecond), service.worst, most, got, rate)
}

// TestUnitsAreUsed has three processes with very different loads share eight units: none may stay
// idle at one process while another has calls to make.
func TestUnitsAreUsed(t *testing.T) {
	const units, limits = 8, "{concurrency: 8}"
	service := newForeign(t, func(int) time.Duration { return 100 * time.Millisecond })
	f := newFleet(t)
	f.pipeline("left", service.URL, limits)
	f.pipeline("right", service.URL, limits)
	f.archives("left", 10, 50)
	f.archives("right", 1, 30)
	f.singles("right", 50)
	const parts, tasks = 10*50 + 30 + 50, 10 + 1 + 50

	f.process("serve", "--pipelines", filepath.Join(f.home, "pipelines"), "--listen", "127.0.0.1:0", "--lease", "2s", "--tasks", "8")
	f.process("worker", "--lease", "2s", "--tasks", "8")
	f.process("worker", "--lease", "2s", "--tasks", "2")
	f.await("all tasks", 40*time.Second, func() bool { return f.done() == tasks })

	log := service.visits()
	if len(log) != parts {
		t.Errorf("%d requests for %d parts", len(log), parts)
	}
	if service.worst > units {
		t.Errorf("%d requests at once", service.worst)
	}
	from, to := log[len(log)/10].start, log[len(log)*17/20].start
	got := inUse(log, from, to)
	if got < 0.9*units {
		t.Errorf("%.2f units of %d in use", got, units)
	}
	t.Logf("%d requests; at most %d at once; %.2f units of %d in use over %s", len(log), service.worst, got, units, to.Sub(from).Round(time.Millisecond))
}
