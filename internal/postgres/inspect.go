package postgres

import (
	"context"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/migrations"
)

// Condition is what Inspect found out about a database.
type Condition struct {
	Version           int           // as server_version_num has it
	FSync             bool          // acknowledged commits survive a crash of the machine
	FullPageWrites    bool          // and so do pages that were half written
	SynchronousCommit string        // off loses the last commits
	Connections       int           // max_connections
	Roles             bool          // the application's role is there and may be taken
	Schema, Wanted    int64         // the last migration that was applied, and this program's last
	Skew              time.Duration // the database's clock less this process's, at best half a RoundTrip off
	RoundTrip         time.Duration
	ID                string // the database's own id, by which its blob store knows it; empty: it has none yet
}

// Inspect looks at a database and changes nothing. It connects without the schema, which may not be
// there: Schema is 0 then.
func Inspect(ctx context.Context, dsn string, now func() time.Time) (Condition, error) {
	var c Condition
	var err error
	if c.Wanted, err = lastMigration(); err != nil {
		return c, err
	}
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return c, fmt.Errorf("read database url: %w", err)
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return c, fmt.Errorf("connect to database: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var versions, named bool
	err = conn.QueryRow(ctx, `select current_setting('server_version_num')::int, current_setting('fsync')::bool, current_setting('full_page_writes')::bool,
		current_setting('synchronous_commit'), current_setting('max_connections')::int,
		exists (select from pg_roles where rolname = 'gantry_app' and pg_has_role(current_user, oid, 'member')),
		to_regclass('gantry.goose_db_version') is not null, to_regclass('gantry.database_id') is not null`).
		Scan(&c.Version, &c.FSync, &c.FullPageWrites, &c.SynchronousCommit, &c.Connections, &c.Roles, &versions, &named)
	if err == nil && versions {
		err = conn.QueryRow(ctx, `select coalesce(max(version_id), 0) from gantry.goose_db_version where is_applied`).Scan(&c.Schema)
	}
	if err == nil && named {
		err = conn.QueryRow(ctx, `select coalesce((select id from gantry.database_id), '')`).Scan(&c.ID)
	}
	if err == nil {
		begun := now()
		var there time.Time
		err = conn.QueryRow(ctx, `select clock_timestamp()`).Scan(&there)
		c.RoundTrip = now().Sub(begun)
		c.Skew = there.Sub(begun.Add(c.RoundTrip / 2))
	}
	if err != nil {
		return c, fmt.Errorf("inspect database: %w", err)
	}
	return c, nil
}

// lastMigration is the number that the last file of the migrations begins with.
func lastMigration() (int64, error) {
	names, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil || len(names) == 0 {
		return 0, fmt.Errorf("read migrations: %d files: %w", len(names), err)
	}
	number, _, _ := strings.Cut(names[len(names)-1], "_")
	return strconv.ParseInt(number, 10, 64)
}

// Current tells whether the database has exactly this program's schema.
func (s *Store) Current(ctx context.Context) (bool, error) {
	want, err := lastMigration()
	if err != nil {
		return false, err
	}
	var have int64
	err = pgx.BeginTxFunc(ctx, s.ask, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		// The table belongs to whoever migrates; the application's role has no business with it.
		if _, err := tx.Exec(ctx, `set local role none`); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `select coalesce(max(version_id), 0) from goose_db_version where is_applied`).Scan(&have)
	})
	if err != nil {
		return false, fmt.Errorf("read the schema's version: %w", err)
	}
	return have == want, nil
}
