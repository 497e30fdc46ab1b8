package e2e

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/postgres"
)

// fleet is one installation that several processes work for, with a look into its database.
type fleet struct {
	installation
	t     *testing.T
	lease string
	dir   string // of inboxes, results and pipeline files
	store *postgres.Store
}

func newFleet(t *testing.T, lease string) *fleet {
	t.Helper()
	f := &fleet{installation: install(t), t: t, dir: folder(t), lease: lease}
	var err error
	if f.store, err = postgres.Open(t.Context(), f.dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.store.Close)
	return f
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
`, name, f.dir, url, limits)
	for _, dir := range []string{"pipelines", "in-" + name, "out-" + name} {
		if err := os.MkdirAll(filepath.Join(f.dir, dir), 0o755); err != nil {
			f.t.Fatal(err)
		}
	}
	f.write("pipelines/"+name+".yaml", []byte(text))
}

func (f *fleet) write(path string, b []byte) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, path), b, 0o644); err != nil {
		f.t.Fatal(err)
	}
}

// singles puts n images into an inbox, archives n zips of each images.
func (f *fleet) singles(pipeline string, n int) {
	for i := range n {
		f.write(fmt.Sprintf("in-%s/single-%d.png", pipeline, i), numbered(i))
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
			w.Write(numbered(1000*(i+1) + j))
		}
		if err := z.Close(); err != nil {
			f.t.Fatal(err)
		}
		f.write(fmt.Sprintf("in-%s/archive-%d.zip", pipeline, i), b.Bytes())
	}
}

// numbered is a small image that differs from those of other numbers.
func numbered(n int) []byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "image %d", n))
	return picture(sum[:])
}

func (f *fleet) number(q string, args ...any) int {
	f.t.Helper()
	var n int
	if err := f.store.Pool().QueryRow(f.t.Context(), q, args...).Scan(&n); err != nil {
		f.t.Fatal(err)
	}
	return n
}

// begin starts a process that runs so many tasks at once.
func (f *fleet) begin(kind, tasks string) *process {
	f.t.Helper()
	if kind == "serve" {
		return f.serve(f.t, filepath.Join(f.dir, "pipelines"), "--lease", f.lease, "--tasks", tasks)
	}
	return f.start(f.t, kind, "--lease", f.lease, "--tasks", tasks)
}

// unitsOf says how many units of the target a process has on the books.
func (f *fleet) unitsOf(p *process) int {
	return f.number(`select coalesce(sum(g.units), 0) from limit_grant g join worker w on w.id = g.worker
		join limiter l on l.id = g.limiter where w.pid = $1 and l.key like 'http%'`, p.cmd.Process.Pid)
}

// done says how many tasks ended well, and fails the test if any ended otherwise.
func (f *fleet) done() int {
	f.t.Helper()
	if n := f.number(`select count(*) from task where error_code is not null`); n > 0 {
		f.t.Fatalf("%d tasks failed", n)
	}
	return f.number(`select count(*) from task where finished_at is not null`)
}

// traffic is what a service saw, in the order of beginning.
type traffic []seen

// atOnce is the largest number of requests under way at one moment.
func (l traffic) atOnce() int {
	type edge struct {
		at   time.Time
		step int
	}
	var edges []edge
	for _, s := range l {
		if !s.End.IsZero() {
			edges = append(edges, edge{s.Begin, 1}, edge{s.End, -1})
		}
	}
	// At the same moment the end comes first.
	slices.SortFunc(edges, func(a, b edge) int {
		if c := a.at.Compare(b.at); c != 0 {
			return c
		}
		return a.step - b.step
	})
	now, most := 0, 0
	for _, e := range edges {
		now += e.step
		most = max(most, now)
	}
	return most
}

// starts is the largest number of requests that began within any window of the length.
func (l traffic) starts(window time.Duration) int {
	most, from := 0, 0
	for i := range l {
		for l[i].Begin.Sub(l[from].Begin) >= window {
			from++
		}
		most = max(most, i-from+1)
	}
	return most
}

// inUse is how many requests were under way on average between two moments.
func (l traffic) inUse(from, to time.Time) float64 {
	var sum time.Duration
	for _, s := range l {
		begin, end := s.Begin, s.End
		if begin.Before(from) {
			begin = from
		}
		if end.After(to) {
			end = to
		}
		sum += max(0, end.Sub(begin))
	}
	return sum.Seconds() / to.Sub(from).Seconds()
}

// keys counts the parts that were sent whole.
func (l traffic) keys() int {
	keys := map[string]bool{}
	for _, s := range l {
		if s.Whole {
			keys[s.Key] = true
		}
	}
	return len(keys)
}

// TestTrafficIsCounted holds the counting to a log whose figures are known.
func TestTrafficIsCounted(t *testing.T) {
	t.Parallel()
	origin := time.Now()
	at := func(ms int) time.Time { return origin.Add(time.Duration(ms) * time.Millisecond) }
	l := traffic{{Begin: at(0), End: at(100)}, {Begin: at(50), End: at(150)}, {Begin: at(100), End: at(200)}, {Begin: at(1049), End: at(1100)}}
	if n := l.atOnce(); n != 2 {
		t.Errorf("%d at once", n)
	}
	if n := l.starts(time.Second); n != 3 {
		t.Errorf("%d starts within a second", n)
	}
	if x := l.inUse(at(0), at(200)); math.Abs(x-1.5) > 1e-9 {
		t.Errorf("%g in use", x)
	}
}

// TestLimitsHoldOverProcesses has three processes and two pipelines share a target with a rate. One
// process is killed with its units out; what the target sees stays within the limits, and near them.
func TestLimitsHoldOverProcesses(t *testing.T) {
	const units, rate, burst, limits = 8, 20, 5, "{concurrency: 8, rate: 20/s, burst: 5}"
	service := newForeign(t, 175*time.Millisecond)
	f := newFleet(t, "2s")
	f.pipeline("left", service.URL, limits)
	f.pipeline("right", service.URL, limits)
	f.archives("left", 9, 20)
	f.singles("left", 10)
	f.archives("right", 1, 20)
	f.singles("right", 40)
	const parts, tasks = 9*20 + 10 + 20 + 40, 9 + 10 + 1 + 40

	f.begin("serve", "8")
	f.begin("worker", "8")
	victim := f.begin("worker", "8")
	eventually(t, 20*time.Second, "a third of the work, and units at the victim", func() bool {
		return len(service.seen()) > parts/3 && f.unitsOf(victim) > 0
	})
	held := f.unitsOf(victim)
	victim.kill()
	killed := time.Now()
	eventually(t, 30*time.Second, "the end of all tasks", func() bool { return f.done() == tasks })

	log := traffic(service.seen())
	if n := log.keys(); n != parts {
		t.Errorf("%d parts were sent, not %d", n, parts)
	}
	f.proven(t)
	once, most := log.atOnce(), log.starts(time.Second)
	if once > units {
		t.Errorf("%d requests at once", once)
	}
	if most > rate+burst {
		t.Errorf("%d starts within a second", most)
	}
	// The last twentieth is not measured: by then not every process has calls to make.
	busy := log[:len(log)*19/20]
	got := float64(len(busy)-1) / busy[len(busy)-1].Begin.Sub(busy[0].Begin).Seconds()
	if got < 0.9*rate {
		t.Errorf("%.1f starts a second of %d", got, rate)
	}
	t.Logf("%d requests for %d parts; killed after %s with %d units; at most %d at once and %d starts within a second; %.2f starts a second",
		len(log), parts, killed.Sub(log[0].Begin).Round(time.Millisecond), held, once, most, got)
}

// TestUnitsAreUsed has three processes with very different loads share eight units: none may stay
// idle at one process while another has calls to make.
func TestUnitsAreUsed(t *testing.T) {
	const units, limits = 8, "{concurrency: 8}"
	service := newForeign(t, 160*time.Millisecond)
	f := newFleet(t, "15s")
	f.pipeline("left", service.URL, limits)
	f.pipeline("right", service.URL, limits)
	f.archives("left", 10, 50)
	f.archives("right", 1, 30)
	f.singles("right", 50)
	const parts, tasks = 10*50 + 30 + 50, 10 + 1 + 50

	f.begin("serve", "8")
	f.begin("worker", "8")
	f.begin("worker", "2")
	eventually(t, 40*time.Second, "the end of all tasks", func() bool { return f.done() == tasks })

	log := traffic(service.seen())
	f.proven(t)
	if len(log) != parts {
		t.Errorf("%d requests for %d parts", len(log), parts)
	}
	once := log.atOnce()
	if once > units {
		t.Errorf("%d requests at once", once)
	}
	from, to := log[len(log)/10].Begin, log[len(log)*17/20].Begin
	got := log.inUse(from, to)
	if got < 0.9*units {
		t.Errorf("%.2f units of %d in use", got, units)
	}
	t.Logf("%d requests; at most %d at once; %.2f units of %d in use over %s", len(log), once, got, units, to.Sub(from).Round(time.Millisecond))
}
