package sim

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
	"github.com/gantry-imaging/gantry/internal/sim/model"
)

var randomHistories = flag.Int("histories", 200, "random histories of TestConformance")

func index[T comparable](list []T, x T) int { return slices.Index(list, x) }

// modelRows gives the rows of the tasks of a history, in the words of postgresRows.
func modelRows(a *actor, s *model.Store, now time.Time, prefix string) (out []string) {
	s.Look(func(v model.View) {
		name := func(id gantry.TaskID) string {
			if id == 0 {
				return ""
			}
			return v.Task(id).PublicID
		}
		for _, t := range v.Tasks() {
			final := -1
			if t.Ended {
				final = int(t.Final)
			}
			out = append(out, fmt.Sprintf("task %s parent %q role %d ordinal %d count %d leg %d ended %d %d %q %q", t.PublicID, name(t.Parent), t.Role, t.Ordinal,
				t.Count, t.Leg, final, t.Kind, t.Code, t.Detail))
			if h := v.Hot(t.ID); h != nil {
				out = append(out, fmt.Sprintf("hot %s lane %d prio %d %d/%d phase %d owner %d seq %d leg %d try %d deaths %d at %d open %d run %s until %s aside %t", t.PublicID,
					index(a.lanes, h.Lane), h.Priority, h.State, h.Stage, h.Phase, index(a.workers, h.Owner), h.Seq, h.Leg, h.Attempt, h.Crashes,
					h.Cursor, h.Open, clockTime(h.RunAt, now), clockTime(h.Until, now), h.Aside))
			}
		}
		for _, e := range v.Events() {
			out = append(out, fmt.Sprintf("event %s %d leg %d %d>%d stage %d try %d worker %d change %d %q", name(e.Task), e.Seq, e.Leg, e.From, e.To, e.Stage,
				e.Attempt, index(a.workers, e.Worker), e.Change, e.Code))
		}
		for _, x := range v.Intents() {
			out = append(out, fmt.Sprintf("intent %s %q worker %d limit %d", x.ID, name(x.Task), index(a.workers, x.Worker), index(a.limiters, x.Limiter)))
		}
		for _, x := range v.Outcomes() {
			out = append(out, fmt.Sprintf("outcome %s %q %d", x.ID, name(x.Task), x.Result))
		}
		for _, g := range v.Grants() {
			out = append(out, fmt.Sprintf("grant %d worker %d %d of %d held %s", index(a.limiters, g.Limiter), index(a.workers, g.Worker), g.Units, g.Want, clockTime(g.Held, now)))
		}
		for _, c := range v.Commands() {
			out = append(out, fmt.Sprintf("command %s %s by %s %t %s", name(c.Task), c.Verb, c.By, c.Done, c.Result))
		}
	})
	return ofHistory(out, prefix)
}

// ofHistory keeps what is about a history, and what is about nobody's.
func ofHistory(rows []string, prefix string) []string {
	rows = slices.DeleteFunc(rows, func(r string) bool {
		return !strings.Contains(r, prefix) && !strings.HasPrefix(r, "grant")
	})
	slices.Sort(rows)
	return rows
}

func clockTime(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return minutes(t.Sub(now))
}

// postgresRows gives the rows of the tasks of a history.
func postgresRows(t testing.TB, a *actor, s *postgres.Store, prefix string) []string {
	t.Helper()
	var out []string
	query := func(q string, say func(f []any) string) {
		rows, err := s.Pool().Query(t.Context(), q, prefix)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			f, err := rows.Values()
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, say(f))
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
	}
	worker := func(x any) int { id, _ := x.(int64); return index(a.workers, gantry.WorkerID(id)) }
	lane := func(x any) int { return index(a.lanes, x.(int32)) }
	limiter := func(x any) int { return index(a.limiters, x.(int32)) }
	query(`select t.public_id, coalesce(p.public_id, ''), t.role, t.ordinal, coalesce(t.count, 0), t.leg, coalesce(t.final_state, -1), coalesce(t.error_kind, 0),
			coalesce(t.error_code, ''), coalesce(t.error, '') from task t left join task p on p.id = t.parent where starts_with(t.public_id, $1)`, func(f []any) string {
		return fmt.Sprintf("task %s parent %q role %d ordinal %d count %d leg %d ended %d %d %q %q", f...)
	})
	query(`select t.public_id, h.lane, h.priority, h.state, h.stage, h.phase, h.owner, h.seq, h.leg, h.attempt, h.crashes, h.cursor, h.open_children,
			case when h.phase = 2 or h.run_at is not null then extract(epoch from h.run_at - now())::float8 end, extract(epoch from h.state_until - now())::float8, h.aside
			from task_hot h join task t on t.id = h.id where starts_with(t.public_id, $1)`, func(f []any) string {
		f[1], f[6], f[13], f[14] = lane(f[1]), worker(f[6]), span(f[13]), span(f[14])
		return fmt.Sprintf("hot %s lane %d prio %d %d/%d phase %d owner %d seq %d leg %d try %d deaths %d at %d open %d run %s until %s aside %t", f...)
	})
	query(`select t.public_id, e.seq, e.leg, e.from_state, e.to_state, e.stage, e.attempt, e.worker, e.change, coalesce(e.code, '')
			from task_event e join task t on t.id = e.task_id where starts_with(t.public_id, $1)`, func(f []any) string {
		f[7] = worker(f[7])
		return fmt.Sprintf("event %s %d leg %d %d>%d stage %d try %d worker %d change %d %q", f...)
	})
	query(`select i.id::text, coalesce(t.public_id, ''), i.worker, i.limiter from call_intent i join task t on t.id = i.task_id where starts_with(t.public_id, $1)`, func(f []any) string {
		f[2], f[3] = worker(f[2]), limiter(f[3])
		return fmt.Sprintf("intent %s %q worker %d limit %d", f...)
	})
	query(`select o.id::text, coalesce(t.public_id, ''), o.result from call_outcome o join task t on t.id = o.task_id where starts_with(t.public_id, $1)`, func(f []any) string {
		return fmt.Sprintf("outcome %s %q %d", f...)
	})
	query(`select limiter, worker, units, want, extract(epoch from held_until - now())::float8 from limit_grant where $1 <> ''`, func(f []any) string {
		f[0], f[1], f[4] = limiter(f[0]), worker(f[1]), span(f[4])
		return fmt.Sprintf("grant %d worker %d %d of %d held %s", f...)
	})
	query(`select t.public_id, c.verb, c.by, c.done_at is not null, coalesce(c.result, '') from command c join task t on t.id = c.task_id where starts_with(t.public_id, $1)`, func(f []any) string {
		return fmt.Sprintf("command %s %s by %s %t %s", f...)
	})
	return ofHistory(out, prefix)
}

func span(x any) string {
	secs, ok := x.(float64)
	if !ok {
		return "never"
	}
	return minutes(time.Duration(secs * float64(time.Second)))
}
