package app_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/blob"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
)

// A process that serves on another database ends at once where the blob store belongs to the first; the first's backup that is put back
// in a new place is let in.
func TestBlobsOfAnotherDatabase(t *testing.T) {
	t.Parallel()
	home, dsn := t.TempDir(), postgrestest.DSN(t)
	with := func(dsn string, do func(a *app.App)) {
		t.Helper()
		s := app.Settings{DatabaseURL: dsn, Home: home, Drivers: all.Drivers(), Log: slog.New(slog.DiscardHandler)}
		db, err := app.OpenDatabase(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		a, err := app.New(s, db)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		do(a)
	}
	letIn := func(a *app.App) {
		if _, err := a.CollectBlobs(t.Context(), 0, false); err != nil {
			t.Error(err)
		}
	}
	with(dsn, letIn)
	with(postgrestest.DSN(t), func(a *app.App) {
		p, err := pipeline.Parse("test.yaml", fmt.Appendf([]byte(head("second")), `
sources: {inbox: {kind: dir, path: %q}}
sinks: {out: {kind: dir, path: %q}}
stages: [{name: enhance, call: model}]
processors: {model: {kind: http, url: "http://127.0.0.1:1/"}}
`, t.TempDir(), t.TempDir()), all.Drivers(), nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if err := a.Serve(ctx, []*gantry.Pipeline{p}); gantry.CodeOf(err) != blob.CodeOtherDatabase || gantry.KindOf(err) != gantry.Illegal || ctx.Err() != nil {
			t.Errorf("it serves, or goes on trying: %v", err)
		}
	})
	with(restored(t, dsn), letIn)
}

// restored is a copy of a database that nobody is at, as a backup that was put back.
func restored(t *testing.T, dsn string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	from := u.Path[1:]
	u.Path = "/postgres"
	c, err := pgx.Connect(t.Context(), u.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer c.Close(context.Background())
		if _, err := c.Exec(context.Background(), `drop database "`+from+`_copy" with (force)`); err != nil {
			t.Error(err)
		}
	})
	if _, err := c.Exec(t.Context(), `create database "`+from+`_copy" template "`+from+`"`); err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + from + "_copy"
	return u.String()
}
