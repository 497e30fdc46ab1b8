package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"

	"github.com/jackc/pgx/v5"
)

const (
	ownIdle = `select not exists (select from gantry.task_hot)`
	ownLast = `select max(at) from gantry.task_event`
	// River writes the end of a job in batches, after the job's last transition.
	peerIdle = `select not exists (select from river_job where state in ('available', 'running', 'scheduled', 'retryable', 'pending'))`
	peerLast = `select max(at) from history`
)

// dsn is the address of one database of the cluster.
func (b *bed) dsn(name string) string {
	u, err := url.Parse(b.cluster.DSN())
	if err != nil {
		return ""
	}
	u.Path = "/" + name
	return u.String()
}

// contest is one way to take tasks through five states.
type contest struct {
	name  string
	tasks int
	run   func(ctx context.Context, b *bed, db string, tasks int) (load, error)
}

// measureRivals takes tasks through five states by four processes, in rounds in which all ways take turns.
func measureRivals(ctx context.Context, b *bed, s settings, r *report) error {
	if s.river == "" && s.only == "" {
		return nil
	}
	if s.river == "" {
		return fmt.Errorf("it needs -river, the peer's program")
	}
	n := s.tasks
	all := []contest{{"gantry", n, ownRun(workParts)}, {"river2", n / 10, b.peerRun(s.river, 2)}, {"river3", n / 4, b.peerRun(s.river, 3)}, {"bare", n, ownRun(workStates)}}
	var ratio2, ratio3, cpu, wal, cpuParts []float64
	for round := range 3 {
		rates := map[string]float64{}
		for i := range all {
			c := all[(i+round)%len(all)]
			l, err := c.run(ctx, b, fmt.Sprintf("%s_%d", c.name, round), c.tasks)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			t := float64(c.tasks * transitionsPerTask)
			rates[c.name] = t / l.took.Seconds()
			server, client := float64(l.server.Microseconds())/t, float64(l.client.Microseconds())/t
			r.add(fmt.Sprintf("%s_per_s_%d", c.name, round+1), rates[c.name], "1/s", bound{}, "%d tasks; server %.0f and client %.0f us, log %.0f B, %.0f per fsync",
				c.tasks, server, client, float64(l.wal)/t, t/float64(max(1, l.syncs)))
			switch c.name {
			case "gantry":
				cpuParts = append(cpuParts, server+client)
			case "bare":
				cpu, wal = append(cpu, server+client), append(wal, float64(l.wal)/t)
			}
		}
		ratio2, ratio3 = append(ratio2, rates["gantry"]/rates["river2"]), append(ratio3, rates["gantry"]/rates["river3"])
	}
	r.add("river2_min", quantile(ratio2, 0), "ratio", atLeast(12), "transitions a second beside one job for each state; limits and one part for each task on; rounds up to %.1f", quantile(ratio2, 1))
	r.add("river3_min", quantile(ratio3, 0), "ratio", atLeast(4), "beside one job for each task; rounds up to %.1f", quantile(ratio3, 1))
	r.add("cpu_us_per_transition", quantile(cpu, 0.5), "µs", atMost(60), "client and server, without parts; with a part for each task, planned, called under its limit and done, %.0f", quantile(cpuParts, 0.5))
	r.add("wal_bytes_per_transition", quantile(wal, 0.5), "B", atMost(600), "without parts; claims and first images of pages included")
	return nil
}

// ownRun fills a database with tasks and lets gantry's scheduler work them off.
func ownRun(mode string) func(context.Context, *bed, string, int) (load, error) {
	return func(ctx context.Context, b *bed, name string, tasks int) (l load, err error) {
		x, err := b.open(ctx, name, 1500) // a limit on tasks in progress over all processes
		if err != nil {
			return l, err
		}
		defer x.close()
		if err := x.enqueue(ctx, tasks); err != nil {
			return l, err
		}
		self, err := os.Executable()
		if err != nil {
			return l, err
		}
		return b.work(ctx, x.admin, ownIdle, ownLast, self, "-work", mode, "-dsn", b.dsn(name))
	}
}

// peerRun does the same with River.
func (b *bed) peerRun(program string, shape int) func(context.Context, *bed, string, int) (load, error) {
	return func(ctx context.Context, b *bed, name string, tasks int) (l load, err error) {
		if _, err := b.admin.Exec(ctx, `create database `+name); err != nil {
			return l, err
		}
		args := []string{"-dsn", b.dsn(name), "-shape", fmt.Sprint(shape), "-tasks", fmt.Sprint(tasks)}
		fill := exec.CommandContext(ctx, program, append(args, "fill")...)
		fill.Stderr = os.Stderr
		if err := fill.Run(); err != nil {
			return l, err
		}
		db, err := pgx.Connect(ctx, b.dsn(name))
		if err != nil {
			return l, err
		}
		defer db.Close(ctx)
		return b.work(ctx, db, peerIdle, peerLast, program, append(args, "work")...)
	}
}

// measureWhole counts the log of tasks with one part from their arrival to their end, and how fast they
// are enqueued.
func measureWhole(ctx context.Context, b *bed, s settings, r *report) error {
	x, err := b.open(ctx, "whole", 1500)
	if err != nil {
		return err
	}
	defer x.close()
	n := s.tasks / 2
	if _, err := x.admin.Exec(ctx, `checkpoint`); err != nil {
		return err
	}
	before := b.cost(ctx, x.admin)
	rate, err := x.enqueueRate(ctx, n)
	if err != nil {
		return err
	}
	enqueued := b.cost(ctx, x.admin).wal - before.wal
	self, err := os.Executable()
	if err != nil {
		return err
	}
	l, err := b.work(ctx, x.admin, ownIdle, ownLast, self, "-work", workWhole, "-dsn", b.dsn("whole"))
	if err != nil {
		return err
	}
	r.add("enqueue_per_s", rate, "1/s", atLeast(5000), "%d tasks by eight writers, up to 100 in a commit, one process", n)
	r.add("wal_bytes_per_task", float64(enqueued+l.wal)/float64(n), "B", atMost(6144), "arrival, task, item, part, three calls, five transitions and the answer of 300 B; %d B of them to enqueue it", enqueued/int64(n))
	return nil
}
