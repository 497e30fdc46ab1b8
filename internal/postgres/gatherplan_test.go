package postgres_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/postgres"
)

var scansGroups = regexp.MustCompile(`Seq Scan on (collection|collection_member|arrival|task)\b`)

// TestGatherPlans holds the statements about collections to plans that do not grow with how many are open, with
// statistics and without.
func TestGatherPlans(t *testing.T) {
	t.Parallel()
	for _, analyzed := range []bool{true, false} {
		t.Run(fmt.Sprintf("analyzed %t", analyzed), func(t *testing.T) {
			t.Parallel()
			p := newPlans(t, analyzed)
			p.exec(`alter table collection set (autovacuum_enabled = off)`)
			p.exec(`alter table collection_member set (autovacuum_enabled = off)`)
			p.exec(`alter table arrival set (autovacuum_enabled = off)`)
			p.exec(fmt.Sprintf(`insert into arrival(id, source, ref_mac, version, size) select n, 'p/in', int8send(n), '1', 1 from generate_series(1, %d) n`, backlog))
			p.exec(fmt.Sprintf(`insert into collection(id, pipeline, key_mac, source, version, lane, arrivals, due, cap, last_at) overriding system value
				select n, 'p', int8send(n), 'p/in', (select id from pipeline_version), %d, 1, now() + n * interval '1 s' - interval '50 s', now() + interval '1 day', now() from generate_series(1, %d) n`, p.lane, backlog))
			p.exec(`update collection set ask_at = due, asks = 1, counted = 1, counted_at = now(), asked_at = now() where id % 10 = 0 or id <= 500`)
			p.exec(`insert into source_state(source) values ('p/in')`)
			p.exec(fmt.Sprintf(`alter table collection alter id restart %d`, 10*backlog))
			p.exec(fmt.Sprintf(`insert into collection_member select n, n from generate_series(1, %d) n`, backlog))
			p.exec(fmt.Sprintf(`alter table task alter id restart %d`, 10*backlog))
			if analyzed {
				p.exec(`vacuum analyze arrival`)
				p.exec(`vacuum analyze collection`)
				p.exec(`vacuum analyze collection_member`)
			}
			p.holdGroups()
			for _, n := range []int{1, 2, 64, 500} { // each form of the statement
				p.holdJoins(n)
			}
			if analyzed {
				p.dueScans()
			}
		})
	}
}

// macs writes the keys of the groups from 1 to n.
func macs(n int) string {
	return numbered("bytea", `'\x%016x'`, n)
}

// numbered writes the numbers from 1 to n in some form.
func numbered(kind, form string, n int) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(form, i+1)
	}
	return "array[" + strings.Join(all, ",") + "]::" + kind + "[]"
}

func (p *plans) holdGroups() {
	p.t.Helper()
	const n = 500
	text := func(v string) string { return array("text", "'"+v+"'", n) }
	for name, x := range map[string]struct {
		sql  string
		args []string
		use  string
	}{
		"heads":     {postgres.HeadsSQL, []string{text("p"), macs(n)}, "collection_pipeline_key_mac_revision_key"},
		"as left":   {postgres.AsLeftSQL, []string{array("bigint", "77", 1), array("int", "1", 1), array("bool", "false", 1), text("p/in"), array("bytea", `'\x00'`, n)}, "arrival_source_ref_mac_version_key"},
		"seen":      {postgres.SeenSQL, []string{text("p/in"), macs(n), text("1"), macs(n), array("bigint", "5", n), text("p"), array("bool", "false", n), "'{2,3}'", text("s")}, "arrival_source_ref_mac_version_key"},
		"copy":      {postgres.CopySQL, []string{array("bigint", "1000000", 1), array("bigint", "77", 1)}, "collection_member_pkey"},
		"leave":     {postgres.LeaveSQL, []string{array("bigint", "", n), array("bigint", "", n)}, "collection_member_"},
		"supersede": {postgres.SupersedeSQL, []string{array("bigint", "", n), "1"}, "arrival_pkey"},
		"push": {postgres.PushSQL, append([]string{array("bigint", "", n), array("int", "3", n), array("bool", "false", n), array("int", "0", n), array("int", "1", n),
			array("int", "1", n), array("smallint", "5", n), array("bigint", "1", n), array("bigint", "1", n), array("bigint", "1", n)}, text("quiet"),
			array("bool", "true", n), array("bigint", "1", n), array("bool", "true", n), array("bool", "true", n)), "collection_pkey"},
		"claim a question":     {postgres.ClaimAskSQL, []string{"1000000", "'{}'"}, "collection_ask"},
		"next question":        {postgres.NextAskSQL + " where $2::bool", []string{"'{}'", "true"}, "collection_ask"},
		"answer":               {postgres.AnsweredSQL, []string{"77", "1", "5", "1000", "1000", "true", "1000"}, "collection_pkey"},
		"answer of a late one": {strings.ReplaceAll(postgres.AnsweredSQL, "c.apart", "true"), []string{"77", "1", "5", "1000", "1000", "true", "1000"}, "collection_pipeline_key_mac_revision_key"},
		"open":                 {postgres.OpenSQL, []string{text("q"), macs(n), array("int", "1", n), text("p/in"), text("n"), text("1.2"), array("bool", "true", n)}, "collection_pipeline_key_mac_revision_key"},
		"again":                {postgres.AgainSQL, []string{array("bigint", "", n), text("s"), text(""), text(""), array("int", "1", n)}, "arrival_pkey"},
		"revive": {postgres.ReviveSQL, []string{array("bigint", "", n), array("bigint", "1", n), array("bytea", "null", n), text("x"), text("s"), text(""), text("n"),
			array("smallint", "0", n), text("")}, "arrival_pkey"},
		"watch again": {postgres.WatchSQL, []string{array("text", "'p/in'", 1), "5000000", "10000000"}, "collection_due"},
		"due":         {postgres.DueSQL, []string{"3000000", "100"}, "collection_due"},
		"close": {postgres.CloseSQL, []string{array("bigint", "", n), numbered("text", "'t%d'", n), array("int", "1", n), array("int", "1", n),
			array("smallint", "5", n), array("bigint", "1", n), text("quiet")}, "collection_pkey"},
		"next": {postgres.NextDueSQL, []string{"3000000"}, "collection_due"},
	} {
		plan := p.explain(x.sql, x.args...)
		hold(p.t, plan)
		if scansGroups.MatchString(plan) || !strings.Contains(plan, x.use) {
			p.t.Errorf("%s does not go by %s:\n%s", name, x.use, plan)
		}
	}
}

// holdJoins holds the statement that adds to n collections as they were left to a plan that finds them, and what is on record, by keys.
func (p *plans) holdJoins(n int) {
	p.t.Helper()
	text := func(v string) string { return array("text", "'"+v+"'", n) }
	ints := func(kind, v string) string { return array(kind, v, n) }
	ids := numbered("bigint", fmt.Sprintf("%d + %%d", 20*backlog), n)
	sql, args := postgres.JoinForTest(n,
		[]string{ints("bigint", ""), ints("int", "1"), ints("bool", "false"), ints("int", "2"), ints("int", "0"), ints("int", "1"), ints("int", "1"), ints("smallint", "5"), ints("bigint", "1"),
			ints("bigint", "1"), ints("bigint", "1"), text("quiet")},
		[]string{ids, text("p/in"), numbered("bytea", `'\x%020x'`, n), text("1"), text("n"), ints("bigint", "1"), array("bytea", "null", n), text("x"), text("s"), text(""), text(""), ints("int", "0"),
			ints("bigint", ""), ints("bigint", "0")},
		[]string{numbered("uuid", "'00000000-0000-0000-0000-%012x'", n), ids, ints("bigint", "1"), ints("int", "1"), ints("int", "1"), ints("smallint", "0"), ints("smallint", "0"), ints("smallint", "0"),
			ints("bigint", "1"), ints("bigint", "1"), array("bytea", `'\x00'`, n)})
	plan := p.explain(sql, args...)
	hold(p.t, plan)
	for _, use := range []string{"collection_pkey", "arrival_source_ref_mac_version_key"} {
		if scansGroups.MatchString(plan) || !strings.Contains(plan, use) {
			p.t.Errorf("%d that join do not go by %s:\n%s", n, use, plan)
		}
	}
	if !strings.Contains(plan, fmt.Sprintf("Update on collection c (actual rows=%d", n)) {
		p.t.Errorf("%d did not join:\n%s", n, plan)
	}
}

// dueScans is the control: without the index the test would see what is due being looked for everywhere.
func (p *plans) dueScans() {
	p.t.Helper()
	p.exec(`drop index collection_due`)
	if plan := p.explain(postgres.DueSQL, "3000000", "100"); !scansGroups.MatchString(plan) {
		p.t.Errorf("without the index nothing is scanned; the control proves nothing:\n%s", plan)
	}
	p.exec(`drop index collection_ask`)
	if plan := p.explain(postgres.ClaimAskSQL, "1000000", "'{}'"); !scansGroups.MatchString(plan) {
		p.t.Errorf("without the index for questions nothing is scanned; the control proves nothing:\n%s", plan)
	}
}
