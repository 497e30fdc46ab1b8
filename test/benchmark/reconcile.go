package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// sweptPipeline lists a bucket whole, again and again, and finds nothing new.
const sweptPipeline = `gantry: v1
name: swept
sources:
  in: {kind: s3, bucket: bucket, endpoint: %[1]q, path_style: true, poll: 1s, sweep: 1ms, auth: catalogue}
stages:
  - {name: nothing, each: part, call: nothing}
processors:
  nothing: {kind: http, url: "http://127.0.0.1:9/null", timeout: 60s}
sinks:
  results: {kind: dir, path: %[2]q}
auth:
  catalogue: {kind: aws, access_key_id: "${env:BENCH_S3_ID}", secret_access_key: "${env:BENCH_S3_SECRET}"}
`

const (
	sweptKey      = "5e3a1c00000000000000000000000000000000000000000000000000000000aa" // of the deployment: the arrivals are made here
	catalogueTime = "2026-01-01T00:00:00.000Z"
)

// catalogue is a server that does nothing but list n keys that it makes up, as ListObjectsV2 has it: no server
// that keeps objects lists a million of them as fast as AWS does. It asks for no signature.
type catalogue struct{ n int }

func catalogueKey(i int) string { return fmt.Sprintf("studies/%08d/image-%03d.dcm", i/100, i%100) }

func catalogueTag(i int) string { return fmt.Sprintf("%032x", uint64(i)*0x9e3779b97f4a7c15) }

func catalogueSize(i int) int64 { return int64(1000 + i%1000) }

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
	page = fmt.Appendf(page, "<KeyCount>%d</KeyCount><MaxKeys>%d</MaxKeys><IsTruncated>%v</IsTruncated>", max(0, end-from), size, end < c.n)
	if end < c.n {
		page = fmt.Appendf(page, "<NextContinuationToken>%d</NextContinuationToken>", end)
	}
	for i := from; i < end; i++ {
		page = fmt.Appendf(page, "<Contents><Key>%s</Key><LastModified>%s</LastModified><ETag>&quot;%s&quot;</ETag><Size>%d</Size><StorageClass>STANDARD</StorageClass></Contents>",
			catalogueKey(i), catalogueTime, catalogueTag(i), catalogueSize(i))
	}
	w.Header().Set("Content-Type", "application/xml")
	w.Write(append(page, "</ListBucketResult>"...))
}

// serveCatalogue is the catalogue in a process of its own. It prints its address.
func serveCatalogue(ctx context.Context, n int) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	server := &http.Server{Handler: catalogue{n}}
	context.AfterFunc(ctx, func() { server.Close() })
	go func() { // the parent is gone when its end of the pipe is
		io.Copy(io.Discard, os.Stdin)
		server.Close()
	}()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// sweeping is a bucket whose objects are all on record.
type sweeping struct {
	*bed
	settings
	endpoint string
	db       *pgx.Conn
	peak     float64 // MB, of the serving process
}

// measureReconcile lists a bucket whose objects are all on record and compares each with the database, as a sweep
// does, beside a loop with the same SDK that lists it and does nothing.
func measureReconcile(ctx context.Context, b *bed, s settings, r *report) error {
	if s.binary == "" {
		return nil
	}
	endpoint, stop, err := startPeer(ctx, "-catalogue", strconv.Itoa(s.keys))
	if err != nil {
		return err
	}
	defer stop()
	if _, err := b.admin.Exec(ctx, `create database reconcile`); err != nil {
		return err
	}
	if _, err := postgres.Migrate(ctx, b.dsn("reconcile")); err != nil {
		return err
	}
	x := &sweeping{bed: b, settings: s, endpoint: endpoint}
	if x.db, err = pgx.Connect(ctx, b.dsn("reconcile")); err != nil {
		return err
	}
	defer x.db.Close(ctx)
	if err := x.fill(ctx); err != nil {
		return err
	}
	race, err := versus(ctx, min(s.rounds, 3), x.sweep, clock(x.list))
	if err != nil {
		return err
	}
	r.add("reconcile_vs_list", race.ratio(), "ratio", atLeast(0.7), "a sweep of %d keys that are all on record, beside a loop of ListObjectsV2; %.0f keys/s; %s",
		s.keys, float64(s.keys)/quantile(race.own, 0.5).Seconds(), race.note("gantry", "list"))
	r.add("reconcile_rss_mb", x.peak, "MB", bound{}, "peak of the serving process meanwhile")
	return nil
}

// fill puts every object on record.
func (x *sweeping) fill(ctx context.Context) error {
	key, err := hex.DecodeString(sweptKey)
	if err != nil {
		return err
	}
	at, err := time.Parse(time.RFC3339, catalogueTime)
	if err != nil {
		return err
	}
	rows := pgx.CopyFromSlice(x.keys, func(i int) ([]any, error) {
		mac, tag := gantry.MAC(key, "ref", "swept/in", catalogueKey(i)), catalogueTag(i)
		return []any{"swept/in", mac[:], tag, catalogueKey(i), catalogueSize(i), fmt.Sprintf("%s-%d-%d", tag, catalogueSize(i), at.UnixNano())}, nil
	})
	if _, err := x.db.CopyFrom(ctx, pgx.Identifier{"gantry", "arrival"}, []string{"source", "ref_mac", "version", "name", "size", "sequencer"}, rows); err != nil {
		return err
	}
	_, err = x.db.Exec(ctx, `vacuum analyze gantry.arrival`)
	return err
}

// sweep serves until everything was listed once, and says how long that took.
func (x *sweeping) sweep(ctx context.Context) (time.Duration, error) {
	var before int64
	if err := x.db.QueryRow(ctx, `select coalesce(max(sweeps), 0) from gantry.source_state`).Scan(&before); err != nil {
		return 0, err
	}
	product, err := x.serve(ctx, x.binary, "reconcile", fmt.Sprintf(sweptPipeline, x.endpoint, x.outOf("reconcile")),
		"GANTRY_KEY="+sweptKey, "BENCH_S3_ID="+gatewayID, "BENCH_S3_SECRET="+gatewaySecret)
	if err != nil {
		return 0, err
	}
	defer product.stop()
	for began := time.Now(); time.Since(began) < 10*time.Minute && ctx.Err() == nil; pause(ctx, 100*time.Millisecond) {
		var sweeps, took, objects, missed, tasks int64
		err := x.db.QueryRow(ctx, `select coalesce(max(sweeps), 0), coalesce(max(sweep_us), 0), coalesce(max(sweep_objects), 0), coalesce(max(sweep_missed), 0) from gantry.source_state`).
			Scan(&sweeps, &took, &objects, &missed)
		if err != nil {
			return 0, err
		}
		if sweeps == before {
			continue
		}
		if err := x.db.QueryRow(ctx, `select count(*) from gantry.task`).Scan(&tasks); err != nil {
			return 0, err
		}
		if objects != int64(x.keys) || missed != 0 || tasks != 0 {
			return 0, fmt.Errorf("a sweep of %d objects, %d of them missed, made %d tasks", objects, missed, tasks)
		}
		peak, err := memoryMB(product.pid, "VmHWM")
		x.peak = max(x.peak, peak)
		return time.Duration(took) * time.Microsecond, err
	}
	return 0, errors.New("no sweep within 10 minutes")
}

// list lists the bucket and does nothing else.
func (x *sweeping) list(ctx context.Context) error {
	client := s3.New(s3.Options{BaseEndpoint: &x.endpoint, Region: "us-east-1", UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(gatewayID, gatewaySecret, "")})
	n := 0
	for pages := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{Bucket: aws.String("bucket")}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		n += len(page.Contents)
	}
	if n != x.keys {
		return fmt.Errorf("listed %d of %d keys", n, x.keys)
	}
	return nil
}
