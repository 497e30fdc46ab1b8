package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/jackc/pgx/v5"
)

// crewSize is how many worker processes share the work.
const crewSize = 4

// crew is a set of worker processes that begin at once. Each prints ready, begins at the first byte on its
// standard input, and ends when that is closed.
type crew struct {
	members []*member
}

type member struct {
	cmd *exec.Cmd
	in  io.WriteCloser
}

// hire starts the processes and waits until each is ready.
func hire(ctx context.Context, n int, program string, args ...string) (*crew, error) {
	c := &crew{}
	for range n {
		m, err := start(ctx, program, args...)
		if err != nil {
			return nil, errors.Join(err, c.dismiss())
		}
		c.members = append(c.members, m)
	}
	return c, nil
}

func start(ctx context.Context, program string, args ...string) (*member, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", program, err), cmd.Wait())
	}
	return &member{cmd, in}, nil
}

// begin lets all of them go.
func (c *crew) begin() error {
	for _, m := range c.members {
		if _, err := m.in.Write([]byte{'\n'}); err != nil {
			return err
		}
	}
	return nil
}

// dismiss asks all to end and waits until they have; processes that were killed are no error.
func (c *crew) dismiss() error {
	for _, m := range c.members {
		m.in.Close()
	}
	var errs []error
	for _, m := range c.members {
		err := m.cmd.Wait()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == -1 {
			err = nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// load is what a crew is measured by.
type load struct {
	took           time.Duration // from the beginning to the last transition, on the database's clock
	server, client time.Duration // processor time
	wal, syncs     int64
}

// work lets a crew loose on a database that was filled, waits until idle holds, and gives the load. last is
// the statement that finds the time of the last transition.
func (b *bed) work(ctx context.Context, db *pgx.Conn, idle, last, program string, args ...string) (l load, err error) {
	if _, err := db.Exec(ctx, `vacuum analyze`); err != nil {
		return l, err
	}
	if _, err := db.Exec(ctx, `checkpoint`); err != nil {
		return l, err
	}
	c, err := hire(ctx, crewSize, program, args...)
	if err != nil {
		return l, err
	}
	var began, ended time.Time
	err = db.QueryRow(ctx, `select clock_timestamp()`).Scan(&began)
	before, client := b.cost(ctx, db), endedTime()
	server := serverTime(b.postmaster)
	if err == nil {
		err = c.begin()
	}
	if err == nil {
		err = waitFor(ctx, db, idle)
	}
	l.server = serverTime(b.postmaster) - server
	after := b.cost(ctx, db)
	if err = errors.Join(err, c.dismiss()); err != nil {
		return l, err
	}
	l.client = endedTime() - client
	l.wal, l.syncs = after.wal-before.wal, after.syncs-before.syncs
	err = db.QueryRow(ctx, last).Scan(&ended)
	l.took = ended.Sub(began)
	return l, err
}

// cost reads the server's counters of its log; what cannot be read is 0.
func (b *bed) cost(ctx context.Context, db *pgx.Conn) (l load) {
	db.QueryRow(ctx, `select (pg_current_wal_lsn() - '0/0')::bigint, wal_sync from pg_stat_wal`).Scan(&l.wal, &l.syncs)
	return l
}

// waitFor asks a yes-or-no question until the answer is yes.
func waitFor(ctx context.Context, db *pgx.Conn, question string) error {
	for deadline := time.Now().Add(10 * time.Minute); ; {
		var yes bool
		if err := db.QueryRow(ctx, question).Scan(&yes); err != nil || yes {
			return err
		}
		if pause(ctx, 20*time.Millisecond); ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not so within ten minutes: %s", question)
		}
	}
}
