package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// receivePipeline puts what comes into collections that stay open for as long as the benchmark runs.
const receivePipeline = `gantry: v1
name: receive
sources:
  modality: {kind: dicom, aet: GANTRY, listen: "127.0.0.1:%[1]d"}
group: {by: study, quiet: 12h}
stages:
  - {name: nothing, each: task, call: nothing}
processors:
  nothing: {kind: http, url: "http://127.0.0.1:9/null", timeout: 60s}
sinks:
  results: {kind: dir, path: %[2]q}
`

// contestant is a receiver in the race.
type contestant struct {
	name string
	receiver
	took map[int][]time.Duration // by the number of associations, of each round
	used map[int]usage           // of all rounds
}

// usage is processor time.
type usage struct{ senders, receiver, database time.Duration }

// used is the processor time until now, of x's processes and of what sends to it.
func (b *bed) used(x *contestant) usage {
	u := usage{senders: endedTime(), receiver: serverTime(x.pid), database: serverTime(b.postmaster)}
	if x.pid == os.Getpid() {
		u.receiver = ownTime()
	}
	return u
}

// spent adds what was used since.
func (u usage) spent(from, to usage) usage {
	return usage{u.senders + to.senders - from.senders, u.receiver + to.receiver - from.receiver, u.database + to.database - from.database}
}

// each is milliseconds for each of n.
func (u usage) each(n int) string {
	of := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) / float64(n) }
	return fmt.Sprintf("%.2f + %.2f + %.2f", of(u.senders), of(u.receiver), of(u.database))
}

// receiveRounds are how many there are in full. The ratio of one swings by a tenth either way.
const receiveRounds = 9

// associations are how many send at once.
var associations = [...]int{8, 1}

// measureReceive sends the same number of images to gantry, to storescp with a process for each association, to Orthanc, and to the
// same associations in this process without a database, without fsync.
func measureReceive(ctx context.Context, b *bed, s settings, r *report) error {
	if s.binary == "" {
		return nil
	}
	if err := needPeers("dcmsend", "storescp", "Orthanc"); err != nil {
		return err
	}
	load, err := b.draw(s.images)
	if err != nil {
		return err
	}
	if !s.short {
		s.rounds = receiveRounds
	}
	race, stop, err := b.contestants(ctx, s)
	defer stop()
	if err != nil {
		return err
	}
	for round := -1; round < s.rounds; round++ {
		for i := range race {
			x := race[(i+round+1)%len(race)]
			for _, n := range associations {
				study, err := load.write(s.images)
				if err != nil {
					return err
				}
				from := b.used(x)
				took, err := x.take(ctx, study.Files, n)
				if err != nil {
					return fmt.Errorf("%s: %w", x.name, err)
				}
				if round >= 0 {
					x.took[n] = append(x.took[n], took)
					x.used[n] = x.used[n].spent(from, b.used(x))
				}
			}
		}
	}
	return reportReceive(r, race, load, s)
}

// contestants starts all of them; gantry is the first.
func (b *bed) contestants(ctx context.Context, s settings) (race []*contestant, stop func(), err error) {
	stop = func() {
		for _, x := range race {
			x.stop()
		}
	}
	for _, x := range []struct {
		name  string
		start func() (receiver, error)
	}{
		{"gantry", func() (receiver, error) { return b.receiving(ctx, s) }},
		{"storescp --fork", func() (receiver, error) { return b.startStorescp("receive_storescp") }},
		{"Orthanc", func() (receiver, error) { return b.startOrthanc("receive_orthanc") }},
		{"bare", func() (receiver, error) { return b.startBare(ctx) }},
	} {
		started, err := x.start()
		if err != nil {
			return race, stop, fmt.Errorf("%s: %w", x.name, err)
		}
		race = append(race, &contestant{name: x.name, receiver: started, took: map[int][]time.Duration{}, used: map[int]usage{}})
	}
	return race, stop, nil
}

// receiving starts the product with a DICOM source.
func (b *bed) receiving(ctx context.Context, s settings) (receiver, error) {
	port, err := freePort()
	if err != nil {
		return receiver{}, err
	}
	if _, err := b.admin.Exec(ctx, `create database receive`); err != nil {
		return receiver{}, err
	}
	if _, err := postgres.Migrate(ctx, b.dsn("receive")); err != nil {
		return receiver{}, err
	}
	product, err := b.serve(ctx, s.binary, "receive", fmt.Sprintf(receivePipeline, port, b.outOf("receive")))
	if err != nil {
		return receiver{}, err
	}
	return receiver{title: "GANTRY", port: port, pid: product.pid, stop: product.stop}, listensOn(ctx, port)
}

// reportReceive gives the ratios to each and the memory.
func reportReceive(r *report, race []*contestant, load *imaging, s settings) error {
	own := race[0]
	mb, err := memoryMB(own.pid, "VmHWM")
	if err != nil {
		return err
	}
	rates := func(n int) string {
		var all []string
		for _, x := range race {
			median := quantile(append([]time.Duration{}, x.took[n]...), 0.5)
			all = append(all, fmt.Sprintf("%s %.0f (%.0f MB/s)", x.name, float64(s.images)/median.Seconds(), float64(load.bytes)/1e6/median.Seconds()))
		}
		return strings.Join(all, ", ")
	}
	ratio := func(x *contestant, n int) (float64, string) {
		var list []float64
		for i, took := range own.took[n] {
			list = append(list, float64(x.took[n][i])/float64(took))
		}
		median := quantile(list, 0.5)
		return median, fmt.Sprintf("%d rounds, %.2f to %.2f", len(list), list[0], list[len(list)-1])
	}
	costs := func(n int) string {
		var all []string
		for _, x := range race {
			all = append(all, x.name+" "+x.used[n].each(s.rounds*s.images))
		}
		return strings.Join(all, ", ")
	}
	v, note := ratio(race[1], 8)
	r.add("recv8_vs_storescp_fork", v, "ratio", atLeast(0.8), "%d images, %.0f MB over 8 associations of dcmsend; %s; images/s: %s", s.images, float64(load.bytes)/1e6, note, rates(8))
	v, note = ratio(race[2], 8)
	r.add("recv8_vs_orthanc", v, "ratio", atLeast(1.3), "%s; ms of processor an image, of dcmsend + receiver + Postgres: %s", note, costs(8))
	v, note = ratio(race[1], 1)
	r.add("recv1_vs_storescp_fork", v, "ratio", bound{}, "over 1 association; %s; images/s: %s", note, rates(1))
	v, note = ratio(race[3], 8)
	r.add("recv8_vs_bare", v, "ratio", bound{}, "beside the same associations without database and fsync: what durability costs; %s", note)
	v, note = ratio(race[3], 1)
	r.add("recv1_vs_bare", v, "ratio", bound{}, "the same over 1 association; %s", note)
	r.add("recv_rss_mb", mb, "MB", atMost(64*1.048576), "the peak of the serving process over all rounds; Postgres apart")
	return nil
}

// keeper takes images with the associations of the product and writes each data set into a file, and does nothing else.
type keeper struct {
	dir string
	n   *atomic.Int64
}

// Store writes the data set.
func (x keeper) Store(_ context.Context, r dimse.StoreRequest) dimse.Response {
	f, err := os.Create(filepath.Join(x.dir, fmt.Sprint(x.n.Add(1))))
	if err == nil {
		_, err = io.Copy(f, r.Data)
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}
	if err != nil {
		return dimse.Response{Status: dimse.StatusOutOfResources}
	}
	return dimse.Response{}
}

// Commit refuses.
func (keeper) Commit(context.Context, dimse.Commitment) dimse.Response {
	return dimse.Response{Status: dimse.StatusProcessing}
}

// Reported refuses.
func (keeper) Reported(context.Context, dimse.Commitment) dimse.Response {
	return dimse.Response{Status: dimse.StatusProcessing}
}

// Ended does nothing.
func (keeper) Ended(error) {}

// startBare serves them in this process.
func (b *bed) startBare(ctx context.Context) (receiver, error) {
	x := keeper{dir: filepath.Join(b.home, "receive_bare"), n: new(atomic.Int64)}
	if err := os.MkdirAll(x.dir, 0o755); err != nil {
		return receiver{}, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return receiver{}, err
	}
	server := &dimse.Server{Admit: func(context.Context, dimse.Proposal) (dimse.Terms, error) {
		return dimse.Terms{Handler: x, Accept: func(dimse.Context) int { return 0 }}, nil
	}}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { server.Serve(ctx, l, time.Second); close(ended) }()
	stop := func() { cancel(); <-ended }
	return receiver{title: "BARE", port: l.Addr().(*net.TCPAddr).Port, pid: os.Getpid(), stop: stop, discard: x.dir}, nil
}
