package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	s3driver "github.com/gantry-imaging/gantry/internal/driver/s3"
	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
)

// catalogue is a server that does nothing but list n keys that it makes up, as ListObjectsV2 has it: no server of ours
// lists a million real objects in the time of a benchmark. It asks for no signature.
type catalogue struct{ n int }

const catalogueTime = "2026-01-01T00:00:00.000Z"

// catalogueKey gives the i-th key, of 28 bytes.
func catalogueKey(i int) string { return fmt.Sprintf("studies/%08d/image-%03d.dcm", i/100, i%100) }

func catalogueTag(i int) string { return fmt.Sprintf("%032x", uint64(i)*0x9e3779b97f4a7c15) }

func catalogueSequencer(i int) string {
	at, _ := time.Parse(time.RFC3339, catalogueTime)
	return fmt.Sprintf("%s-%d-%d", catalogueTag(i), 1000+i%1000, at.UnixNano())
}

// ServeHTTP gives one page; a token is the number of its first key.
func (c catalogue) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	from, _ := strconv.Atoi(q.Get("continuation-token"))
	if after := q.Get("start-after"); after != "" {
		var a, b int
		fmt.Sscanf(after, "studies/%d/image-%d.dcm", &a, &b)
		from = a*100 + b + 1
	}
	size, err := strconv.Atoi(q.Get("max-keys"))
	if err != nil || size > 1000 {
		size = 1000
	}
	end := min(from+size, c.n)
	page := make([]byte, 0, 300<<10)
	page = append(page, `<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name>`...)
	page = fmt.Appendf(page, "<KeyCount>%d</KeyCount><MaxKeys>%d</MaxKeys><IsTruncated>%v</IsTruncated>", end-from, size, end < c.n)
	if end < c.n {
		page = fmt.Appendf(page, "<NextContinuationToken>%d</NextContinuationToken>", end)
	}
	for i := from; i < end; i++ {
		page = append(page, "<Contents><Key>"...)
		page = append(page, catalogueKey(i)...)
		page = append(page, "</Key><LastModified>"+catalogueTime+"</LastModified><ETag>&quot;"...)
		page = append(page, catalogueTag(i)...)
		page = append(page, "&quot;</ETag><Size>"...)
		page = strconv.AppendInt(page, int64(1000+i%1000), 10)
		page = append(page, "</Size><StorageClass>STANDARD</StorageClass></Contents>"...)
	}
	w.Header().Set("Content-Type", "application/xml")
	w.Write(append(page, "</ListBucketResult>"...))
}

// bareList lists a bucket with the SDK and does nothing else.
func bareList(b *testing.B, client *s3.Client, bucket string, want int) time.Duration {
	b.Helper()
	began, n := time.Now(), 0
	for p := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{Bucket: &bucket}); p.HasMorePages(); {
		out, err := p.NextPage(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		n += len(out.Contents)
	}
	if n != want {
		b.Fatalf("listed %d of %d", n, want)
	}
	return time.Since(began)
}

// watched serves a pipeline on a bucket until it was swept n times, and gives how long each sweep took.
func watched(b *testing.B, a *app.App, endpoint, bucket string, n int) (took []time.Duration, last gantry.SourceStatus) {
	b.Helper()
	p, err := pipeline.Parse("test.yaml", fmt.Appendf(nil, `gantry: v1
name: p
sources: {in: {kind: s3, bucket: %q, endpoint: %q, path_style: true, poll: 200ms, sweep: 1ms, auth: gateway}}
sinks: {results: {kind: dir, path: %q}}
stages: [{name: enhance, call: model}]
processors: {model: {kind: http, url: "http://127.0.0.1:9/"}}
auth: {gateway: {kind: aws, access_key_id: "${env:ID}", secret_access_key: "${env:SECRET}"}}
`, bucket, endpoint, b.TempDir()), a.Drivers, a.Lookup)
	if err != nil {
		b.Fatal(err)
	}
	var seen int64
	if before, err := a.Sources(b.Context()); err != nil {
		b.Fatal(err)
	} else if len(before) == 1 {
		seen = before[0].Sweeps
	}
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx, []*gantry.Pipeline{p}) }()
	for ; len(took) < n; time.Sleep(250 * time.Millisecond) {
		list, err := a.Sources(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if len(list) == 1 && list[0].Sweeps > seen {
			last, seen = list[0], list[0].Sweeps
			took = append(took, time.Duration(last.LastSweep.Took*float64(time.Second)))
		}
	}
	stop()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	return took, last
}

// blank is a ledger that knows nothing and keeps nothing but how far it got.
type blank struct{ done atomic.Bool }

func (*blank) Known(_ context.Context, list []gantry.Object) ([]bool, error) {
	return make([]bool, len(list)), nil
}
func (*blank) Progress(context.Context) (gantry.TakeUp, error) { return gantry.TakeUp{}, nil }
func (l *blank) Keep(p gantry.TakeUp)                          { l.done.Store(p.Taken) }
func (*blank) Swept(gantry.Sweep)                              {}
func (*blank) Heard(string, time.Time)                         {}
func (*blank) Failed(string, error)                            {}
func (*blank) Worked(string)                                   {}

// plainWay is a way out that keeps no record.
type plainWay struct{}

func (plainWay) Transport() http.RoundTripper { return http.DefaultTransport }
func (plainWay) DialContext(context.Context, string, string) (net.Conn, error) {
	return nil, gantry.Errorf(gantry.Illegal, "", "no other way")
}

// takenUp takes n objects up that were there before, and gives how many bytes the heap grew by at most.
func takenUp(b *testing.B, endpoint string, n int) (grown uint64, took time.Duration) {
	b.Helper()
	src, err := s3driver.NewSource(b.Context(), s3driver.SourceConfig{Bucket: "bucket", Endpoint: endpoint, PathStyle: true, Sweep: time.Hour, Poll: 50 * time.Millisecond}, plainWay{})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	l, announced := &blank{}, atomic.Int64{}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	first, began, done := heap(), time.Now(), make(chan error, 1)
	go func() {
		done <- src.(gantry.Resuming).WatchFrom(ctx, l, func(context.Context, gantry.Object) error { announced.Add(1); return nil })
	}()
	for !l.done.Load() {
		time.Sleep(250 * time.Millisecond)
		grown = max(grown, heap()) // of what is alive: garbage is collected first
	}
	took = time.Since(began)
	stop()
	if err := <-done; err != nil || announced.Load() < int64(n) {
		b.Fatalf("%v, announced %d of %d", err, announced.Load(), n)
	}
	return grown - min(first, grown), took
}

// BenchmarkReconcile holds the listing of everything in a bucket whose objects are on record, a million or as many as
// GANTRY_BUCKET says, to a loop of ListObjectsV2 with the same SDK on the same server, and measures how the heap grows while
// as many are taken up for the first time. The server makes its keys up; 5000 real objects on versitygw stand beside it.
// It prints one line of JSON. One round is enough: -benchtime 1x.
func BenchmarkReconcile(b *testing.B) {
	n := 1_000_000
	if s := os.Getenv("GANTRY_BUCKET"); s != "" {
		n, _ = strconv.Atoi(s)
	}
	real := min(n, 5000)
	for range b.N {
		figures := map[string]float64{"reconcile_keys": float64(n)}
		front := httptest.NewServer(catalogue{n})
		defer front.Close()
		ratio, rate := reconciled(b, front.URL, "bucket", &s3test.Server{AccessKey: "id", SecretKey: "secret"}, n, func(a *app.App) {
			rows := pgx.CopyFromSlice(n, func(i int) ([]any, error) {
				mac := gantry.MAC(a.Key, "ref", "p/in", catalogueKey(i))
				return []any{"p/in", mac[:], catalogueTag(i), catalogueKey(i), int64(1), catalogueSequencer(i)}, nil
			})
			if _, err := a.Store.Pool().CopyFrom(b.Context(), pgx.Identifier{"gantry", "arrival"}, []string{"source", "ref_mac", "version", "name", "size", "sequencer"}, rows); err != nil {
				b.Fatal(err)
			}
		})
		figures["reconcile_vs_list"], figures["reconcile_keys_s"] = ratio, rate
		grown, took := takenUp(b, front.URL, n)
		figures["takeup_heap_mb"], figures["takeup_keys_s"] = float64(grown)/1e6, float64(n)/took.Seconds()
		figures["reconcile_vs_list_versitygw"] = onGateway(b, real)
		for name, x := range figures {
			b.ReportMetric(x, name)
		}
		line, _ := json.Marshal(figures)
		fmt.Printf("%s\n", line)
	}
}

// reconciled compares the sweeps of a bucket whose objects fill puts on record with lists of it, by turns.
func reconciled(b *testing.B, endpoint, bucket string, server *s3test.Server, n int, fill func(*app.App)) (ratio, rate float64) {
	b.Helper()
	env := map[string]string{"ID": server.AccessKey, "SECRET": server.SecretKey}
	s := app.Settings{DatabaseURL: postgrestest.DSN(b), Home: b.TempDir(), Drivers: all.Drivers(), Log: slog.New(slog.DiscardHandler),
		Lookup: func(k string) (string, bool) { v, ok := env[k]; return v, ok }}
	db, err := app.OpenDatabase(b.Context(), s)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	a, err := app.New(s, db)
	if err != nil {
		b.Fatal(err)
	}
	defer a.Close()
	fill(a)
	if _, err := a.Store.Pool().Exec(b.Context(), `vacuum analyze arrival`); err != nil {
		b.Fatal(err)
	}
	client := s3.New(s3.Options{BaseEndpoint: &endpoint, Region: "us-east-1", UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, "")})
	var lists, sweeps []time.Duration
	for range 3 {
		lists = append(lists, bareList(b, client, bucket, n))
		took, last := watched(b, a, endpoint, bucket, 1)
		if last.Arrivals.Accepted != int64(n) || last.LastSweep.Objects != int64(n) || last.LastSweep.Missed != 0 {
			b.Fatalf("it is not only a comparison: %+v", last)
		}
		sweeps = append(sweeps, took...)
		b.Logf("list %s, sweep %s", lists[len(lists)-1], took[0])
	}
	slices.Sort(lists)
	slices.Sort(sweeps)
	return lists[1].Seconds() / sweeps[1].Seconds(), float64(n) / sweeps[1].Seconds()
}

// onGateway is reconciled for n objects on versitygw. The first sweep learns their times.
func onGateway(b *testing.B, n int) float64 {
	b.Helper()
	server := s3test.Start(b)
	client := s3.New(s3.Options{BaseEndpoint: &server.Endpoint, Region: "us-east-1", UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, "")})
	bucket := "bucket"
	if _, err := client.CreateBucket(b.Context(), &s3.CreateBucketInput{Bucket: &bucket}); err != nil {
		b.Fatal(err)
	}
	for i := range n {
		if _, err := client.PutObject(b.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: aws.String(catalogueKey(i))}); err != nil {
			b.Fatal(err)
		}
	}
	ratio, _ := reconciled(b, server.Endpoint, bucket, server, n, func(a *app.App) {
		var rows [][]any
		for p := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{Bucket: &bucket}); p.HasMorePages(); {
			out, err := p.NextPage(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			for _, x := range out.Contents {
				tag, _ := strconv.Unquote(aws.ToString(x.ETag))
				mac := gantry.MAC(a.Key, "ref", "p/in", aws.ToString(x.Key))
				rows = append(rows, []any{"p/in", mac[:], tag, "n", int64(0), fmt.Sprintf("%s-%d-%d", tag, aws.ToInt64(x.Size), x.LastModified.Truncate(time.Second).UnixNano())})
			}
		}
		if _, err := a.Store.Pool().CopyFrom(b.Context(), pgx.Identifier{"gantry", "arrival"}, []string{"source", "ref_mac", "version", "name", "size", "sequencer"}, pgx.CopyFromRows(rows)); err != nil {
			b.Fatal(err)
		}
	})
	return ratio
}
