package postgres_test

import (
	"regexp"
	"testing"

	"github.com/gantry-imaging/gantry/internal/postgres"
)

var scansParts = regexp.MustCompile(`Seq Scan on (task|task_hot|part|callback)\b`)

// TestCallbackPlans holds what is done for each callback, and for what is out, to plans that do not grow with
// the number of parts: with the scheduler's settings and, for what comes over the other connections, without.
func TestCallbackPlans(t *testing.T) {
	t.Parallel()
	p := newPlans(t, false)
	p.exec(`insert into part(task_id, ordinal, leg, stage, processor, status, first, count, out_limiter, out_until)
		select n % 2000 + 1, n / 2000, 0, 0, 0, (n < 1000)::int, 0, 1, case when n < 1000 then 1 end, now() + interval '1 hour' from generate_series(0, 99999) n`)
	p.exec(`insert into callback(id, task_id, leg, stage, processor, ordinal, generation, try, status, verdict, size, sha)
		select gen_random_uuid(), n % 2000 + 1, 0, 0, 0, n / 2000, 0, 1, 1, 0, 0, '' from generate_series(0, 99999) n`)
	key := []string{"1", "0::smallint", "0::smallint", "0::smallint", "1", "0::smallint", "1::smallint"}
	take := append(append([]string{"gen_random_uuid()"}, key...), "1::smallint", "false", "0", "''", "null", "null", "null")
	for _, settings := range []bool{true, false} {
		for name, c := range map[string]struct {
			sql  string
			args []string
		}{
			"take":     {readSQL(t, "callback.sql"), take},
			"wake":     {postgres.WakeSQL, []string{"1"}},
			"alive":    {postgres.AliveSQL, append(append([]string{}, key...), "0")},
			"answers":  {postgres.AnswersSQL, []string{"1", "0::smallint", "0::smallint", "0::smallint", "256"}},
			"land":     {postgres.LandSQL, key},
			"stranded": {postgres.StrandedSQL, []string{"200"}},
		} {
			if plan := p.explain(c.sql, c.args...); scansParts.MatchString(plan) {
				t.Errorf("%s, with the scheduler's settings %v, reads a whole table:\n%s", name, settings, plan)
			}
		}
		p.exec(`vacuum analyze part`)
		p.exec(`vacuum analyze callback`)
		p.exec(`vacuum analyze task`)
		p.exec(`vacuum analyze task_hot`)
		for name := range postgres.Planning {
			p.exec(`reset ` + name)
		}
	}
}

var scansInbox = regexp.MustCompile(`Seq Scan on (task|task_hot|part|awaited|awaited_study|inbox)\b`)

// TestInboxPlans holds what is done for each answer that comes to the inbox to plans that do not grow with what is in it.
func TestInboxPlans(t *testing.T) {
	t.Parallel()
	p := newPlans(t, false)
	p.exec(`insert into part(task_id, ordinal, leg, stage, processor, status, first, count) select n % 2000 + 1, n / 2000, 0, 0, 0, 0, 0, 1 from generate_series(0, 19999) n`)
	p.exec(`insert into awaited(task_id, ordinal, leg, stage, processor, generation, try, called, sent) select n % 2000 + 1, n / 2000, 0, 0, 0, 0, 1, 'A', '' from generate_series(0, 19999) n`)
	p.exec(`insert into awaited_study select decode(md5(id::text), 'hex'), id from awaited`)
	p.exec(`insert into inbox(awaited, size, verdict, class, instance, sha) select id, 0, 0, '', decode(md5(id::text), 'hex'), '' from awaited`)
	for _, settings := range []bool{true, false} {
		for name, c := range postgres.InboxForTest() {
			if plan := p.explain(c[0], c[1:]...); scansInbox.MatchString(plan) {
				t.Errorf("%s, with the scheduler's settings %v, reads a whole table:\n%s", name, settings, plan)
			}
		}
		for _, table := range []string{"part", "awaited", "awaited_study", "inbox", "task", "task_hot"} {
			p.exec(`vacuum analyze ` + table)
		}
		for name := range postgres.Planning {
			p.exec(`reset ` + name)
		}
	}
}
