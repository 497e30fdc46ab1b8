package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/localpg"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// bed is a durable cluster in a folder of its own.
type bed struct {
	home       string
	cluster    *localpg.Cluster
	admin      *pgx.Conn // the superuser, for what the application may not do
	postmaster int
	ids        *gantry.IDs
}

func newBed(ctx context.Context) (*bed, error) {
	home, err := tempHome()
	if err != nil {
		return nil, err
	}
	b := &bed{home: home, ids: gantry.NewIDs(time.Now, rand.Reader)}
	if b.cluster, err = localpg.Open(ctx, localpg.Options{Home: home}); err == nil {
		b.admin, err = pgx.Connect(ctx, b.cluster.DSN())
	}
	if err == nil {
		b.postmaster, err = findPostmaster(ctx, b.admin)
	}
	if err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

// describe says what the machine gives at this moment: without it the other figures mean little.
func (b *bed) describe(ctx context.Context, r *report) error {
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err
	}
	if _, err := b.admin.Exec(ctx, `create table one_row(n int)`); err != nil {
		return err
	}
	var commits []time.Duration
	for range 100 {
		began := time.Now()
		if _, err := b.admin.Exec(ctx, `insert into one_row values (1)`); err != nil {
			return err
		}
		commits = append(commits, time.Since(began))
	}
	r.add("commit_p50_ms", millis(quantile(commits, 0.5)), "ms", bound{}, "one row, one client; p99 %.2f; load before the run %s on %d processors",
		millis(quantile(commits, 0.99)), strings.Fields(string(load))[0], runtime.NumCPU())
	return nil
}

// tempHome makes a folder that the database server, which is never root, may enter.
func tempHome() (string, error) {
	home, err := os.MkdirTemp("", "gantry-bench-")
	if err != nil {
		return "", err
	}
	return home, os.Chmod(home, 0o755)
}

func (b *bed) close() {
	if b.admin != nil {
		b.admin.Close(context.Background())
	}
	if b.cluster != nil {
		if err := b.cluster.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "benchmark:", err)
		}
	}
	os.RemoveAll(b.home)
}

// bench is a fresh database of the cluster with one pipeline and one lane.
type bench struct {
	*postgres.Store
	admin          *pgx.Conn
	pipeline, lane int32
}

// open makes the database; it refuses a server that may lose what it acknowledged.
func (b *bed) open(ctx context.Context, name string, inProgress int) (*bench, error) {
	if _, err := b.admin.Exec(ctx, `create database `+name); err != nil {
		return nil, err
	}
	u, err := url.Parse(b.cluster.DSN())
	if err != nil {
		return nil, err
	}
	u.Path = "/" + name
	if _, err := postgres.Migrate(ctx, u.String()); err != nil {
		return nil, err
	}
	x := &bench{}
	if x.admin, err = pgx.Connect(ctx, u.String()); err != nil {
		return nil, err
	}
	if x.Store, err = postgres.Open(ctx, u.String()); err != nil {
		x.admin.Close(ctx)
		return nil, err
	}
	ok, err := x.Durable(ctx)
	if err == nil && !ok {
		err = errors.New("the server does not keep what it acknowledged: fsync, synchronous_commit or full_page_writes is off")
	}
	if err == nil {
		err = x.declare(ctx, inProgress)
	}
	if err != nil {
		x.close()
		return nil, err
	}
	return x, nil
}

func (x *bench) close() {
	x.Store.Close()
	x.admin.Close(context.Background())
}

func (x *bench) declare(ctx context.Context, inProgress int) (err error) {
	p := &gantry.Pipeline{Name: "bench", Version: gantry.Digest{1}, Resolved: []byte(`{"stages":[]}`)}
	if x.pipeline, err = x.EnsurePipeline(ctx, p); err != nil {
		return err
	}
	limiter, err := x.EnsureLimiter(ctx, "pipeline:bench", gantry.LimiterSpec{MaxUnits: inProgress, Burst: 1, Hold: time.Minute}, true)
	if err != nil {
		return err
	}
	x.lane, err = x.EnsureLane(ctx, p.Name, "in", limiter, 0)
	return err
}

// enqueue makes n tasks, a thousand in each commit.
func (x *bench) enqueue(ctx context.Context, n int) error {
	key := []byte("benchmark")
	for n > 0 {
		ids, err := x.ArrivalIDs(ctx, min(n, 1000))
		if err != nil {
			return err
		}
		list := make([]gantry.Admission, len(ids))
		for i, id := range ids {
			ref := strconv.FormatInt(id, 10)
			list[i] = gantry.Admission{
				Arrival:  gantry.Arrival{ID: id, Source: "bench/in", RefMAC: gantry.MAC(key, ref), Version: "1", Name: ref, Size: 1},
				PublicID: gantry.PublicID(key, ref), Pipeline: x.pipeline, Lane: x.lane, Priority: gantry.PriorityNormal, Within: time.Hour}
		}
		if _, err := x.Enqueue(ctx, list); err != nil {
			return err
		}
		n -= len(ids)
	}
	return nil
}

// wal is how many bytes of log the server has written.
func (x *bench) wal(ctx context.Context) (n int64, err error) {
	err = x.admin.QueryRow(ctx, `select (pg_current_wal_lsn() - '0/0')::bigint`).Scan(&n)
	return n, err
}
