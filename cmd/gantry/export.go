package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/audit"
)

type callExportCmd struct {
	callFlags
	Format string        `help:"csv, ndjson or json." enum:"csv,ndjson,json" default:"csv"`
	Out    string        `short:"o" help:"File to write; standard output without it." placeholder:"FILE"`
	Limit  int           `help:"At most so many; 0 is all." default:"0"`
	Since  time.Duration `help:"Only from the last so long, as in 24h."`
}

// Run is called by the parser.
func (e *callExportCmd) Run(ctx context.Context, c console, x *cli) error {
	if err := natural(e.Limit, e.Since); err != nil {
		return err
	}
	return x.withDatabase(ctx, c, func(_ app.Settings, db *app.Database) error {
		if e.Out == "" {
			_, err := e.write(ctx, db, c.out)
			return err
		}
		return whole(e.Out, func(w io.Writer) error {
			n, err := e.write(ctx, db, w)
			if err == nil {
				fmt.Fprintf(c.err, "%d calls in %s\n", n, e.Out)
			}
			return err
		})
	})
}

func (e *callExportCmd) write(ctx context.Context, db *app.Database, out io.Writer) (int, error) {
	w, err := audit.NewWriter(out, audit.Format(e.Format))
	if err != nil {
		return 0, err
	}
	filter := e.filter()
	filter.Limit, filter.Since = e.Limit, ago(e.Since)
	if err := db.EachCall(ctx, filter, w.Write); err != nil {
		return 0, err
	}
	return w.Written(), w.Close()
}

// whole makes a file that is complete when it has its name; one that is there is replaced.
func whole(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".gantry-export-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = write(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
