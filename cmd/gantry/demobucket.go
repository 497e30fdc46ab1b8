package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
	"github.com/gantry-imaging/gantry/internal/postgres"
	"github.com/gantry-imaging/gantry/pipelines"
)

const (
	gatewayAddress = "127.0.0.1:7070"       // that the pipeline expects an S3 server at
	bucketIn       = "/demo-in"             // the pipeline's source
	bucketOut      = "/demo-out"            // and sink
	bucketPrefix   = bucketOut + "/results" // of every task
	bucketInput    = "mixed.zip"
	bucketTime     = 20 * time.Second // for all of it
	bucketGrace    = time.Second      // for what is under way when that is over
)

// findGateway tells where versitygw is.
func findGateway(find func(program string) (string, error), lookup func(string) (string, bool)) (string, error) {
	if named, ok := lookup("GANTRY_VERSITYGW"); ok && named != "" {
		if path, err := find(named); err == nil {
			return path, nil
		}
		return "", errors.New("bucket: what GANTRY_VERSITYGW names is no program")
	}
	path, err := find("versitygw")
	if err != nil {
		return "", errors.New("bucket: versitygw is not in PATH, and GANTRY_VERSITYGW names none")
	}
	return path, nil
}

// playBuckets lays a sample into a bucket, as another program would, and serves the pipeline that watches it until
// the results are in another. What goes wrong ends this act alone. It says how many tasks failed.
func (d *demo) playBuckets(ctx context.Context, a *app.App) (failed int) {
	inner, cancel := context.WithTimeout(ctx, bucketTime)
	defer cancel()
	x, err := d.throughBuckets(inner, a)
	if err == nil {
		d.acts = append(d.acts, x)
		failed, err = d.showAct(ctx, a, x)
	}
	if err != nil {
		if inner.Err() != nil && ctx.Err() == nil {
			err = fmt.Errorf("no result within %s", bucketTime)
		}
		d.left = append(d.left, "bucket: "+err.Error())
		return 1
	}
	return failed
}

// throughBuckets is the act itself.
func (d *demo) throughBuckets(ctx context.Context, a *app.App) (*act, error) {
	g, err := startGateway(ctx, d.gateway, d.home)
	if err != nil {
		return nil, err
	}
	defer g.stop()
	src := bytes.ReplaceAll(pipelines.Bucket, []byte(modelsAddress), []byte(d.models))
	p, err := pipeline.Parse("demo.yaml", bytes.ReplaceAll(src, []byte(gatewayAddress), []byte(g.address)), all.Drivers(), g.lookup)
	if err != nil {
		return nil, err
	}
	x := &act{pipeline: p, buckets: true}
	fmt.Fprintf(d.console.out, "pipeline %s: %s\n", p.Name, p.Description)
	input := filepath.Join(d.in, bucketInput)
	if err := g.fill(ctx, p.Sources[0].Auth, input); err != nil {
		return nil, err
	}
	s := a.Settings
	s.Lookup, s.Grace = g.lookup, bucketGrace
	server, err := app.New(s, &app.Database{Store: a.Store})
	if err != nil {
		return nil, err
	}
	// The server is another each time.
	if _, err := a.Store.SourceMoved(ctx, p.Name+"/"+p.Sources[0].Name); err != nil && gantry.KindOf(err) != gantry.NotFound {
		return nil, errors.Join(err, server.Close())
	}
	before, err := newest(ctx, a.Store, p.Name)
	if err != nil {
		return nil, errors.Join(err, server.Close())
	}
	x.began = time.Now()
	err = serving(ctx, server, p, func(ctx context.Context) error {
		o, err := endOf(ctx, a.Store, p.Name, before.ID)
		if err != nil {
			return err
		}
		o.Input = input
		x.outcomes, x.took = []app.Outcome{o}, time.Since(x.began)
		return g.fetch(ctx, &x.outcomes[0], d.out)
	})
	return x, errors.Join(err, server.Close())
}

// serving does work while an installation serves a pipeline.
func serving(ctx context.Context, a *app.App, p *gantry.Pipeline, work func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		done <- a.Serve(ctx, []*gantry.Pipeline{p})
		cancel()
	}()
	err := work(ctx)
	cancel()
	if served := <-done; served != nil {
		return served
	}
	return err
}

// fill makes the two buckets and lays a file into the first. Its key is another each time: the same bytes under the
// same key would be the same arrival.
func (g *gateway) fill(ctx context.Context, c *gantry.Credential, path string) error {
	if err := g.signed(c); err != nil {
		return err
	}
	body, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for _, x := range []struct {
		path string
		body []byte
	}{{bucketIn, nil}, {bucketOut, nil}, {bucketIn + "/" + rand.Text() + "/" + filepath.Base(path), body}} {
		if _, err := g.do(ctx, http.MethodPut, x.path, x.body); err != nil {
			return err
		}
	}
	return nil
}

// newest is the newest task of a pipeline; its ID is empty if there is none.
func newest(ctx context.Context, store *postgres.Store, pipeline string) (postgres.TaskRow, error) {
	rows, err := store.Tasks(ctx, postgres.Filter{Pipeline: pipeline, Limit: 1})
	if err != nil || len(rows) == 0 {
		return postgres.TaskRow{}, err
	}
	return rows[0], nil
}

// endOf waits until the task that follows one has ended.
func endOf(ctx context.Context, store *postgres.Store, pipeline, before string) (app.Outcome, error) {
	for {
		t, err := newest(ctx, store, pipeline)
		if err != nil {
			return app.Outcome{}, err
		}
		if t.ID != before && t.FinishedAt != nil {
			o := app.Outcome{ID: t.ID, State: t.State}
			if t.Error != nil {
				o.Error = &app.Failure{Code: t.Error.Code, Kind: t.Error.Kind, Message: t.Error.Message}
			}
			return o, nil
		}
		select {
		case <-ctx.Done():
			return app.Outcome{}, ctx.Err()
		case <-time.After(30 * time.Millisecond):
		}
	}
}

// calls are those of a task, the first one first: of a bucket's the read of the object and the deliveries too.
func (x *act) calls(ctx context.Context, store *postgres.Store, id string) ([]postgres.CallRow, error) {
	which := postgres.Filter{Task: id, Boundary: gantry.AtProcessor.String()}
	if x.buckets {
		which.Boundary = ""
	}
	calls, err := store.Calls(ctx, which)
	if err == nil && x.buckets { // an object is read before there is a task
		var reads []postgres.CallRow
		reads, err = store.Calls(ctx, postgres.Filter{Pipeline: x.pipeline.Name, Boundary: gantry.AtSource.String(), Since: x.began})
		calls = append(calls, slices.DeleteFunc(reads, func(c postgres.CallRow) bool { return c.StartedAt.After(x.began.Add(x.took)) })...)
	}
	slices.Reverse(calls)
	return slices.DeleteFunc(calls, func(c postgres.CallRow) bool { return c.Outcome == gantry.ResultNotSent.String() }), err
}

// fetch brings a task's results from their bucket into a folder.
func (g *gateway) fetch(ctx context.Context, o *app.Outcome, out string) error {
	if o.Error != nil {
		return nil
	}
	manifest, err := g.bring(ctx, o, "_manifest.json", out)
	if err != nil {
		return err
	}
	var m demoManifest
	if err := json.Unmarshal(manifest, &m); err != nil {
		return err
	}
	for _, x := range m.Outputs {
		if _, err := g.bring(ctx, o, x.Path, out); err != nil {
			return err
		}
	}
	return nil
}

// bring brings one of them.
func (g *gateway) bring(ctx context.Context, o *app.Outcome, path, out string) ([]byte, error) {
	name, err := filepath.Localize(path)
	if err != nil {
		return nil, err
	}
	b, err := g.do(ctx, http.MethodGet, bucketPrefix+"/"+o.ID+"/"+path, nil)
	if err != nil {
		return nil, err
	}
	to := filepath.Join(out, o.ID, name)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return nil, err
	}
	o.Outputs = append(o.Outputs, o.ID+"/"+path)
	return b, os.WriteFile(to, b, 0o644)
}
