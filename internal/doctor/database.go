package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gantry-imaging/gantry/internal/localpg"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// database finds the database and looks at it. id is its own, empty if it is new; nil: it does not answer.
func database(ctx context.Context, o Options) (found []Finding, id *string) {
	dsn := o.DatabaseURL
	if dsn == "" {
		if _, err := os.Stat(filepath.Join(o.Home, "postgres", "data")); errors.Is(err, fs.ErrNotExist) {
			return []Finding{binaries()}, new(string)
		}
		c, err := localpg.Open(ctx, localpg.Options{Home: o.Home})
		if err != nil {
			return []Finding{bad("database", err.Error(), "see the log in "+filepath.Join(o.Home, "postgres", "log")+", or name another database with --database-url")}, nil
		}
		defer c.Close()
		dsn = c.DSN()
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	c, err := postgres.Inspect(ctx, dsn, o.Now)
	if err != nil {
		return []Finding{bad("database", reach(ctx, err), "check --database-url, that the server runs, and that it lets this host and user in")}, nil
	}
	return []Finding{
		well("database", fmt.Sprintf("it answers in %s", c.RoundTrip.Round(10*time.Microsecond))),
		version(c), durability(c), schema(c), roles(c), clock(c),
	}, &c.ID
}

// reach is why there was no connection. Texts of the driver name user and database, never the password.
func reach(ctx context.Context, err error) string {
	if ctx.Err() != nil {
		return fmt.Sprintf("no answer within %s", checkTime)
	}
	return err.Error()
}

func binaries() Finding {
	b, err := localpg.FindBinaries("")
	if err != nil {
		return bad("database", "there is none yet, and no Postgres binaries to make a private one", "install postgresql, run gantry postgres fetch, or name a database with --database-url")
	}
	return well("database", fmt.Sprintf("there is none yet; PostgreSQL %d in %s will make a private one", b.Major, b.Dir))
}

func version(c postgres.Condition) Finding {
	text := fmt.Sprintf("PostgreSQL %d.%d", c.Version/10000, c.Version%10000)
	if c.Version < postgres.MinVersion {
		return bad("version", text, fmt.Sprintf("gantry needs PostgreSQL %d or later", postgres.MinVersion/10000))
	}
	return well("version", text)
}

func durability(c postgres.Condition) Finding {
	on := map[bool]string{true: "on", false: "off"}
	text := fmt.Sprintf("fsync %s, full_page_writes %s, synchronous_commit %s", on[c.FSync], on[c.FullPageWrites], c.SynchronousCommit)
	if !c.FSync || !c.FullPageWrites || c.SynchronousCommit == "off" {
		return bad("durability", text, "turn them on: what was acknowledged would be lost in a crash")
	}
	return well("durability", text)
}

func schema(c postgres.Condition) Finding {
	switch {
	case c.Schema == 0:
		return bad("schema", "the database has none", "run gantry migrate; serve and worker do it at their start")
	case c.Schema < c.Wanted:
		return bad("schema", fmt.Sprintf("version %d, this program's is %d", c.Schema, c.Wanted), "run gantry migrate")
	case c.Schema > c.Wanted:
		return bad("schema", fmt.Sprintf("version %d, this program's is %d", c.Schema, c.Wanted), "use the newer gantry that the database was migrated with")
	}
	return well("schema", fmt.Sprintf("version %d", c.Schema))
}

func roles(c postgres.Condition) Finding {
	if !c.Roles {
		return doubt("roles", "there is no role gantry_app: one database role does everything, and may change the record",
			"let a role with CREATEROLE run gantry migrate once")
	}
	return well("roles", "the record can be added to and not be changed")
}

// maxSkew is how far the clocks may be apart. Leases run on the database's; calls are dated by ours.
const maxSkew = 2 * time.Second

func clock(c postgres.Condition) Finding {
	text := fmt.Sprintf("the database's clock is %s from this machine's", c.Skew.Abs().Round(time.Millisecond))
	if c.Skew.Abs() > maxSkew+c.RoundTrip {
		return bad("clock", text, "run a time service (chrony, systemd-timesyncd) on both")
	}
	return well("clock", text)
}
