package main

import (
	"context"
	"fmt"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const claimSize = 100

// fillSQL makes tasks of a lane that wait in their queue.
const fillSQL = `with t as (
	insert into gantry.task(public_id, pipeline) select nextval('public.bench_n')::text, $1 from generate_series(1, $3::int) returning id)
	insert into gantry.task_hot(id, lane, state_until) select id, $2, now() + interval '1 day' from t`

// measureClaims compares claims from a queue of a million with claims from one of a thousand.
func measureClaims(ctx context.Context, b *bed, s settings, r *report) error {
	var p50 [2]time.Duration
	for i, backlog := range []int{1000, 1_000_000} {
		claims, commits, err := b.claimFrom(ctx, fmt.Sprintf("claims_%d", backlog), backlog, s.claims)
		if err != nil {
			return err
		}
		p50[i] = quantile(claims, 0.5)
		commit := quantile(commits, 0.5)
		must, name := bound{}, "claim_p99_commits_1k"
		if i == 1 {
			must, name = atMost(10), "claim_p99_commits"
		}
		p99 := quantile(claims, 0.99)
		r.add(name, float64(p99)/float64(commit), "commits", must,
			"backlog of %d: p50 %.2f ms, p99 %.2f ms, one-row commit p50 %.2f ms; %d claims of %d", backlog, millis(p50[i]), millis(p99), millis(commit), s.claims, claimSize)
	}
	r.add("claim_p50_1m_over_1k", float64(p50[1])/float64(p50[0]), "ratio", atMost(1.5), "%.2f ms over %.2f ms", millis(p50[1]), millis(p50[0]))
	return nil
}

// claimFrom claims n times. After each claim the tasks claimed end and as many new ones come, as in
// a queue that is worked off as fast as it grows; that and a one-row commit are timed apart.
func (b *bed) claimFrom(ctx context.Context, name string, backlog, n int) (claims, commits []time.Duration, err error) {
	x, err := b.open(ctx, name, -1)
	if err != nil {
		return nil, nil, err
	}
	defer x.close()
	w, err := x.Register(ctx, "bench", 1, time.Hour)
	if err != nil {
		return nil, nil, err
	}
	for _, q := range []struct {
		sql  string
		args []any
	}{
		{`create sequence public.bench_n`, nil}, // keys in order: the filling is not what is measured
		{fillSQL, []any{x.pipeline, x.lane, backlog}},
		{`create table one_row(n int)`, nil},
		{`vacuum analyze gantry.task_hot`, nil},
		{`vacuum analyze gantry.task`, nil},
		{`checkpoint`, nil},
	} {
		if _, err := x.admin.Exec(ctx, q.sql, q.args...); err != nil {
			return nil, nil, err
		}
	}
	for range n {
		began := time.Now()
		tasks, err := x.Claim(ctx, w, []gantry.Want{{Lane: x.lane, N: claimSize}})
		claims = append(claims, time.Since(began))
		if err != nil || len(tasks) != claimSize {
			return nil, nil, fmt.Errorf("claimed %d of %d: %w", len(tasks), claimSize, err)
		}
		ids := make([]int64, len(tasks))
		for i := range tasks {
			ids[i] = int64(tasks[i].Task)
		}
		if _, err := x.admin.Exec(ctx, `delete from gantry.task_hot where id = any($1)`, ids); err != nil { // by owner it would read a million rows
			return nil, nil, err
		}
		if _, err := x.admin.Exec(ctx, fillSQL, x.pipeline, x.lane, claimSize); err != nil {
			return nil, nil, err
		}
		began = time.Now()
		if _, err := x.admin.Exec(ctx, `insert into one_row values (1)`); err != nil {
			return nil, nil, err
		}
		commits = append(commits, time.Since(began))
	}
	return claims, commits, nil
}
