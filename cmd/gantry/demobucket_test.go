package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/api"
	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/models"
	"github.com/gantry-imaging/gantry/internal/postgres"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
	"github.com/gantry-imaging/gantry/internal/sample"
)

// TestProgramme leaves out what lacks a program, and says which.
func TestProgramme(t *testing.T) {
	t.Parallel()
	const noGateway = "bucket: versitygw is not in PATH, and GANTRY_VERSITYGW names none"
	for missing, want := range map[string][]string{"": nil, "ffmpeg": {"video: ffmpeg is not in PATH"}, "ffprobe": {"video: ffprobe is not in PATH"}, "versitygw": {noGateway}} {
		d := &demo{models: "127.0.0.1:1"}
		err := d.plan(finds(missing), func(string) (string, bool) { return "", false })
		if err != nil {
			t.Fatal(err)
		}
		acts := 5
		if strings.HasPrefix(missing, "ff") {
			acts = 4
		}
		if diff := cmp.Diff(want, d.left); diff != "" || len(d.acts) != acts || (d.gateway == "") != (missing == "versitygw") {
			t.Errorf("without %q: %d pipelines, %q, %s", missing, len(d.acts), d.gateway, diff)
		}
		for _, x := range d.acts {
			if got := x.pipeline.Processors[0].Config.(gantry.Targeted); got.Target().Port != "1" {
				t.Errorf("%s calls another server than the demonstration's", x.pipeline.Name)
			}
		}
	}
}

// finds tells of every program but one that it is there.
func finds(missing string) func(string) (string, error) {
	return func(program string) (string, error) {
		if filepath.Base(program) == missing {
			return "", exec.ErrNotFound
		}
		return "/bin/" + filepath.Base(program), nil
	}
}

// TestFindGateway takes what the environment names before what PATH has.
func TestFindGateway(t *testing.T) {
	t.Parallel()
	named := func(string) (string, bool) { return "/opt/own", true }
	if got, err := findGateway(finds(""), named); err != nil || got != "/bin/own" {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := findGateway(finds("own"), named); err == nil || !strings.Contains(err.Error(), "GANTRY_VERSITYGW names is no program") {
		t.Error(err)
	}
}

// stage is a demonstration of buckets alone, with models and samples.
func stage(t *testing.T, gateway string) (*demo, *app.App, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	dir := t.TempDir()
	d := &demo{console: console{&out, &out}, home: dir, in: filepath.Join(dir, "in"), out: filepath.Join(dir, "out"),
		page: filepath.Join(dir, "index.html"), gateway: gateway}
	if _, err := sample.Write(d.in); err != nil {
		t.Fatal(err)
	}
	l, err := api.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.models = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- api.Serve(ctx, l, models.Handler(models.Options{})) }()
	t.Cleanup(func() {
		cancel()
		<-served
	})
	s := app.Settings{Home: dir, DatabaseURL: postgrestest.DSN(t), Drivers: all.Drivers()}
	db, err := app.OpenDatabase(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	a, err := app.New(s, db)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return d, a, &out
}

// TestBuckets goes from bucket to bucket twice on one database: the second time is no arrival that is known.
func TestBuckets(t *testing.T) {
	t.Parallel()
	d, a, out := stage(t, s3test.Binary(t))
	for range 2 {
		if failed := d.playBuckets(t.Context(), a); failed != 0 {
			t.Fatalf("%d failed: %v\n%s", failed, d.left, out)
		}
	}
	page, err := d.gather(t.Context(), a.Store)
	if err != nil {
		t.Fatal(err)
	}
	if page.Tasks != 2 || page.Done != 2 || page.Items != 10 || page.Calls != 20 || page.Files != 22 {
		t.Errorf("%+v", page)
	}
	for _, x := range page.Acts {
		crossed := map[string]int{}
		for _, c := range x.Tasks[0].Calls {
			crossed[c.Boundary]++
		}
		if diff := cmp.Diff(map[string]int{"source": 1, "processor": 10, "sink": 11}, crossed); diff != "" {
			t.Error(diff)
		}
		if got := x.Tasks[0]; got.Input != "mixed.zip" || len(got.First)+len(got.More) != 5 || got.First[0].Before == "" || len(got.First[0].After) != 1 {
			t.Errorf("%+v", got)
		}
	}
	if left, err := filepath.Glob(filepath.Join(d.home, "gateway-*")); err != nil || len(left) > 0 {
		t.Errorf("the gateway left %v", left)
	}
}

// TestBucketsWithout ends the act alone, and in time, where the program is no gateway or does not answer.
func TestBucketsWithout(t *testing.T) {
	t.Parallel()
	deaf := filepath.Join(t.TempDir(), "deaf")
	if err := os.WriteFile(deaf, []byte("#!/bin/sh\nexec sleep 60\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for binary, want := range map[string]string{"/bin/true": "ended at once", deaf: "does not answer", "/none": "no such file"} {
		d := &demo{home: t.TempDir(), gateway: binary}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		began := time.Now()
		failed := d.playBuckets(ctx, nil)
		cancel()
		if failed != 1 || len(d.left) != 1 || !strings.HasPrefix(d.left[0], "bucket: ") || !strings.Contains(d.left[0], want) || time.Since(began) > 5*time.Second {
			t.Errorf("%s: %d failed, %v", binary, failed, d.left)
		}
		if left, err := os.ReadDir(d.home); err != nil || len(left) > 0 {
			t.Errorf("%s left %v", binary, left)
		}
	}
}

// TestFetchRefuses brings nothing to where a manifest must not point.
func TestFetchRefuses(t *testing.T) {
	t.Parallel()
	g := &gateway{}
	for _, path := range []string{"../x", "/x", ""} {
		if _, err := g.bring(t.Context(), &app.Outcome{ID: "a"}, path, t.TempDir()); err == nil {
			t.Errorf("%q was brought", path)
		}
	}
	if err := g.fetch(t.Context(), &app.Outcome{Error: &app.Failure{}}, ""); err != nil {
		t.Errorf("of a task that failed: %v", err)
	}
	if _, there := g.lookup("HOME"); there {
		t.Error("more than the two variables")
	}
}

// TestEndOf gives why a task failed, and stops waiting with its context.
func TestEndOf(t *testing.T) {
	t.Parallel()
	_, a, _ := stage(t, "")
	if x, err := newest(t.Context(), a.Store, "none"); err != nil || x.ID != "" {
		t.Errorf("%+v, %v", x, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := endOf(ctx, a.Store, "none", ""); err == nil {
		t.Error("a task that is not there has ended")
	}
	if _, err := a.Store.Tasks(t.Context(), postgres.Filter{}); err != nil {
		t.Error(err)
	}
}
