package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/postgres"
)

// measureBigObject takes one archive of some gigabytes from a bucket through extraction and a service that
// answers nothing, and looks at the peak memory of the process.
func measureBigObject(ctx context.Context, b *bed, s settings, r *report) error {
	if s.binary == "" {
		return nil
	}
	path := filepath.Join(b.home, "object.zip")
	s.zipBytes = s.objectBytes
	entries, err := makeZip(path, s)
	if err != nil {
		return err
	}
	g, err := startGateway(ctx, filepath.Join(b.home, "big"), "")
	if err != nil {
		return err
	}
	defer g.stop()
	if err := g.putFile(ctx, path, "big/object.zip"); err != nil {
		return err
	}
	os.Remove(path)
	service, stop, err := startService(ctx)
	if err != nil {
		return err
	}
	defer stop()
	if _, err := b.admin.Exec(ctx, `create database big_object`); err != nil {
		return err
	}
	if _, err := postgres.Migrate(ctx, b.dsn("big_object")); err != nil {
		return err
	}
	db, err := pgx.Connect(ctx, b.dsn("big_object"))
	if err != nil {
		return err
	}
	defer db.Close(ctx)
	began := time.Now()
	product, err := b.serve(ctx, s.binary, "big_object", fmt.Sprintf(bucketPipeline, "big/", g.endpoint, service+"/null"), g.environment()...)
	if err != nil {
		return err
	}
	defer product.stop()
	state := -1
	for state < 0 && time.Since(began) < 30*time.Minute && ctx.Err() == nil {
		pause(ctx, 100*time.Millisecond)
		if err := db.QueryRow(ctx, `select coalesce(max(final_state), -1) from gantry.task`).Scan(&state); err != nil {
			return err
		}
	}
	took := time.Since(began)
	peak, err := memoryMB(product.pid, "VmHWM")
	if err != nil {
		return err
	}
	if state != 5 {
		return fmt.Errorf("the task ended in state %d", state)
	}
	r.add("big_object_rss_mb", peak, "MB", atMost(256), "peak of the serving process; one zip of %.1f GB in a bucket, %d entries, copied, taken apart and sent, in %.0f s; Postgres and the S3 server apart",
		float64(s.objectBytes)/1e9, entries, took.Seconds())
	return nil
}

// putFile uploads a file in pieces.
func (g *gateway) putFile(ctx context.Context, path, key string) error {
	const piece = 64 << 20
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	bucket := aws.String("inbox")
	up, err := g.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: &key})
	if err != nil {
		return err
	}
	var done types.CompletedMultipartUpload
	for at := int64(0); at < info.Size(); at += piece {
		n := aws.Int32(int32(len(done.Parts) + 1))
		out, err := g.UploadPart(ctx, &s3.UploadPartInput{Bucket: bucket, Key: &key, UploadId: up.UploadId, PartNumber: n,
			Body: io.NewSectionReader(f, at, min(piece, info.Size()-at))})
		if err != nil {
			return err
		}
		done.Parts = append(done.Parts, types.CompletedPart{ETag: out.ETag, PartNumber: n})
	}
	_, err = g.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: bucket, Key: &key, UploadId: up.UploadId, MultipartUpload: &done})
	return err
}
