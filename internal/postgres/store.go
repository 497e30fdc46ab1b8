// Package postgres is the store: everything gantry remembers, on PostgreSQL 15 or later through
// pgx. Read store.go, then claim.sql, claim.go and fronts.go, transition.sql, children.sql, results.sql, form.go
// and commit.go (how a batch of writes becomes durable), lease.go and reap.sql (heartbeat, reaper, promoter),
// command.go, move.go, pause.go and idle.go (what operators ask), limit.go (units and rate slots), admit.go and enqueue.go,
// control.go (traffic that belongs to no task), callback.sql and callback.go (answers that come on their own), inbox.go and
// inboxkeep.go (those that come over DICOM), and
// query.go for what people ask.
package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/gantry-imaging/gantry/migrations"
)

// MinVersion is the oldest server that gantry runs on, as server_version_num has it.
const MinVersion = 150000

// Store is a connection pool on a migrated database. All its methods may be called concurrently.
type Store struct {
	pool  *pgxpool.Pool // of the scheduler's statements
	write *pgxpool.Pool // of its commits: one at a time, by a server process that has their plans
	ask   *pgxpool.Pool // of what people ask

	results *sections
	moves   *sections
	asLeft  *sections
	left    left
	fronts  fronts
	others  atomic.Int64 // until then arrivals are made that others may make at the same moment; ns since 1970
}

// Planning are the settings under which the scheduler's statements are planned: each has one right
// plan, a few rows looked up by key. A custom plan for a long array, or a plan made while a table was
// small, is how a statement comes to read a table whole.
var Planning = map[string]string{
	"plan_cache_mode":  "force_generic_plan",
	"enable_seqscan":   "off",
	"enable_hashjoin":  "off",
	"enable_mergejoin": "off",
	// Lest what is looked up by key is met with all of the index of what is ready.
	"enable_bitmapscan": "off",
	// What is switched off above only costs much, and what costs much would be compiled.
	"jit": "off",
}

// Open connects to the database named by dsn. It changes nothing; see Migrate.
func Open(ctx context.Context, dsn string) (*Store, error) {
	pool, err := connect(ctx, dsn, 8, Planning)
	if err != nil {
		return nil, err
	}
	write, err := connect(ctx, dsn, 2, Planning)
	if err != nil {
		pool.Close()
		return nil, err
	}
	ask, err := connect(ctx, dsn, 4, nil)
	if err != nil {
		pool.Close()
		write.Close()
		return nil, err
	}
	s := &Store{pool: pool, write: write, ask: ask, results: newSections(resultsSQL), moves: newSections(transitionSQL), asLeft: newSections(joinAsLeftSQL)}
	if err := s.checkVersion(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// connect makes a pool, which opens its connections as they are needed.
func connect(ctx context.Context, dsn string, conns int32, planning map[string]string) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("read database url: %w", err)
	}
	cfg.MaxConns = max(cfg.MaxConns, conns)
	set := cfg.ConnConfig.RuntimeParams
	set["search_path"] = "gantry"
	set["application_name"] = "gantry"
	set["timezone"] = "UTC"
	set["statement_timeout"] = "30s"
	set["idle_in_transaction_session_timeout"] = "10s"
	set["lock_timeout"] = "5s"
	maps.Copy(set, planning)
	cfg.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
		takeColumns(c.TypeMap())
		return takeRole(ctx, c)
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to database: %w", err)
	}
	return pool, nil
}

// takeRole drops to the application's role, which cannot change the record. Where the roles could
// not be made, the connecting role serves.
func takeRole(ctx context.Context, c *pgx.Conn) error {
	_, err := c.Exec(ctx, `select set_config('role', 'gantry_app', false) from pg_roles
		where rolname = 'gantry_app' and pg_has_role(current_user, oid, 'member') and to_regclass('gantry.task_hot') is not null`)
	return err
}

func (s *Store) checkVersion(ctx context.Context) error {
	var v int
	if err := s.pool.QueryRow(ctx, `select current_setting('server_version_num')::int`).Scan(&v); err != nil {
		return fmt.Errorf("connect to database: %w", err)
	}
	if v < MinVersion {
		return fmt.Errorf("database is PostgreSQL %d; gantry needs %d or later", v/10000, MinVersion/10000)
	}
	return nil
}

// Close gives back all connections.
func (s *Store) Close() {
	s.pool.Close()
	s.write.Close()
	s.ask.Close()
}

// Migrate brings the database named by dsn to this version's schema and says how many migrations
// it applied. Several processes may call it at once.
func Migrate(ctx context.Context, dsn string) (int, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return 0, fmt.Errorf("read database url: %w", err)
	}
	if err := bootstrap(ctx, cfg.Copy()); err != nil {
		return 0, err
	}
	cfg.RuntimeParams["search_path"] = "gantry"
	cfg.RuntimeParams["timezone"] = "UTC"
	db := stdlib.OpenDB(*cfg)
	defer db.Close()
	return applyAll(ctx, db)
}

func bootstrap(ctx context.Context, cfg *pgx.ConnConfig) error {
	c, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return fmt.Errorf("connect to database: %w", err)
	}
	defer c.Close(ctx)
	for try := 0; ; try++ {
		_, err = c.Exec(ctx, migrations.Bootstrap)
		// Two databases of one cluster may be making the roles at the same moment.
		if pe, ok := errors.AsType[*pgconn.PgError](err); ok && pe.Code == "XX000" && try < 5 {
			continue
		}
		break
	}
	if err != nil {
		return fmt.Errorf("make roles and schema: %w", err)
	}
	return nil
}

func applyAll(ctx context.Context, db *sql.DB) (int, error) {
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return 0, err
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, fs.FS(migrations.FS), goose.WithSessionLocker(locker))
	if err != nil {
		return 0, fmt.Errorf("read migrations: %w", err)
	}
	done, err := p.Up(ctx)
	if err != nil {
		return len(done), fmt.Errorf("migrate: %w", err)
	}
	return len(done), nil
}

// Durable tells whether the server keeps what it acknowledged through a crash: fsync and
// synchronous_commit are on.
func (s *Store) Durable(ctx context.Context) (bool, error) {
	var ok bool
	err := s.pool.QueryRow(ctx, `select current_setting('fsync') = 'on' and current_setting('synchronous_commit') <> 'off'
		and current_setting('full_page_writes') = 'on'`).Scan(&ok)
	return ok, err
}

// MakePartitions makes the partitions of the record that are needed soon.
func (s *Store) MakePartitions(ctx context.Context) error {
	_, err := s.pool.Exec(ctx, `select make_partitions()`)
	return err
}

// Pool gives the connections, for benchmarks and tests of this repository.
func (s *Store) Pool() *pgxpool.Pool { return s.pool }

func micros(d time.Duration) int64 { return d.Microseconds() }

// Ping tells whether the database answers.
func (s *Store) Ping(ctx context.Context) error { return s.pool.Ping(ctx) }
