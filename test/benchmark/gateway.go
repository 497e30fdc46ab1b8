package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

const (
	gatewayID     = "gantry"
	gatewaySecret = "gantry-bench-secret"
)

// gateway is an S3 server of another make, on a folder.
type gateway struct {
	*s3.Client
	endpoint string
	pid      int
	stop     func()
}

// startGateway starts versitygw, which make test builds, and makes two buckets, inbox and results. It tells hook of
// what is put, if that is an address.
func startGateway(ctx context.Context, dir, hook string) (*gateway, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	program := filepath.Join(cache, "gantry-tools", "versitygw-1.8.0", "versitygw")
	if _, err := os.Stat(program); err != nil {
		return nil, errors.New("no S3 server; make deps-test builds one")
	}
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(data, 0o755); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := l.Addr().String()
	l.Close()
	args := []string{"--port", address, "--quiet", "--keep-alive", "--health", "/health"} // as S3, MinIO and Ceph do
	if hook != "" {
		filter := filepath.Join(dir, "filter.json")
		if err := os.WriteFile(filter, []byte(`{"s3:ObjectCreated:*": true}`), 0o644); err != nil {
			return nil, err
		}
		args = append(args, "--event-webhook-url", hook, "--event-filter", filter)
	}
	c := exec.CommandContext(ctx, program, append(args, "posix", data)...)
	c.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+gatewayID, "ROOT_SECRET_KEY="+gatewaySecret)
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		return nil, err
	}
	endpoint := "http://" + address
	g := &gateway{endpoint: endpoint, pid: c.Process.Pid, stop: func() { c.Process.Signal(syscall.SIGTERM); c.Wait() },
		Client: s3.New(s3.Options{BaseEndpoint: &endpoint, Region: "us-east-1", UsePathStyle: true,
			Credentials: credentials.NewStaticCredentialsProvider(gatewayID, gatewaySecret, "")})}
	if err := g.begin(ctx); err != nil {
		g.stop()
		return nil, err
	}
	return g, nil
}

// begin waits for the server and makes the buckets.
func (g *gateway) begin(ctx context.Context) error {
	for range 300 {
		if resp, err := http.Get(g.endpoint + "/health"); err == nil {
			resp.Body.Close()
			for _, name := range []string{"inbox", "results"} {
				if _, err := g.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(name)}); err != nil {
					return fmt.Errorf("make bucket: %w", err)
				}
			}
			return nil
		}
		pause(ctx, 100*time.Millisecond)
	}
	return errors.New("the S3 server does not answer")
}

// environment holds the account for what a pipeline file refers to, and for rclone.
func (g *gateway) environment() []string {
	return []string{"BENCH_S3_ID=" + gatewayID, "BENCH_S3_SECRET=" + gatewaySecret,
		"RCLONE_CONFIG_GW_TYPE=s3", "RCLONE_CONFIG_GW_PROVIDER=Other", "RCLONE_CONFIG_GW_ENDPOINT=" + g.endpoint, "RCLONE_CONFIG_GW_FORCE_PATH_STYLE=true",
		"RCLONE_CONFIG_GW_ACCESS_KEY_ID=" + gatewayID, "RCLONE_CONFIG_GW_SECRET_ACCESS_KEY=" + gatewaySecret}
}
