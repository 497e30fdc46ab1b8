// Command benchmark measures gantry beside what it is compared with, in one run on one machine: a
// call on record beside a bare HTTP client, a claim from a long queue beside one from a short queue,
// transitions, the processes at rest, media beside ffmpeg, dcmtk and unzip, and DICOM beside dcmtk and Orthanc. Read main.go (flags,
// sections), bed.go (cluster, sessions), calls.go and service.go (calls), claims.go, transitions.go,
// processes.go, versus.go with media.go and archive.go, usage.go (processor time) and report.go.
// BENCH_OUT names a file for the figures as one JSON object.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"

	"github.com/gantry-imaging/gantry/internal/slack"
)

// settings are the flags.
type settings struct {
	short   bool
	binary  string
	only    string
	section time.Duration
	warmUp  time.Duration
	rounds  int
	claims  int
	tasks   int
	pings   int
	parked  int
	profile string
	river   string
	queues  string

	slices   int   // distinct CT slices that files and archives are made of
	zipBytes int64 // of the archive's entries

	objects     int   // in a bucket
	objectBytes int64 // of the one large object
	keys        int   // in a bucket that is listed whole

	images int // sent by C-STORE
}

func main() {
	slack.Widen() // as every process of gantry that works on tasks; what runs beside it in this process has the same
	// net/http writes what a peer sends unasked to the standard logger.
	log.SetOutput(io.Discard)
	var s settings
	service := flag.Bool("service", false, "be the inference service that the calls go to")
	keys := flag.Int("catalogue", 0, "be the server that lists so many keys")
	zipped := flag.String("read-zip", "", "be the process that reads this archive")
	work := flag.String("work", "", "be a worker process that does this with tasks")
	dsn := flag.String("dsn", "", "the database of a worker process")
	out := flag.String("out", "", "the folder that a worker process leaves its notes in")
	flag.StringVar(&s.river, "river", "", "the peer of the scheduler; without it they are not compared")
	flag.StringVar(&s.queues, "sqsd", "", "an SQS server; without it nothing comes through a queue")
	flag.BoolVar(&s.short, "short", false, "fewer rounds, claims and tasks")
	flag.StringVar(&s.binary, "gantry", "", "the gantry binary; without it the processes are not measured")
	flag.StringVar(&s.only, "only", "", "what to run, with commas between: calls, latency, claims, transitions, processes, rivals, whole, idle, idlecall, bigtask, limits, takeover, parked, webhook, sqs, drop, bigobject, reconcile, receive, send, study, video, scan, frames, zip, or one kind of calls such as 100k; without it all")
	flag.StringVar(&s.profile, "profile", "", "file for a processor profile of this process")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch {
	case *service:
		err = serveModel(ctx)
	case *keys > 0:
		err = serveCatalogue(ctx, *keys)
	case *work != "":
		err = workAs(ctx, *work, *dsn, *out)
	case *zipped != "":
		err = readZip(*zipped)
	default:
		err = measure(ctx, s.sized())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchmark:", err)
		os.Exit(1)
	}
}

func (s settings) sized() settings {
	s.section, s.warmUp = 2*time.Second, 500*time.Millisecond
	s.rounds, s.claims, s.tasks, s.pings = 5, 2000, 20_000, 200
	s.parked = 10_000
	s.slices, s.zipBytes = 20, 2<<30
	s.objects, s.objectBytes, s.keys = 10_000, 5<<30, 1_000_000
	s.images = 800
	if s.short {
		s.parked = 1000
		s.slices, s.zipBytes = 10, 256<<20
		s.objects, s.objectBytes, s.keys = 1000, 512<<20, 100_000
		s.images = 100
		s.rounds, s.claims, s.tasks, s.pings = 3, 200, 5000, 60
	}
	return s
}

func (s settings) runs(section string) bool {
	return s.only == "" || strings.Contains(","+s.only+",", ","+section+",")
}

// measure runs the sections one after the other. What was measured before an error is reported too.
func measure(ctx context.Context, s settings) error {
	b, err := newBed(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	r := &report{}
	if s.profile != "" {
		f, err := os.Create(s.profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	if err := b.describe(ctx, r); err != nil {
		return err
	}
	for _, x := range []struct {
		name string
		run  func(context.Context, *bed, settings, *report) error
	}{
		{"calls", measureCalls}, {"latency", measureLatency}, {"claims", measureClaims},
		{"transitions", measureTransitions}, {"processes", measureProcesses},
		{"rivals", measureRivals}, {"whole", measureWhole}, {"idle", measureIdleStart}, {"idlecall", measureIdleCall}, {"bigtask", measureBigTask}, {"limits", measureLimits}, {"takeover", measureTakeover}, {"parked", measureParked},
		{"webhook", measureWebhook}, {"sqs", measureQueue}, {"drop", measureBucketDrop}, {"bigobject", measureBigObject}, {"reconcile", measureReconcile},
		{"receive", measureReceive}, {"send", measureSend}, {"study", measureStudy},
		{"video", measureVideo}, {"scan", measureScan}, {"frames", measureFrames}, {"zip", measureZip},
	} {
		if !s.runs(x.name) && !(x.name == "calls" && s.runsAnyCalls()) {
			continue
		}
		fmt.Fprintf(os.Stderr, "%s\n", x.name)
		if err = x.run(ctx, b, s, r); err != nil {
			err = fmt.Errorf("%s: %w", x.name, err)
			break
		}
	}
	r.print(os.Stdout)
	if path := os.Getenv("BENCH_OUT"); path != "" {
		if werr := r.write(path); err == nil {
			err = werr
		}
	}
	return err
}
