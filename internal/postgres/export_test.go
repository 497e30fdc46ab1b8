package postgres

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// ResultsForTest puts the whole results statement together for n rows, for arguments written in SQL: those of
// each section in turn.
func ResultsForTest(n int, of ...[]string) (sql string, args []string) {
	names := []string{"held", "leases", "cursors", "items", "marks", "plans", "parts", "outs", "intents", "outcomes"}
	var all []section
	for i, x := range of {
		all = append(all, section{name: names[i], rows: n, args: written(x)})
	}
	return formedForTest(resultsSQL, all...)
}

// written are arguments in SQL.
func written(sql []string) []any {
	args := make([]any, len(sql))
	for i := range sql {
		args[i] = sql[i]
	}
	return args
}

// formedForTest is a statement with its arguments as they are for its form.
func formedForTest(file string, all ...section) (string, []string) {
	sql, args := newSections(file).statement(all...)
	list := make([]string, len(args))
	for i, a := range args {
		text, is := a.(string)
		switch {
		case !is:
			text = strings.ReplaceAll(fmt.Sprintf("array%d::int[]", a), " ", ",")
		case formFor(all) == oneRow && strings.HasPrefix(text, "array["):
			text = "(" + text + ")[1]"
		}
		list[i] = text
	}
	return sql, list
}

// The statements about what a worker holds. $1 worker.
const (
	HeldForTest   = holdingSQL
	ResignForTest = resignSQL
	OrphanForTest = orphanSQL
)

// MovesForTest puts the transition statement together for n rows, with the section of parents.
func MovesForTest(n int, of ...string) (sql string, args []string) {
	return formedForTest(transitionSQL, section{"moves", n, written(of)}, section{"parents", 1, nil})
}

// RedriveForTest are the statements that put tasks back, by what they do.
func RedriveForTest() map[string]string {
	return map[string]string{"kin": kinSQL, "count": countPartsSQL, "again": againSQL, "retry": retryPartsSQL, "back": putBackSQL}
}

// SweepMessagesSQL removes old messages. $1 how old, $2 how many.
const SweepMessagesSQL = sweepMessagesSQL

// AftercareSQL takes objects that are to be looked at. $1 source, $2 how many, $3 for how long (us).
var AftercareSQL = aftercareSQL

// EndedSQL makes the objects of tasks due, and the markers of their groups. $1 tasks.
const EndedSQL = endedSQL

// GrantWithoutOut is the grant as it must not be: blind to the parts that are out.
func GrantWithoutOut() string { return strings.Replace(grantSQL, outSQL, "0", 1) }

// What is done about parts that are out, and about callbacks.
const (
	AnswersSQL  = answersSQL
	WakeSQL     = wakeSQL
	AliveSQL    = aliveSQL
	LandSQL     = landSQL
	StrandedSQL = strandedSQL
)

// The statements about what services send on connections of their own, by what they do, with arguments.
func InboxForTest() map[string][]string {
	part := []string{"1", "0::smallint", "0::smallint", "0::smallint"}
	who := []string{"'x'::bytea", "'A'", "'B'", "'C'", "'SR'"}
	return map[string][]string{
		"complete": {completeSQL, "1"}, "studies": {studiesSQL, "1", "array['x'::bytea]"}, "take": {takeAnswersSQL, "1"},
		"may": append([]string{mayAwaitSQL}, who...), "lock": {lockAwaitedSQL, "array[1::bigint, 2]"},
		"judge": {awaitedSQL, "array[1::bigint, 2]", "'x'::bytea", "'y'::bytea"}, "replace": {replaceSQL, "1", "'x'::bytea", "'y'::bytea"},
		"due": append([]string{dueAnswersSQL}, part...), "wake": {wakeInSQL, "1", "0"},
	}
}

// TakenForTest is the statement of TakenBySink, with its arguments.
func TakenForTest() []string {
	return []string{takenBySinkSQL, "7", "0::smallint", "0::smallint", "0::smallint"}
}

// DebtsForTest are the statements about debts, with their arguments, by what they do.
func DebtsForTest() map[string][]string {
	return map[string][]string{"owe": {oweSQL, "'p/in'", "'CT'", "'new'", "''", "''", "0", "10000"}, "due": {dueDebtsSQL, "'p/in'", "8", "0"}}
}

// FactsForTest are the statements of Facts, with their arguments for a task, by what they read.
func FactsForTest(id string) map[string][]string {
	return map[string][]string{"task": {factsSQL, id}, "processes": {processesSQL}, "ahead": {aheadSQL, id}, "parts": {factPartsSQL, id}, "calls": {openCallsSQL, id},
		"children": {factChildrenSQL, id}, "limits": {factLimitsSQL, id, `array['x']`}, "holders": {factHoldersSQL, id, `array['x']`}}
}

// JoinForTest puts the statement together that adds objects to collections as they were left, n of each at most, for arguments written
// in SQL.
func JoinForTest(n int, groups, objects, receipts []string) (sql string, args []string) {
	return formedForTest(joinAsLeftSQL, section{"groups", n, written(groups)}, section{"objects", n, written(objects)}, section{"receipts", n, written(receipts)})
}

// UnlockedJoin adds an object to a collection that was left with one member, without a look at whether another process is closing it.
func UnlockedJoin(collection int64, x gantry.Gathering) (sql string, args []any) {
	unlocked := strings.Replace(joinAsLeftSQL, "for update", "", 1)
	if unlocked == joinAsLeftSQL {
		panic("the statement is not written as this control expects")
	}
	g := &gathering{key: groupKey{x.Pipeline, x.Group}, rules: x.Rules, head: head{id: collection, arrivals: 1}, rows: []int{0}, target: collection, arrivals: 2}
	return asLeftStatement(newSections(unlocked), []gantry.Gathering{x}, []*gathering{g})
}

// The statements about collections.
const (
	HeadsSQL     = headsSQL
	SeenSQL      = seenSQL
	AsLeftSQL    = asLeftSQL
	PushSQL      = pushSQL
	DueSQL       = dueSQL
	CloseSQL     = closeCollectionsSQL
	NextDueSQL   = nextDueSQL
	WatchSQL     = watchAgainSQL
	CopySQL      = copyMembersSQL
	LeaveSQL     = leaveSQL
	SupersedeSQL = supersedeSQL
	AgainSQL     = arriveAgainSQL
	ReviveSQL    = reviveSQL
	OpenSQL      = openSQL
	ClaimAskSQL  = claimAskSQL
	NextAskSQL   = nextAskSQL
	AnsweredSQL  = answeredSQL
	LockOpenSQL  = lockOpenSQL
)

// The statements about sources. $1 source, $2 ref_mac; $1 lane, $2 tasks.
const (
	KnownForTest   = knownSQL
	DecidedForTest = decidedSQL
	EverFormerSQL  = everFormerSQL
	SomeFormerSQL  = someFormerSQL
	IsFormerSQL    = isFormerSQL
	PlacesForTest  = placesSQL
	MovedForTest   = movedSQL
	QueuedForTest  = queuedSQL
)

// Beside is another process on the same database, which remembers nothing.
func (s *Store) Beside() *Store {
	return &Store{pool: s.pool, write: s.write, ask: s.ask, results: s.results, moves: s.moves, asLeft: s.asLeft}
}

// Unmet tells whether arrivals are taken for new at first.
func (s *Store) Unmet() bool { return s.others.Load() == 0 }

// Remembers tells whether arrivals would be written without a look.
func (s *Store) Remembers(list ...gantry.Gathering) bool {
	_, ok := s.left.of(list, time.Now())
	return ok
}

// Later has time pass for what is remembered.
func (s *Store) Later(d time.Duration) {
	for key, x := range s.left.heads {
		x.at, x.doubt = x.at.Add(-d), x.doubt.Add(-d)
		s.left.heads[key] = x
	}
}

// Certain takes away all doubts.
func (s *Store) Certain() {
	maps.DeleteFunc(s.left.heads, func(_ groupKey, x leftHead) bool { return !x.doubt.IsZero() })
}

// ClaimFromForTest is a claim of one lane that goes by this front.
func ClaimFromForTest(ctx context.Context, s *Store, w gantry.WorkerID, want gantry.Want, priority int16, task int64) ([]gantry.Task, error) {
	return s.claim(ctx, w, []gantry.Want{want}, []front{{priority: priority, task: gantry.TaskID(task)}})
}
