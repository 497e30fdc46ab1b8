package app_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// An archive in a bucket with versions is read there: whole, in few requests that are all on record, by the task and
// by its shards alike, and nothing of it is copied.
func TestArchiveInPlace(t *testing.T) {
	t.Parallel()
	archive, sums := entries(t, 200, 150)
	for name, extract := range map[string]string{"": "archives: [zip]", "in shards": "archives: [zip], shard: 60"} {
		t.Run("archive "+name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, scoring)
			env := map[string]string{}
			r := newRig(t, env)
			d := newDepot(t, env, true)
			d.put("in/DOE^JANE.zip", archive)
			r.serveUntilDone(r.takes(d, "auto", extract, s.URL+"/score"), map[string]int{"": 1, "in shards": 5}[name])
			for _, x := range s.all() {
				if !sums[x.sum] {
					t.Error("the service saw other bytes than those in the archive")
				}
			}
			if len(s.all()) != len(sums) {
				t.Errorf("%d of %d entries were sent", len(s.all()), len(sums))
			}
			m, _ := manifestOf(t, r.out, r.topTask())
			if m.Input.SHA256 != "" || m.Input.ETag == "" || m.Input.Size != int64(len(archive)) || m.Input.Media != gantry.MediaZIP {
				t.Errorf("input %+v", m.Input)
			}
			for _, x := range m.Items {
				if !sums[x.SHA256] {
					t.Errorf("%s is none of the entries", x.Path)
				}
			}
			ok, failed, bytes := r.reads()
			t.Logf("%d bytes: %d requests for %d bytes", len(archive), d.count(), bytes)
			if blocks := len(archive)>>20 + 1; ok != d.count() || failed > 0 || name == "" && (d.count() > blocks+1 || bytes > int64(len(archive))) {
				t.Errorf("%d requests, on record %d and %d that failed, of %d bytes", d.count(), ok, failed, bytes)
			}
			if n := r.copied(); n > 0 {
				t.Errorf("%d objects were copied", n)
			}
			if strings.Contains(r.log.text(), "DOE^JANE") {
				t.Error("the log names the object")
			}
		})
	}
}

func codeOf(row postgres.TaskRow) string {
	if row.Error == nil {
		return ""
	}
	return row.Error.Code
}

// topTask is the task that is no child.
func (r *rig) topTask() string {
	r.t.Helper()
	for _, x := range r.tasks() {
		if x.Parent == "" {
			return x.ID
		}
	}
	r.t.Fatal("no task")
	return ""
}

// Files of each kind come through the same as copies of them, and with their own digest.
func TestFilesInPlace(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	picture := noise(1200, [32]byte{1}) // more than a block
	for _, c := range []struct {
		copy   string
		copied int
	}{{"never", 1}, {"always", 3}, {"auto", 3}} { // there is nothing to read in what is empty
		env := map[string]string{}
		r := newRig(t, env)
		d := newDepot(t, env, false)
		d.put("in/a.png", picture)
		d.put("in/b.dcm", study(t, 1)[0])
		d.put("in/empty.png", nil)
		from := len(s.all())
		r.serveUntilDone(r.takes(d, c.copy, "archives: [zip]", s.URL+"/score"), 2)
		sent := map[string]bool{}
		for _, x := range s.all()[from:] {
			sent[x.sum] = true
		}
		if !sent[digest(picture)] || len(sent) != 2 {
			t.Errorf("%s: %d were sent, %v", c.copy, len(sent), sent)
		}
		for _, x := range r.tasks() {
			if x.State != "done" {
				continue
			}
			if m, _ := manifestOf(t, r.out, x.ID); !sent[m.Input.SHA256] || m.Input.ETag != "" {
				t.Errorf("%s: input %+v", c.copy, m.Input)
			}
		}
		if n := r.copied(); n != c.copied {
			t.Errorf("%s: %d objects were copied", c.copy, n)
		}
	}
}

// A server that breaks connections and is busy now and then costs time only.
func TestInPlaceOverAnUnrulyServer(t *testing.T) {
	t.Parallel()
	archive, sums := entries(t, 40, 450)
	s := serve(t, scoring)
	env := map[string]string{}
	r := newRig(t, env)
	d := newDepot(t, env, true)
	d.wrong = func(nth int, w http.ResponseWriter, req *http.Request, pass http.Handler) bool {
		switch nth % 7 {
		case 1:
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, `<Error><Code>SlowDown</Code></Error>`)
		case 3: // half of the body
			rec := httptest.NewRecorder()
			pass.ServeHTTP(rec, req)
			for k, v := range rec.Header() {
				w.Header()[k] = v
			}
			w.WriteHeader(rec.Code)
			w.Write(rec.Body.Bytes()[:rec.Body.Len()/2])
			panic(http.ErrAbortHandler)
		case 5: // nothing at all
			panic(http.ErrAbortHandler)
		default:
			return false
		}
		return true
	}
	d.put("in/a.zip", archive)
	r.serveUntilDone(r.takes(d, "auto", "archives: [zip]", s.URL+"/score"), 1)
	m, _ := manifestOf(t, r.out, r.topTask())
	if len(m.Items) != len(sums) || len(m.Errors) != 0 {
		t.Errorf("%d items, %v", len(m.Items), m.Errors)
	}
	for _, x := range m.Items {
		if !sums[x.SHA256] {
			t.Errorf("%s is none of the entries", x.Path)
		}
	}
	if ok, failed, _ := r.reads(); failed == 0 || ok == 0 || ok+failed > d.count() {
		t.Errorf("%d requests, on record %d and %d that failed", d.count(), ok, failed)
	}
}

// handOver serves until the service was asked, does something, and lets a worker that watches nothing go on.
func (r *rig) handOver(p *gantry.Pipeline, s *service, asked int, between func()) postgres.TaskRow {
	r.t.Helper()
	r.TTL, r.Grace = 600*time.Millisecond, 100*time.Millisecond
	run := func(work func(context.Context) error, until func() bool) {
		ctx, cancel := context.WithTimeout(r.t.Context(), 60*time.Second)
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- work(ctx) }()
		for !until() && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		if ctx.Err() != nil {
			r.t.Errorf("it takes too long\n%s", r.log.text())
		}
		cancel()
		<-done
	}
	run(func(ctx context.Context) error { return r.Serve(ctx, []*gantry.Pipeline{p}) }, func() bool { return len(s.all()) >= asked })
	between()
	var row postgres.TaskRow
	worker := r.beside()
	run(func(ctx context.Context) error { return worker.Work(ctx, nil) }, func() bool {
		row = r.tasks()[0]
		return row.FinishedAt != nil
	})
	return row
}

// A task goes on in another process, which has watched nothing, also if the object was replaced and deleted in a
// bucket with versions. In one without, the task ends with what happened, and at once.
func TestInPlaceInAnotherProcess(t *testing.T) {
	t.Parallel()
	archive, sums := entries(t, 40, 150)
	for name, c := range map[string]struct {
		copy, state, code string
		change            bool
	}{
		"as it is":                   {copy: "never", state: "done"},
		"replaced, with versions":    {copy: "auto", state: "done", change: true},
		"replaced, without":          {copy: "never", state: "failed", code: "source_gone", change: true},
		"replaced, but it is copied": {copy: "always", state: "done", change: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var second atomic.Bool
			s := serve(t, func(w http.ResponseWriter, r *http.Request, body []byte, _ int) {
				if !second.Load() && body[len(body)-20]%2 == 0 { // half of them hang in the first process
					<-r.Context().Done()
					return
				}
				answerJSON(w, body)
			})
			env := map[string]string{}
			r := newRig(t, env)
			d := newDepot(t, env, c.copy == "auto")
			d.put("in/a.zip", archive)
			gets := 0
			row := r.handOver(r.takes(d, c.copy, "archives: [zip]", s.URL+"/score"), s, 8, func() {
				second.Store(true)
				if c.change {
					d.put("in/a.zip", []byte("something else"))
				}
				gets = d.count()
			})
			if row.State != c.state || codeOf(row) != c.code {
				t.Errorf("the task is %s, %s", row.State, codeOf(row))
			}
			if again := d.count() - gets; c.code != "" && (again == 0 || again > 10) {
				t.Errorf("%d requests for what is gone", again)
			}
			if c.state == "done" {
				if m, _ := manifestOf(t, r.out, row.ID); len(m.Items) != len(sums) || len(m.Outputs) != len(sums) {
					t.Errorf("%d items, %d outputs", len(m.Items), len(m.Outputs))
				}
			}
		})
	}
}

// An object that is replaced while its entries are sent ends the task, though some are in memory.
// It does not run beside other tests, one of which holds the memory of all to a bound.
func TestReplacedInTheMiddle(t *testing.T) {
	picture := noise(1000, [32]byte{1})
	var list []entry
	for range 45 { // more than is kept in memory
		list = append(list, entry{name: fmt.Sprintf("%d.png", len(list)), body: picture, stored: true})
	}
	archive := packed(t, list...)
	env := map[string]string{}
	r := newRig(t, env)
	d := newDepot(t, env, false)
	var once sync.Once
	gets := 0
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, body []byte, _ int) {
		once.Do(func() {
			d.put("in/a.zip", []byte("something else"))
			gets = d.count()
		})
		answerJSON(w, body)
	})
	d.put("in/a.zip", archive)
	p := r.takes(d, "never", "archives: [zip]", s.URL+"/score")
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx, []*gantry.Pipeline{p}) }()
	var row postgres.TaskRow
	for row.FinishedAt == nil && ctx.Err() == nil {
		time.Sleep(20 * time.Millisecond)
		for _, x := range r.tasks() {
			if x.FinishedAt != nil && (row.ID == "" || x.CreatedAt.Before(row.CreatedAt)) {
				row = x
			}
		}
	}
	cancel()
	<-done
	if row.State != "failed" || codeOf(row) != "source_gone" || d.count()-gets > 12 {
		t.Errorf("the task is %s, %s, after %d requests more", row.State, codeOf(row), d.count()-gets)
	}
}
