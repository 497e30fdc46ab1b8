package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/auth"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/localpg"
	"github.com/gantry-imaging/gantry/internal/models"
)

// version is set by the linker for releases.
var version = "devel"

type versionCmd struct{}

// Run is called by the parser.
func (versionCmd) Run(c console) error {
	from := revision()
	if from != "" {
		from = " " + from
	}
	_, err := fmt.Fprintf(c.out, "gantry %s%s %s %s/%s\n", version, from, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// revision is the commit that the program was built from; empty if the compiler did not know it.
func revision() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return ""
}

type migrateCmd struct{}

// Run is called by the parser.
func (migrateCmd) Run(ctx context.Context, c console, x *cli) error {
	return x.withDatabase(ctx, c, func(app.Settings, *app.Database) error {
		_, err := fmt.Fprintln(c.out, "the schema is up to date") // not where: the address may hold a password
		return err
	})
}

type postgresCmd struct {
	Fetch fetchCmd `cmd:"" help:"Get Postgres binaries through npm, or from a file that was."`
}

type fetchCmd struct {
	From string `help:"The package as a .tgz file, instead of npm." type:"existingfile" placeholder:"FILE"`
}

// Run is called by the parser.
func (f *fetchCmd) Run(ctx context.Context, c console) error {
	b, err := localpg.Fetch(ctx, localpg.FetchOptions{From: f.From, Log: func(format string, args ...any) { fmt.Fprintf(c.err, format+"\n", args...) }})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.out, "PostgreSQL %d in %s\n", b.Major, b.Dir)
	return err
}

type modelsCmd struct {
	Serve modelsServeCmd `cmd:"" help:"Serve contrast enhancement, a quality score, masks, reports and a mirror over HTTP."`
}

type modelsServeCmd struct {
	Listen  string        `help:"Loopback address." default:"127.0.0.1:8095"`
	Latency time.Duration `help:"Wait so long before each answer."`
	Fail    float64       `help:"Share of calls that are refused, from 0 to 1."`
	Status  int           `help:"Status of refused calls." default:"503"`

	CallbackSecret string         `help:"What callbacks are signed with, as a reference: $${env:NAME} or $${file:/path}. Without it none are sent."`
	CallbackTo     []netip.Prefix `help:"Networks that callbacks may go to beside this machine." placeholder:"CIDR"`
}

// Run is called by the parser.
func (m *modelsServeCmd) Run(ctx context.Context, c console) error {
	o := models.Options{Latency: m.Latency, Fail: m.Fail, Status: m.Status, Callbacks: m.CallbackTo}
	if m.CallbackSecret != "" {
		secret, err := auth.Resolve(gantry.SecretRef(m.CallbackSecret), os.LookupEnv)
		if err != nil {
			return usageError{err}
		}
		o.Secret = secret
	}
	return models.Serve(ctx, m.Listen, o, func(address string) {
		fmt.Fprintf(c.err, "reference models on http://%s/v1/ enhance, quality, mask, report, identity\n", address)
	})
}
