// Command gantry takes medical images that arrive in folders through inference services and
// delivers what they answer, with every call on record. main.go holds the flags that all commands
// share; each command has a file of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"syscall"
	_ "time/tzdata" // windows name time zones, also on machines without a database of them

	"github.com/alecthomas/kong"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/pipeline"
	"github.com/gantry-imaging/gantry/internal/slack"
)

// Exit codes: all is done; a task failed or a command could not do its work; wrong use.
const (
	exitOK = iota
	exitFailed
	exitUsage
)

type cli struct {
	Home        string `help:"Folder of everything that belongs to this installation." env:"GANTRY_HOME" placeholder:"DIR"`
	DatabaseURL string `name:"database-url" help:"Postgres to use instead of a private one." env:"GANTRY_DATABASE_URL" placeholder:"URL"`
	Key         string `help:"Deployment key in hexadecimal; without it the installation makes one." env:"GANTRY_KEY" placeholder:"HEX"`
	Config      string `help:"Deployment file: database, blob store, address, pipelines. Flags go before it." env:"GANTRY_CONFIG" placeholder:"gantry.yaml"`
	LogLevel    string `help:"debug, info, warn or error; warn without it." enum:"debug,info,warn,error," default:"" env:"GANTRY_LOG"`
	LogFormat   string `help:"text or json; text without it." enum:"text,json," default:"" env:"GANTRY_LOG_FORMAT"`

	Demo     demoCmd     `cmd:"" help:"Everything on this machine: private Postgres, reference models, samples in, results out."`
	Run      runCmd      `cmd:"" help:"Take files through a pipeline once."`
	Serve    serveCmd    `cmd:"" help:"Watch the sources of pipelines and run their tasks."`
	Worker   workerCmd   `cmd:"" help:"Run tasks beside other processes, without watching sources."`
	Check    checkCmd    `cmd:"" help:"Say what is wrong with pipeline files."`
	Plan     planCmd     `cmd:"" help:"Say what each stage would be sent for files, without a call."`
	Test     testCmd     `cmd:"" help:"Run the tests in pipeline files, with answers in place of the processors'."`
	Schema   schemaCmd   `cmd:"" help:"Print the JSON Schema of pipeline files, for editors."`
	Diagram  diagramCmd  `cmd:"" help:"Draw a pipeline as a mermaid flowchart."`
	Models   modelsCmd   `cmd:"" help:"Reference inference services."`
	Samples  samplesCmd  `cmd:"" help:"Write computed inputs to try pipelines with."`
	Task     taskCmd     `cmd:"" help:"Look at tasks, cancel, pause, move and try them again."`
	Call     callCmd     `cmd:"" help:"Look at the record of calls."`
	Limits   limitsCmd   `cmd:"" help:"Show the limits of pipelines and targets, and set them."`
	Source   sourceCmd   `cmd:"" help:"See what sources bring."`
	Pause    pauseCmd    `cmd:"" help:"Let nothing more begin of pipelines, or at processors; calls under way go on."`
	Resume   resumeCmd   `cmd:"" help:"End a pause, the rest that a target asked for, and an open breaker."`
	Verify   verifyCmd   `cmd:"" help:"Prove from the record that rules and limits were kept."`
	Health   healthCmd   `cmd:"" help:"Ask a process on this machine whether it is ready."`
	Doctor   doctorCmd   `cmd:"" help:"Look at the installation, and say what is wrong and what to do."`
	Migrate  migrateCmd  `cmd:"" help:"Bring the database to this version's schema."`
	Postgres postgresCmd `cmd:"" help:"The private Postgres."`
	Blobs    blobsCmd    `cmd:"" help:"The blob store."`
	Version  versionCmd  `cmd:"" help:"Say which version this is."`

	Echo echoCmd `cmd:"" help:"Ask a DICOM peer whether it is there (C-ECHO)."`
	Send sendCmd `cmd:"" help:"Send DICOM files to a peer as they are (C-STORE)."`
	Find findCmd `cmd:"" help:"Look for patients, studies, series and images at a DICOM peer (C-FIND)."`

	Collection collectionCmd `cmd:"" help:"Look at files that are waited for together before they are a task."`
}

// usageError is a mistake of whoever typed the command.
type usageError struct{ error }

// quietError ends a command that has said already what is wrong.
type quietError int

func (quietError) Error() string { return "" }

// console is where a command reads and writes.
type console struct {
	out, err io.Writer
}

func main() {
	if slices.ContainsFunc(os.Args[1:], worksOnTasks) {
		slack.Widen() // before anything that a second beginning would undo, such as a signal that was caught
	}
	// net/http writes what a peer sends unasked to the standard logger; it may be anything.
	log.SetOutput(io.Discard)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], console{os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// worksOnTasks tells whether a word of the command line is that of a command which does. Elsewhere the word may be something else: then it
// costs a beginning.
func worksOnTasks(word string) bool {
	return word == "serve" || word == "worker" || word == "run" || word == "demo"
}

func run(ctx context.Context, args []string, c console) int {
	parser, err := newParser(ctx, c)
	if err != nil {
		fmt.Fprintln(c.err, "gantry:", err)
		return exitUsage
	}
	return execute(parser, args, c)
}

// newParser makes the parser of the command line, and what it fills.
func newParser(ctx context.Context, c console) (*kong.Kong, error) {
	var x cli
	return kong.New(&x, kong.Name("gantry"), kong.Description("Event-driven medical-image inference."),
		kong.UsageOnError(), kong.Writers(c.out, c.err), kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(c, &x),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}), kong.Exit(func(code int) { panic(exit(code)) }))
}

// exit is how the parser's own --help leaves.
type exit int

func execute(parser *kong.Kong, args []string, c console) (code int) {
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(exit)
			if !ok {
				panic(r)
			}
			code = int(e)
		}
	}()
	k, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintln(c.err, "gantry:", err)
		return exitUsage
	}
	err = k.Run()
	quiet, isQuiet := errors.AsType[quietError](err)
	problems, isProblems := errors.AsType[pipeline.Problems](err)
	_, isUsage := errors.AsType[usageError](err)
	switch {
	case err == nil:
		return exitOK
	case isQuiet:
		return int(quiet)
	case isProblems:
		fmt.Fprintln(c.err, problems.Error())
		return exitUsage
	case isUsage:
		fmt.Fprintln(c.err, "gantry:", err)
		return exitUsage
	}
	fmt.Fprintln(c.err, "gantry:", err)
	return exitFailed
}

func newLog(w io.Writer, level, format string) *slog.Logger {
	o := &slog.HandlerOptions{Level: slog.LevelWarn}
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err == nil {
		o.Level = l
	}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// withDatabase opens the database for one command.
func (x *cli) withDatabase(ctx context.Context, c console, f func(app.Settings, *app.Database) error) error {
	s, err := x.settings(c)
	if err != nil {
		return err
	}
	db, err := app.OpenDatabase(ctx, s)
	if err != nil {
		return err
	}
	return errors.Join(f(s, db), db.Close())
}

// withApp opens the installation for one command.
func (x *cli) withApp(ctx context.Context, c console, adjust func(*app.Settings), f func(*app.App) error) error {
	return x.withDatabase(ctx, c, func(s app.Settings, db *app.Database) error {
		if adjust != nil {
			adjust(&s)
		}
		a, err := app.New(s, db)
		if err != nil {
			return err
		}
		return errors.Join(f(a), a.Close())
	})
}
