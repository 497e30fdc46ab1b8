// Package postgrestest gives each test a migrated database of its own on one private cluster that
// all test processes of a user share. GANTRY_TEST_DATABASE_URL names another server to use.
package postgrestest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/localpg"
	"github.com/gantry-imaging/gantry/internal/postgres"
	"github.com/gantry-imaging/gantry/migrations"
)

// New opens a store on a fresh database that is dropped when the test ends. The cluster runs
// without fsync.
func New(t testing.TB) *postgres.Store {
	t.Helper()
	return open(t, DSN(t))
}

// DSN makes a fresh migrated database that is dropped when the test ends, and names it.
func DSN(t testing.TB) string {
	t.Helper()
	return database(t, shared(t))
}

// Durable is DSN on a cluster of its own with fsync on, for tests that kill or measure.
func Durable(t testing.TB) string {
	t.Helper()
	c, err := localpg.Open(t.Context(), localpg.Options{Home: home(t, "durable")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	dsn := database(t, c.DSN())
	s := open(t, dsn)
	if ok, err := s.Durable(t.Context()); err != nil || !ok {
		t.Fatalf("the cluster does not keep what it acknowledged (fsync is off): %v", err)
	}
	return dsn
}

func open(t testing.TB, dsn string) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func home(t testing.TB, name string) string {
	t.Helper()
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("gantry-test-%d", os.Getuid()), name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

var server struct {
	sync.Once
	dsn string
	err error
}

// shared attaches to the cluster for the life of the test process, and leaves it running for the
// next; command stop ends it.
func shared(t testing.TB) string {
	t.Helper()
	if dsn := os.Getenv("GANTRY_TEST_DATABASE_URL"); dsn != "" {
		return dsn
	}
	dir := home(t, "shared")
	server.Do(func() {
		c, err := localpg.Open(context.Background(), localpg.Options{Home: dir, NoSync: true})
		if err != nil {
			server.err = err
			return
		}
		server.dsn = c.DSN()
	})
	if server.err != nil {
		t.Fatal(server.err)
	}
	return server.dsn
}

// database clones the template of the present migrations, which it makes first if it must.
func database(t testing.TB, dsn string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	admin, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(ctx)
	template := "gantry_template_" + migrationsHash(t)
	if _, err := admin.Exec(ctx, `select pg_advisory_lock(4711)`); err != nil {
		t.Fatal(err)
	}
	var found bool
	if err := admin.QueryRow(ctx, `select exists (select from pg_database where datname = $1)`, template).Scan(&found); err != nil {
		t.Fatal(err)
	}
	if !found {
		makeTemplate(ctx, t, admin, dsn, template)
	}
	var b [6]byte
	rand.Read(b[:])
	name := "t_" + hex.EncodeToString(b[:])
	if _, err := admin.Exec(ctx, fmt.Sprintf(`create database %s template %s`, name, template)); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Exec(ctx, `select pg_advisory_unlock(4711)`); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { drop(dsn, name) })
	return withDatabase(t, dsn, name)
}

func makeTemplate(ctx context.Context, t testing.TB, admin *pgx.Conn, dsn, template string) {
	t.Helper()
	making := template + "_new"
	for _, q := range []string{`drop database if exists ` + making, `create database ` + making} {
		if _, err := admin.Exec(ctx, q); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := postgres.Migrate(ctx, withDatabase(t, dsn, making)); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Exec(ctx, fmt.Sprintf(`alter database %s rename to %s`, making, template)); err != nil {
		t.Fatal(err)
	}
}

func drop(dsn, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	admin, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return
	}
	defer admin.Close(ctx)
	admin.Exec(ctx, `drop database if exists `+name+` with (force)`)
}

func withDatabase(t testing.TB, dsn, name string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil || u.Scheme == "" {
		t.Fatalf("database url %q is no URL: %v", dsn, err)
	}
	u.Path = "/" + name
	return u.String()
}

func migrationsHash(t testing.TB) string {
	t.Helper()
	h := sha256.New()
	h.Write([]byte(migrations.Bootstrap))
	files, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := migrations.FS.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}
