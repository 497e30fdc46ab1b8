package sim

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/sim/model"
)

// check holds a run to its invariants. Those about the store are looked at when something has landed there,
// those about services and the sink when something reaches them, and the others at the end.
type check struct {
	run *run

	mu      sync.Mutex
	broken  string // the first that did not hold
	tail    []moment
	workers map[gantry.WorkerID]*proc
	seen    int // events
	tasks   map[gantry.TaskID]stand
	heard   map[heard]int
	sent    map[heard]int
	intents int            // that were looked at
	inside  map[string]int // requests by service
	starts  map[string][]time.Time
	paused  map[string]time.Time        // by service or pipeline: since when it takes nothing
	held    map[gantry.TaskID]time.Time // since when a task is paused
	atWork  map[*proc]map[string]int    // requests that are at services, by task
	resting map[int32]rest
	acked   []object
}

// stand is where a task stood after its last event.
type stand struct {
	seq   int32
	state gantry.State
}

// heard counts what came from a process for a task.
type heard struct {
	worker   gantry.WorkerID
	task     string
	boundary gantry.Boundary
	part     gantry.PartKey
}

func newCheck(r *run) *check {
	return &check{run: r, workers: map[gantry.WorkerID]*proc{}, tasks: map[gantry.TaskID]stand{}, heard: map[heard]int{}, sent: map[heard]int{},
		inside: map[string]int{}, starts: map[string][]time.Time{}, paused: map[string]time.Time{},
		held: map[gantry.TaskID]time.Time{}, atWork: map[*proc]map[string]int{}, resting: map[int32]rest{}}
}

// fail keeps the first violation, with what happened before it.
func (c *check) fail(format string, args ...any) {
	c.run.mu.Lock()
	tail := slices.Clone(c.run.trace[max(0, len(c.run.trace)-160):])
	c.run.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken == "" {
		c.broken, c.tail = fmt.Sprintf(format, args...), tail
	}
}

func (c *check) register(w gantry.WorkerID, p *proc) {
	c.mu.Lock()
	c.workers[w] = p
	c.mu.Unlock()
}

// legal says which states may follow one another, as the table of the state machine has it.
var legal = func() map[[2]gantry.State]bool {
	m := map[[2]gantry.State]bool{}
	for _, e := range gantry.Lifecycle {
		to, _ := gantry.ParseState(e.Dst)
		for _, s := range e.Src {
			from, _ := gantry.ParseState(s)
			m[[2]gantry.State{from, to}] = true
		}
	}
	return m
}()

// moved looks at the events that are new: each begins where the one before it ended, their seqs rise, and
// the state machine knows the way.
func (c *check) moved() {
	c.run.db.Look(func(v model.View) {
		events := v.Events()
		for _, e := range events[c.seen:] {
			c.event(v, e)
		}
		c.seen = len(events)
	})
}

func (c *check) event(v model.View, e model.Event) {
	was, known := c.tasks[e.Task]
	if t := v.Task(e.Task); !known && t.Role == gantry.Shard {
		was.state = gantry.Inferring
	}
	name := v.Task(e.Task).PublicID
	switch {
	case e.From != was.state:
		c.fail("task %s: event %d goes from %s to %s, and the one before it ended at %s", name, e.Seq, e.From, e.To, was.state)
	case e.Seq <= was.seq:
		c.fail("task %s: event %d comes after event %d", name, e.Seq, was.seq)
	case e.Change == gantry.Advance || e.Change == gantry.End || e.Change == gantry.Reopened:
		if !legal[[2]gantry.State{e.From, e.To}] {
			c.fail("task %s: event %d goes from %s to %s", name, e.Seq, e.From, e.To)
		}
	case e.From != e.To && e.Change != gantry.Move:
		c.fail("task %s: event %d of change %d goes from %s to %s", name, e.Seq, e.Change, e.From, e.To)
	}
	c.holding(name, e)
	c.tasks[e.Task] = stand{e.Seq, e.To}
	c.run.note(c.workers[e.Worker], op{kind: "  event", name: fmt.Sprintf("task %d seq %d %s>%s change %d", e.Task, e.Seq, e.From, e.To, e.Change), odds: often}, "", nil)
}

// claimed looks at how many tasks are in progress.
func (c *check) claimed() {
	c.run.db.Look(func(v model.View) {
		for i, ids := range c.run.ids {
			if n := v.Owned(ids.limiter); n > c.run.world.progress[i] {
				var who []string
				for _, t := range v.Tasks() {
					if h := v.Hot(t.ID); h != nil && h.Phase == gantry.Owned {
						who = append(who, fmt.Sprintf("task %d of %d", t.ID, h.Owner))
					}
				}
				c.fail("%d tasks of %s are in progress, %d may be: %v, %+v", n, c.run.world.pipelines[i].Name, c.run.world.progress[i], who, v.Grants())
			}
		}
	})
}

type partOfTask struct {
	task gantry.TaskID
	key  gantry.PartKey
}

// answered lists the parts that a batch of writes answers, with what they were before.
func (c *check) answered(writes []*gantry.Write) map[partOfTask]gantry.PartStatus {
	was := map[partOfTask]gantry.PartStatus{}
	c.run.db.Look(func(v model.View) {
		for _, w := range writes {
			for _, p := range w.Parts {
				if old, ok := v.Part(w.Lease.Task, p.PartKey); ok && p.Status == gantry.PartOK {
					was[partOfTask{w.Lease.Task, p.PartKey}] = old.Status
				}
			}
		}
	})
	return was
}

// committed looks at what a batch of writes did: a part is answered once.
func (c *check) committed(writes []*gantry.Write, landed []bool, was map[partOfTask]gantry.PartStatus) {
	c.moved()
	for i, yes := range landed {
		for _, p := range writes[i].Parts {
			k := partOfTask{writes[i].Lease.Task, p.PartKey}
			if yes && p.Status == gantry.PartOK && was[k] == gantry.PartOK {
				c.fail("part %v of task %d is answered a second time", p.PartKey, k.task)
			}
		}
	}
}

// intended counts the intents that are on record.
func (c *check) intended(k heard) int {
	c.run.db.Look(func(v model.View) {
		list := v.Intents()
		for _, in := range list[c.intents:] {
			h := heard{worker: in.Worker, boundary: in.Boundary}
			if in.Task != 0 {
				h.task = v.Task(in.Task).PublicID
			}
			if in.Boundary == gantry.AtProcessor {
				h.part = in.Part
			}
			c.sent[h]++
		}
		c.intents = len(list)
	})
	return c.sent[k]
}

// onRecord holds a request to the intent that must have been committed before it.
func (c *check) onRecord(k heard) {
	c.heard[k]++
	if n, on := c.heard[k], c.intended(k); n > on {
		c.fail("worker %d sent %d requests for task %s %v to a %s, and %d are on record", k.worker, n, k.task, k.part, k.boundary, on)
	}
}

// received looks at a request that a service receives, and gives what is called when it is over. What comes
// from a process whose lease has run out cannot be called back: it is no longer held to limits.
func (c *check) received(x processor, key string, began time.Time) (over func()) {
	var k gantry.PartKey
	var task string
	c.run.db.Look(func(v model.View) { task, k = partNamed(c.run, v, key) })
	c.onRecord(heard{x.w, task, gantry.AtProcessor, k})
	alive := false
	c.run.db.Look(func(v model.View) { alive = v.Alive(x.w) })
	if !alive {
		return func() {}
	}
	c.mu.Lock()
	c.inside[x.name]++
	n, crowd := c.inside[x.name], 0
	c.works(x.p, task, 1)
	since, closed := c.paused[x.name]
	if time.Since(began) < 5*time.Millisecond { // else its process stood still on the way
		crowd = c.crowd(x, began)
	}
	c.mu.Unlock()
	c.mayCome(x, task, began)
	if closed && time.Since(since) > heardOf {
		c.fail("a request is at %s, which is paused for %s", x.name, time.Since(since))
	}
	if n > x.concurrency {
		c.fail("%d requests are at %s at once, %d may be", n, x.name, x.concurrency)
	}
	if most := int(x.rate + x.burst); x.rate > 0 && crowd > most {
		c.fail("%d requests to %s began within a second, %d may", crowd, x.name, most)
	}
	return sync.OnceFunc(func() {
		c.mu.Lock()
		c.inside[x.name]--
		c.works(x.p, task, -1)
		c.mu.Unlock()
	})
}

// heardOf is when all processes know that a target is paused: they ask every other second, may have to ask again,
// and a call under way may be on its way for as long as it takes.
const heardOf = callTimeout + 5*time.Second

// allowed notes what an operator allows.
func (c *check) allowed(service string, units int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.paused, service)
	if units == 0 {
		c.paused[service] = time.Now()
	}
}

// crowd notes the beginning of a request, and counts those that began within a second of it. mu is held.
func (c *check) crowd(x processor, began time.Time) int {
	list := append(c.starts[x.name], began)
	slices.SortFunc(list, time.Time.Compare)
	c.starts[x.name] = list
	most := 0
	for i := range list {
		j := i
		for j < len(list) && list[j].Sub(list[i]) < time.Second {
			j++
		}
		most = max(most, j-i)
	}
	return most
}

// delivered looks at a file that reaches the sink.
func (c *check) delivered(w gantry.WorkerID, path string) {
	c.onRecord(heard{worker: w, task: taskOf(path), boundary: gantry.AtSink})
}

// manifest looks at a manifest that reaches the sink: all that it names is there.
func (c *check) manifest(path string, body []byte) {
	var m struct {
		Outputs []struct{ Path, SHA256 string }
	}
	if err := json.Unmarshal(body, &m); err != nil {
		c.fail("the manifest %s cannot be read: %v", path, err)
	}
	for _, o := range m.Outputs {
		x := c.run.sink[taskOf(path)+"/"+o.Path]
		if x == nil {
			c.fail("the manifest %s names %s, which is not there", path, o.Path)
		} else if sum := gantry.Digest(sha256.Sum256(x.body)); sum.String() != o.SHA256 {
			c.fail("the manifest %s names other bytes at %s than are there", path, o.Path)
		}
	}
}

// acknowledge notes that a source need not announce an object again.
func (c *check) acknowledge(x object) {
	c.mu.Lock()
	c.acked = append(c.acked, x)
	c.mu.Unlock()
}

// done tells whether there is nothing left to do, or something is wrong.
func (c *check) done() bool {
	c.mu.Lock()
	over := c.broken != ""
	all := len(c.acked) == len(c.run.world.objects)
	c.mu.Unlock()
	if over || !all {
		return over
	}
	c.run.db.Look(func(v model.View) {
		for _, t := range v.Tasks() {
			all = all && t.Ended
		}
	})
	return all
}
