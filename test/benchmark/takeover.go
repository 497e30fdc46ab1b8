package main

import (
	"context"
	"os"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

const takeoverTasks = 200

// measureTakeover kills one of four processes and looks when the others go on with its tasks.
func measureTakeover(ctx context.Context, b *bed, s settings, r *report) error {
	x, err := b.open(ctx, "takeover", -1)
	if err != nil {
		return err
	}
	defer x.close()
	var all []time.Duration
	for range s.rounds {
		took, err := b.takeover(ctx, x)
		if err != nil {
			return err
		}
		all = append(all, took...)
	}
	over := quantile(all, 0.99) - shortLease
	r.add("takeover_p99_over_lease_s", over.Seconds(), "s", atMost(1), "lease %s; %d tasks of killed processes, from the kill to the next transition; p50 %.2f s, p99 %.2f s", shortLease,
		len(all), quantile(all, 0.5).Seconds(), quantile(all, 0.99).Seconds())
	return nil
}

// takeover gives 200 tasks to four processes, kills one, and gives the times from the kill to the next
// transition of each of its tasks.
func (b *bed) takeover(ctx context.Context, x *bench) ([]time.Duration, error) {
	if err := x.enqueue(ctx, takeoverTasks); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c, err := hire(ctx, crewSize, self, "-work", workTakeover, "-dsn", b.dsn("takeover"))
	if err != nil {
		return nil, err
	}
	defer c.dismiss()
	if err := c.begin(); err != nil {
		return nil, err
	}
	if err := waitFor(ctx, x.admin, `select count(*) = 200 from gantry.task_hot where phase = 1 and state = 1`); err != nil {
		return nil, err
	}
	victim, killed, err := x.killOne(ctx, c)
	if err == nil {
		err = waitFor(ctx, x.admin, `select not exists (select from gantry.task_hot where owner = `+strconv.FormatInt(victim, 10)+`)`)
	}
	if err == nil {
		err = waitFor(ctx, x.admin, `select not exists (select from gantry.task_hot where crashes > 0)`)
	}
	if err != nil {
		return nil, err
	}
	rows, err := x.admin.Query(ctx, `select extract(epoch from n.at - $2)::float8 from gantry.task_event e
		join lateral (select at from gantry.task_event n where n.task_id = e.task_id and n.seq > e.seq order by n.seq limit 1) n on true
		where e.change = 9 and e.worker = $1`, victim, killed)
	if err != nil {
		return nil, err
	}
	took, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (time.Duration, error) {
		var s float64
		err := row.Scan(&s)
		return time.Duration(s * float64(time.Second)), err
	})
	if err != nil {
		return nil, err
	}
	_, err = x.admin.Exec(ctx, `delete from gantry.task_hot`) // those of the others, which hold on to them for ever
	return took, err
}

// killOne kills the member of a crew that holds the most tasks, and gives its worker id and the time by the
// database's clock.
func (x *bench) killOne(ctx context.Context, c *crew) (victim int64, killed time.Time, err error) {
	var pid int
	err = x.admin.QueryRow(ctx, `select w.id, w.pid from gantry.task_hot h join gantry.worker w on w.id = h.owner
		group by 1, 2 order by count(*) desc limit 1`).Scan(&victim, &pid)
	if err != nil {
		return 0, killed, err
	}
	for _, m := range c.members {
		if m.cmd.Process.Pid == pid {
			err = m.cmd.Process.Kill()
		}
	}
	if err == nil {
		err = x.admin.QueryRow(ctx, `select clock_timestamp()`).Scan(&killed)
	}
	return victim, killed, err
}
