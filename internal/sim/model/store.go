// Package model is the store of package postgres as a few maps, for the simulation: the same methods with
// the same answers, each as one moment in time, on whatever clock it is given. Each method is named after the
// one of package postgres that it stands for, and reads in the order of that one's SQL; the conformance suite of
// package sim holds the two together. A column that a migration adds is a field of one of the types in
// this file, and what a statement does with it goes into the method of that statement.
package model

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Without takes guards away, for controls that show what each of them is for.
type Without struct {
	Seq      bool // a write is held to its task's owner alone
	Fence    bool // a write is held to nothing but that its task has not ended
	Crashes  bool // no number of deaths ends a task
	Rest     bool // a request to be left alone is not written down for the others
	Snapshot bool // a grant sums up what others hold before it waits for the limiter's row
}

// Store is the model. All its methods may be called concurrently.
type Store struct {
	Without Without
	// Hold, if set before first use, is run while a grant has the limiter's row locked, between its statements.
	Hold func(w gantry.WorkerID, limiter int32)

	now func() time.Time

	mu        sync.Mutex
	pipelines []pipeline
	workers   map[gantry.WorkerID]time.Time // by id: when the lease ends
	limiters  []*limiter
	grants    map[grantKey]*grant
	lanes     []lane
	arrivals  map[arrivalKey]*gantry.Arrival
	tasks     []*Task // by id, from 1
	public    map[string]*Task
	hot       map[gantry.TaskID]*Hot
	parts     map[gantry.TaskID]map[gantry.PartKey]*part
	items     map[gantry.TaskID]map[itemKey]*gantry.Item
	events    []Event
	intents   []Intent
	outcomes  []gantry.Outcome
	calls     map[callKey]int // where the intent stands, from 1
	ends      map[callKey]int // where the outcome stands, from 1
	commands  []Command
	pauses    map[gantry.TaskID]pausing
	offPeak   map[string]gantry.Windows
	listeners map[chan string]bool
	lastID    struct {
		worker     gantry.WorkerID
		arrival    int64
		collection int64
	}
}

type pipeline struct {
	name     string
	version  gantry.Digest
	resolved []byte

	extracting time.Duration
}

type limiter struct {
	key  string
	spec gantry.LimiterSpec // as it is declared
	tat  time.Time
	row  chan struct{} // full while a transaction has the row locked

	paused    bool
	notBefore time.Time // zero: none
	breaker   struct {
		state  gantry.BreakerState
		until  time.Time
		worker gantry.WorkerID
	}
}

type grantKey struct {
	limiter int32
	worker  gantry.WorkerID
}

type grant struct {
	units, want int
	urgent      int
	heldUntil   time.Time // zero: its process lives
}

type lane struct {
	gantry.Lane
	private gantry.WorkerID
}

type arrivalKey struct {
	source  string
	mac     gantry.Digest
	version string
}

type callKey struct {
	task gantry.TaskID
	id   gantry.UUID
}

type itemKey struct {
	leg int16
	id  gantry.ItemID
}

type part struct {
	gantry.Part
	due        time.Time // zero: none
	outUntil   time.Time
	outLast    time.Time // its deadline
	outLimiter int32     // 0: it is not out
}

// pausing is a row of task_pause.
type pausing struct {
	by, reason string
	at         time.Time
}

// Task is a row of task.
type Task struct {
	ID       gantry.TaskID
	PublicID string
	Arrival  *gantry.Arrival // of a collection, the first that was collected
	Run      string
	Pipeline int32
	Leg      int16
	Delivery int16
	Created  time.Time
	Parent   gantry.TaskID
	Role     gantry.Role
	Ordinal  int32
	Members  []gantry.Span
	Count    int32
	Ended    bool
	Final    gantry.State // if Ended
	Code     gantry.Code
	Kind     gantry.Kind
	Detail   string

	Collection int64 // 0: it is made of Arrival
	Collected  []*gantry.Arrival
}

// Hot is a row of task_hot.
type Hot struct {
	Lane     int32
	Priority int16
	State    gantry.State
	Phase    gantry.Phase
	Owner    gantry.WorkerID // 0: nobody
	Seq      int32
	Stage    int16
	Leg      int16
	Attempt  int16
	Crashes  int16
	Cursor   int64
	Open     int // children
	Aside    bool
	Answers  int32 // that came as callbacks
	RunAt    time.Time
	Until    time.Time
}

// Rescued is the change of an event that takes a task from a dead process.
const Rescued gantry.Change = 9

// Event is a row of task_event.
type Event struct {
	Task     gantry.TaskID
	Seq      int32
	Leg      int16
	From, To gantry.State
	Stage    int16
	Attempt  int16
	Worker   gantry.WorkerID
	Change   gantry.Change
	Code     gantry.Code
}

// Intent is a row of call_intent.
type Intent struct {
	gantry.Intent
	Worker gantry.WorkerID
}

// Command is a row of command.
type Command struct {
	Task   gantry.TaskID
	Verb   gantry.Verb
	By     string
	Reason string         // of a pause
	To     gantry.Passage // of a move
	Done   bool
	Result string
}

// New makes an empty store on a clock.
func New(now func() time.Time) *Store {
	return &Store{now: now, workers: map[gantry.WorkerID]time.Time{}, grants: map[grantKey]*grant{}, arrivals: map[arrivalKey]*gantry.Arrival{},
		public: map[string]*Task{}, hot: map[gantry.TaskID]*Hot{}, parts: map[gantry.TaskID]map[gantry.PartKey]*part{},
		items: map[gantry.TaskID]map[itemKey]*gantry.Item{}, calls: map[callKey]int{}, ends: map[callKey]int{}, listeners: map[chan string]bool{},
		pauses: map[gantry.TaskID]pausing{}, offPeak: map[string]gantry.Windows{}}
}

// refusal is an error of the database about a statement's rows.
type refusal struct{ state, text string }

// Error says what was refused.
func (r refusal) Error() string { return r.text }

// SQLState is the code of the error in PostgreSQL (appendix A of its manual).
func (r refusal) SQLState() string { return r.state }

func duplicate(table string) error {
	return refusal{"23505", fmt.Sprintf("commit: duplicate key in %s", table)}
}

var errNoRows = errors.New("no rows in result set")

// alive tells whether a worker's lease runs; mu is held.
func (s *Store) alive(w gantry.WorkerID) bool {
	until, ok := s.workers[w]
	return ok && until.After(s.now())
}

// holds is the condition that fences a write: h.id = i.id and h.seq = i.seq and h.owner = w; mu is held.
func (s *Store) holds(w gantry.WorkerID, l gantry.Lease) bool {
	h := s.hot[l.Task]
	switch {
	case h == nil:
		return false
	case s.Without.Fence:
		return true
	case s.Without.Seq:
		return h.Owner == w
	}
	return h.Seq == l.Seq && h.Owner == w
}

// ordered gives the ids of rows of task_hot in the order of priority and id; mu is held.
func (s *Store) ordered(which func(*Hot) bool) []gantry.TaskID {
	var ids []gantry.TaskID
	for id, h := range s.hot {
		if which(h) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b gantry.TaskID) int {
		return cmp.Or(cmp.Compare(s.hot[a].Priority, s.hot[b].Priority), cmp.Compare(a, b))
	})
	return ids
}

func (s *Store) addEvent(id gantry.TaskID, h *Hot, seq int32, from, to gantry.State, w gantry.WorkerID, c gantry.Change, code gantry.Code) {
	s.events = append(s.events, Event{Task: id, Seq: seq, Leg: h.Leg, From: from, To: to, Stage: h.Stage, Attempt: h.Attempt, Worker: w, Change: c, Code: code})
}

// lanesOf gives lanes once each, in order.
func lanesOf(set map[int32]bool) []int32 { return slices.Sorted(maps.Keys(set)) }
