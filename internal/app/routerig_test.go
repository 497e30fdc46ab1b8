package app_test

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
	"github.com/gantry-imaging/gantry/internal/postgres"
	"github.com/gantry-imaging/gantry/internal/sample"
)

// branch is a pipeline that waits for what a route sends, and delivers into a folder of its own.
func (r *rig) branch(name, url, more string) *gantry.Pipeline {
	r.t.Helper()
	p, err := pipeline.Parse("test.yaml", fmt.Appendf(nil, `gantry: v1
name: %s
sinks: {out: {kind: dir, path: %q}}
stages: [{name: score, call: model}]
processors: {model: {kind: http, url: %q, timeout: 5s, limits: {concurrency: 8}}}
retry: {attempts: 4, initial: 80ms}
%s`, name, filepath.Join(r.out, name), url, more), all.Drivers(), r.Lookup)
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

// shared is the sources of a deployment file.
func (r *rig) shared(sources string) []gantry.Shared {
	r.t.Helper()
	d, err := pipeline.ParseDeployment("gantry.yaml", []byte("gantry: v1\nsources:\n"+sources), all.Drivers(), r.Lookup)
	if err != nil {
		r.t.Fatal(err)
	}
	var out []gantry.Shared
	for _, s := range d.Shared {
		out = append(out, s.Shared)
	}
	return out
}

const keysOfTheGateway = "\nauth: {gateway: {kind: aws, access_key_id: \"${env:ID}\", secret_access_key: \"${env:SECRET}\"}}\n"

// incoming is the depot as a shared source.
func (d *depot) incoming(routes, more string) string {
	return fmt.Sprintf("  incoming: {kind: s3, bucket: inbox, prefix: in/, endpoint: %q, path_style: true, poll: 50ms, auth: gateway, %sroutes: [%s]}%s",
		d.front, more, routes, keysOfTheGateway)
}

// servingRoutes serves until something is so.
func (r *rig) servingRoutes(pipelines []*gantry.Pipeline, shared []gantry.Shared, until func() bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 90*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx, pipelines, shared...) }()
	for !until() && ctx.Err() == nil {
		select {
		case err := <-done:
			r.t.Fatalf("serve: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	if ctx.Err() != nil {
		r.t.Errorf("it takes too long\n%s", r.log.text())
	}
	cancel()
	<-done
}

// arrivals says of each arrival of a source what became of it: its name, its pipelines or the reason it has none.
func (r *rig) arrivals(source string) map[string]string {
	r.t.Helper()
	rows, err := r.Store.Pool().Query(r.t.Context(), `select coalesce(a.name, ''), a.status, coalesce(a.reason, ''), coalesce((
		select string_agg(v.name || ':' || coalesce(t.final_state, -1), ' ' order by v.name) from task t join pipeline_version v on v.id = t.pipeline
		where t.arrival = a.id and t.parent is null), '') from arrival a where a.source = $1`, source)
	if err != nil {
		r.t.Fatal(err)
	}
	defer rows.Close()
	out := map[string]string{}
	for rows.Next() {
		var name, reason, tasks string
		var status int16
		if err := rows.Scan(&name, &status, &reason, &tasks); err != nil {
			r.t.Fatal(err)
		}
		text := strings.ReplaceAll(tasks, ":5", "")
		if s := gantry.ArrivalStatus(status); s != gantry.Accepted {
			text = strings.TrimSpace(fmt.Sprint(s, " ", reason, " ", tasks))
		}
		if _, twice := out[name]; twice {
			r.t.Errorf("%s came twice: %s", name, text)
		}
		out[name] = text
	}
	return out
}

func (d *depot) putAs(key string, body []byte, media, tags string, metadata map[string]string) {
	in := &s3.PutObjectInput{Bucket: aws.String("inbox"), Key: &key, Body: bytes.NewReader(body), Metadata: metadata}
	if media != "" {
		in.ContentType = &media
	}
	if tags != "" {
		in.Tagging = &tags
	}
	if _, err := d.PutObject(context.Background(), in); err != nil {
		d.t.Error(err)
	}
}

// goesTo waits until arrivals are what they should be.
func (r *rig) goesTo(source string, want map[string]string) func() bool {
	return func() bool {
		got := r.arrivals(source)
		for name, text := range want {
			if got[name] != text {
				return false
			}
		}
		return len(got) == len(want)
	}
}

func ultrasound() []byte { return sample.Ultrasound(2, 32, 32) }

// noNames wants no name of an object in the log, the record of calls or the metrics.
func (r *rig) noNames(name string) {
	r.t.Helper()
	calls, err := r.Store.Calls(r.t.Context(), postgres.Filter{})
	if err != nil {
		r.t.Fatal(err)
	}
	if strings.Contains(r.log.text(), name) || strings.Contains(fmt.Sprint(calls), name) {
		r.t.Error("the log or the record names an object")
	}
}

// readsBefore counts the calls of sources before there was a task: of headers, and of whole objects.
func (r *rig) readsBefore() (headers, copies int) {
	r.t.Helper()
	calls, err := r.Store.Calls(r.t.Context(), postgres.Filter{Boundary: "source"})
	if err != nil {
		r.t.Fatal(err)
	}
	arrivals := map[string]int{}
	for _, c := range calls {
		if c.Outcome != "ok" || c.Source == "" {
			r.t.Errorf("%+v", c)
		}
		arrivals[c.Source]++
	}
	if err := r.Store.Pool().QueryRow(r.t.Context(), `select count(*) from arrival where location <> ''`).Scan(&copies); err != nil {
		r.t.Fatal(err)
	}
	return len(calls) - copies, copies
}
