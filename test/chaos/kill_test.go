package chaos

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// atServe are the points that only a process that watches sources passes.
var atServe = []string{"before_arrival", "after_arrival", "while_receiving", "after_turn_away", "before_member", "after_member", "between_ways",
	"after_mind", "before_tidy", "after_link", "after_tidy", "before_tended"}

// atBucket are the points that only a process with objects in a bucket passes.
var atBucket = []string{"before_object_commit", "after_object_noted", "after_object_commit", "after_object_copy"}

// points lists the names of all failpoints from the source.
func points(t *testing.T) []string {
	t.Helper()
	call := regexp.MustCompile(`fail\.Point\("([a-z_]+)"\)`)
	var names []string
	err := filepath.WalkDir("../../internal", func(file string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return err
		}
		b, err := os.ReadFile(file)
		for _, m := range call.FindAllSubmatch(b, -1) {
			if slices.Contains(names, string(m[1])) {
				t.Errorf("%s: point %s is there twice", file, m[1])
			}
			names = append(names, string(m[1]))
		}
		return err
	})
	if err != nil || len(names) < 20 {
		t.Fatalf("points %v: %v", names, err)
	}
	slices.Sort(names)
	return names
}

// without leaves some names out, each of which has to be there.
func without(t *testing.T, names, some []string) []string {
	t.Helper()
	all := len(names)
	if names = slices.DeleteFunc(names, func(s string) bool { return slices.Contains(some, s) }); len(names) != all-len(some) {
		t.Errorf("of %v not all are in the source", some)
	}
	return names
}

// setting reads a number from the environment.
func setting(t *testing.T, name string, or int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return or
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s is no number", name, s)
	}
	return n
}

// kill is one death.
type kill struct {
	point  string
	at     time.Time
	worker int64
}

// killer kills the processes of an installation at one point after another.
type killer struct {
	t      *testing.T
	f      *field
	i      *installation
	points []string
	want   int

	mu      sync.Mutex
	todo    map[bool][]string // points, by whether only serve passes them
	rand    *rand.Rand
	kills   []kill
	late    map[string]int // processes that did not come to their point in time
	dropped int
}

// patience is how long a process may take to come to its point.
const patience = 4 * time.Second

// next gives the point for a process: each kind goes through its points again and again.
func (k *killer) next(serve bool) (string, int, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.kills) >= k.want && len(k.missing()) == 0 {
		return "", 0, false
	}
	mine := serve && k.rand.IntN(4) > 0
	if len(k.todo[mine]) == 0 {
		for _, p := range k.points {
			if slices.Contains(atServe, p) == mine {
				k.todo[mine] = append(k.todo[mine], p)
			}
		}
		list := k.todo[mine]
		k.rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	}
	p := k.todo[mine][0]
	k.todo[mine] = k.todo[mine][1:]
	if p == "after_register" || strings.HasSuffix(p, "_close") { // passed once, or seldom
		return p, 1, true
	}
	return p, 1 + k.rand.IntN(2), true
}

// missing lists the points at which nobody died yet.
func (k *killer) missing() (names []string) {
	for _, p := range k.points {
		if !slices.ContainsFunc(k.kills, func(x kill) bool { return x.point == p }) {
			names = append(names, p)
		}
	}
	return names
}

// again gives a point back that was not reached.
func (k *killer) again(point string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.late[point]++
	serve := slices.Contains(atServe, point)
	k.todo[serve] = append(k.todo[serve], point)
}

// slot keeps one process going after another until enough have died.
func (k *killer) slot(serve bool) {
	for until := time.Now().Add(10 * time.Minute); time.Now().Before(until); {
		point, n, more := k.next(serve)
		if !more {
			return
		}
		env := fmt.Sprintf("GANTRY_FAIL=%s:kill:%d", point, n)
		begin := k.f.worker
		if serve {
			begin = k.f.serve
		}
		p := begin(k.t, k.i, env)
		select {
		case <-p.done:
		case <-time.After(patience):
			k.again(point)
			p.kill()
			k.bury(p)
			continue
		}
		if !p.killed() {
			k.t.Errorf("a process that was to die at %s ended with %v\n%s", point, p.cmd.ProcessState, p.log.tail(2000))
			return
		}
		x := kill{point: point, at: p.at, worker: k.bury(p)}
		k.mu.Lock()
		k.kills = append(k.kills, x)
		k.mu.Unlock()
	}
}

// bury gives back the space that a dead process reserved, and says which lease it had.
func (k *killer) bury(p *process) (worker int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.i.scan(k.t, &worker, `select coalesce(max(id), 0) from worker where pid = $1`, p.cmd.Process.Pid)
	if err := giveBack(filepath.Join(k.i.home, "blobs", "seg", strconv.FormatInt(worker, 10))); err != nil {
		k.t.Errorf("give space back: %v", err)
	}
	return worker
}

// supply drops more inputs whenever few tasks are left, until enough processes have died.
func (k *killer) supply(done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-time.After(100 * time.Millisecond):
		}
		k.mu.Lock()
		// How often a task's process died counts against the task; here it is nobody's fault.
		if _, err := k.i.db.Exec(k.t.Context(), `update task_hot set crashes = 0
			where id = any(array(select id from task_hot where crashes > 1 for update skip locked))`); err != nil {
			k.t.Errorf("forgive deaths: %v", err)
		}
		k.f.mark(k.t, k.i)
		k.f.hurry(k.t, k.i)
		roots := k.i.count(k.t, `select count(*) from task_hot h join task t using (id) where t.parent is null`)
		known := k.i.count(k.t, `select count(*) from task where parent is null`)
		if roots < 24 && known > (k.dropped-8)*len(modes) {
			k.f.drop(k.t, k.dropped, k.dropped+4)
			k.dropped += 4
		}
		k.mu.Unlock()
	}
}

// TestKillsAtEveryPoint kills the processes of an installation at every failpoint, over and over, while work comes
// in, and wants the results of a run in which nobody dies. CHAOS_KILLS is how often, CHAOS_OUT the file for
// the figures, CHAOS_SEED chooses the order.
func TestKillsAtEveryPoint(t *testing.T) {
	f, c := newField(t), newCluster(t)
	f.clean(t)
	seed := uint64(setting(t, "CHAOS_SEED", 1))
	k := &killer{t: t, f: f, i: c.install(t), points: without(t, points(t), slices.Concat(atBucket, atWire, atArchive, atReport)), want: setting(t, "CHAOS_KILLS", 200), todo: map[bool][]string{}, late: map[string]int{}, rand: rand.New(rand.NewPCG(seed, 1))}
	begun := time.Now()
	done := make(chan struct{})
	var slots, supply sync.WaitGroup
	supply.Go(func() { k.supply(done) })
	for n := range 3 {
		slots.Go(func() { k.slot(n == 0) })
	}
	slots.Wait()
	close(done)
	supply.Wait()
	took := time.Since(begun)
	if len(k.kills) < k.want {
		t.Errorf("%d processes died, not %d", len(k.kills), k.want)
	}
	if m := k.missing(); len(m) > 0 {
		t.Errorf("nobody died at %v", m)
	}
	p, q := f.serve(t, k.i), f.worker(t, k.i)
	f.drained(t, k.i, k.dropped, 6*time.Minute)
	p.stop(t)
	q.stop(t)
	f.sound(t, k.i)
	got := f.tree(t)
	k.report(took)
	same(t, f.undisturbed(t, c, k.dropped), got)
}

// figures are what a run of kills came to. Times are in seconds.
type figures struct {
	Kills       int            `json:"kills"`
	Inputs      int            `json:"inputs"`
	Seconds     float64        `json:"seconds"`
	Takeovers   int            `json:"takeovers"`
	OverLease50 float64        `json:"takeover_p50_over_lease_s"`
	OverLease99 float64        `json:"takeover_p99_over_lease_s"`
	Points      map[string]int `json:"points"`
	Late        map[string]int `json:"late"` // processes that did not come to their point in time
}

// report says how often processes died where, and how long after the lease others took their tasks over.
func (k *killer) report(took time.Duration) {
	x := figures{Kills: len(k.kills), Late: k.late, Inputs: k.dropped * len(modes), Seconds: took.Seconds(), Points: map[string]int{}}
	var over []float64
	for _, d := range k.kills {
		x.Points[d.point]++
		var at *time.Time
		k.i.scan(k.t, &at, `select max(at) from task_event where change = 9 and worker = $1`, d.worker)
		if at != nil {
			over = append(over, (at.Sub(d.at) - lease).Seconds())
		}
	}
	slices.SortFunc(over, cmp.Compare[float64])
	if x.Takeovers = len(over); len(over) > 0 {
		x.OverLease50, x.OverLease99 = over[len(over)/2], over[len(over)*99/100]
	}
	b, err := json.Marshal(x)
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Logf("%s", b)
	if file := os.Getenv("CHAOS_OUT"); file != "" {
		if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
			k.t.Error(err)
		}
	}
	if x.Takeovers == 0 {
		k.t.Error("no task was rescued: the kills missed the work")
	}
}
