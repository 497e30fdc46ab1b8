package main

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/gantry-imaging/gantry/internal/postgres"
)

// bucketPipeline takes archives from one bucket and lays what a service makes of each entry into another.
const bucketPipeline = `gantry: v1
name: bucket
sources:
  in: {kind: s3, bucket: inbox, prefix: %[1]s, endpoint: %[2]q, path_style: true, poll: 1s, auth: gateway}
stages:
  - {name: score, each: part, call: score}
processors:
  score: {kind: http, url: "%[3]s", timeout: 60s, limits: {concurrency: 32}}
sinks:
  out: {kind: s3, bucket: results, prefix: gantry/, endpoint: %[2]q, path_style: true, auth: gateway}
auth:
  gateway: {kind: aws, access_key_id: "${env:BENCH_S3_ID}", secret_access_key: "${env:BENCH_S3_SECRET}"}
`

// measureBucketDrop takes small archives from one bucket to the manifests of their results in another, each
// split into two pictures that are sent to a service and recorded, beside rclone, which copies the same objects
// from bucket to bucket.
func measureBucketDrop(ctx context.Context, b *bed, s settings, r *report) error {
	if s.binary == "" {
		return nil
	}
	if _, err := exec.LookPath("rclone"); err != nil {
		return errors.New("no rclone; make deps-bench-buckets installs it")
	}
	dir := filepath.Join(b.home, "drop")
	g, err := startGateway(ctx, dir, "")
	if err != nil {
		return err
	}
	defer g.stop()
	if err := g.fill(ctx, s.objects); err != nil {
		return err
	}
	service, stop, err := startService(ctx)
	if err != nil {
		return err
	}
	defer stop()
	round := 0
	var used []spent
	var copied time.Duration // of the S3 server, in the last copy
	own := func(ctx context.Context) (time.Duration, error) {
		round++
		took, cpu, err := b.drop(ctx, s, g, service, fmt.Sprintf("drop_%d", round))
		used = append(used, cpu)
		return took, err
	}
	peer := func(ctx context.Context) (time.Duration, error) {
		round++
		began, before := time.Now(), g.time()
		defer func() { copied = g.time() - before }()
		c := exec.CommandContext(ctx, "rclone", "copy", "gw:inbox/drop", fmt.Sprintf("gw:results/rclone-%d", round))
		c.Env = slices.DeleteFunc(append(os.Environ(), g.environment()...), func(v string) bool { return strings.HasPrefix(v, "AWS_") })
		if out, err := c.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("rclone: %w: %.500s", err, out)
		}
		return time.Since(began), nil
	}
	race, err := versus(ctx, min(s.rounds, 3), own, peer)
	if err != nil {
		return err
	}
	last, each := used[len(used)-1], func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(s.objects) }
	r.add("objects_vs_rclone", race.ratio(), "ratio", atLeast(0.5), "%d archives of two pictures, from the start of the process to the last manifest, beside a copy from bucket to bucket on the server, 4 transfers at once; %.0f objects/s; processor time of an object in us: the process %.0f, Postgres %.0f, the S3 server %.0f, which copies one in %.0f; %s",
		s.objects, float64(s.objects)/quantile(race.own, 0.5).Seconds(), each(last.process), each(last.database), each(last.server), each(copied), race.note("gantry", "rclone"))
	return nil
}

// fill puts the archives.
func (g *gateway) fill(ctx context.Context, n int) error {
	pictures, err := drawPictures(2)
	if err != nil {
		return err
	}
	p, ctx := errgroup.WithContext(ctx)
	p.SetLimit(8)
	for i := range n {
		p.Go(func() error {
			body, err := pair(i, pictures)
			if err == nil {
				_, err = g.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("inbox"), Key: aws.String(fmt.Sprintf("drop/%06d.zip", i)), Body: bytes.NewReader(body)})
			}
			return err
		})
	}
	return p.Wait()
}

// pair is an archive of two pictures that is like no other.
func pair(n int, pictures [][]byte) ([]byte, error) {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	w.SetComment(fmt.Sprint(n))
	for i, p := range pictures {
		e, err := w.CreateHeader(&zip.FileHeader{Name: fmt.Sprintf("%d.png", i), Method: zip.Store})
		if err != nil {
			return nil, err
		}
		if _, err := e.Write(p); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}

// spent is processor time by who used it.
type spent struct{ process, database, server time.Duration }

// time is the processor time of the S3 server so far.
func (g *gateway) time() time.Duration {
	_, own, _, err := procStat(g.pid)
	if err != nil {
		return 0
	}
	return own
}

// drop serves a pipeline of its own until every object is done, and counts the manifests.
func (b *bed) drop(ctx context.Context, s settings, g *gateway, service, name string) (took time.Duration, cpu spent, err error) {
	if _, err := b.admin.Exec(ctx, `create database `+name); err != nil {
		return 0, cpu, err
	}
	if _, err := postgres.Migrate(ctx, b.dsn(name)); err != nil {
		return 0, cpu, err
	}
	db, err := pgx.Connect(ctx, b.dsn(name))
	if err != nil {
		return 0, cpu, err
	}
	defer db.Close(ctx)
	began, database, server := time.Now(), serverTime(b.postmaster), g.time()
	product, err := b.serve(ctx, s.binary, name, strings.ReplaceAll(fmt.Sprintf(bucketPipeline, "drop/", g.endpoint, service+"/json"), "gantry/", name+"/"), g.environment()...)
	if err != nil {
		return 0, cpu, err
	}
	defer product.stop()
	for done := 0; done < s.objects; pause(ctx, untilLook(time.Since(began), done, s.objects)) {
		if err := ctx.Err(); err != nil {
			return 0, cpu, err
		}
		var failed int
		if err := db.QueryRow(ctx, `select count(*) filter (where final_state = 5), count(*) filter (where final_state > 5) from gantry.task`).Scan(&done, &failed); err != nil {
			return 0, cpu, err
		}
		if failed > 0 {
			return 0, cpu, fmt.Errorf("%d tasks failed", failed)
		}
		if time.Since(began) > 30*time.Minute {
			return 0, cpu, fmt.Errorf("%d of %d objects are done after half an hour", done, s.objects)
		}
	}
	took = time.Since(began)
	_, own, _, err := procStat(product.pid)
	if err != nil {
		return 0, cpu, err
	}
	cpu = spent{own, serverTime(b.postmaster) - database, g.time() - server}
	return took, cpu, g.manifests(ctx, name+"/", s.objects)
}

// untilLook is how long to wait before the tasks are counted again, which reads all of them: a part of the time that the others
// will take at this pace, and a tenth of a second at last.
func untilLook(took time.Duration, done, of int) time.Duration {
	left := took * time.Duration(of-done) / time.Duration(max(done, 1))
	return min(max(left/4, 100*time.Millisecond), 2*time.Second)
}

// manifests wants n of them below a prefix.
func (g *gateway) manifests(ctx context.Context, prefix string, n int) error {
	found := 0
	for pages := s3.NewListObjectsV2Paginator(g.Client, &s3.ListObjectsV2Input{Bucket: aws.String("results"), Prefix: &prefix}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, x := range page.Contents {
			if strings.HasSuffix(aws.ToString(x.Key), "/_manifest.json") {
				found++
			}
		}
	}
	if found != n {
		return fmt.Errorf("%d manifests of %d objects", found, n)
	}
	return nil
}
