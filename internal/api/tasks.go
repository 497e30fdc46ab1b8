package api

import (
	"context"
	_ "embed" // openapi.json
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const maxWait = 5 * time.Minute

// Task is what the API says of a task.
type Task struct {
	ID         string          `json:"id"`
	State      string          `json:"state"`
	Pipeline   string          `json:"pipeline,omitempty"`
	Version    string          `json:"version,omitempty"`
	CreatedAt  *time.Time      `json:"created_at,omitempty"`
	FinishedAt *time.Time      `json:"finished_at,omitempty"`
	Error      *Failure        `json:"error,omitempty"`
	Originals  int             `json:"originals,omitempty"` // 1, or the members of its collection
	Bytes      int64           `json:"bytes,omitempty"`     // of all of them
	Manifest   json.RawMessage `json:"manifest,omitempty"`
}

// Failure says why a task failed.
type Failure struct {
	Code    string `json:"code"`
	Kind    string `json:"kind"`
	Message string `json:"message"`
}

// Output is one output, open.
type Output struct {
	Media string
	Size  int64
	SHA   gantry.Digest
	Body  io.ReadCloser
}

// Results are what a task left. Close them.
type Results interface {
	Manifest() []byte
	Open(ctx context.Context, path string) (Output, error)
	Close()
}

// Desk is the process behind the API. Its errors have a Kind, which decides about the status: what is
// Transient or Unavailable may be asked for again.
type Desk interface {
	// Upload makes an object and its task durable and gives the task's id. The same object, or the same
	// key, gives the same id.
	Upload(ctx context.Context, u Upload) (id string, err error)
	Task(ctx context.Context, id string) (Task, error)
	// Results are NotFound until the task is done, and where nothing was delivered.
	Results(ctx context.Context, id string) (Results, error)
	Why(ctx context.Context, id string) (Why, error)
}

// tasks serves what is about tasks.
type tasks struct {
	desk  Desk
	slots chan struct{} // of uploads
	idle  time.Duration // how long a body may stand still
	pause time.Duration // between two looks at a task, at first
}

// Tasks serves uploads and what became of them below /api/, and leaves all else to next.
func Tasks(next http.Handler, d Desk) http.Handler {
	return newTasks(d).handler(next)
}

func newTasks(d Desk) *tasks {
	return &tasks{desk: d, slots: make(chan struct{}, uploadsSide), idle: time.Minute, pause: 20 * time.Millisecond}
}

func (t *tasks) handler(next http.Handler) http.Handler { return mount(next, t.routes(), fromHere) }

func (t *tasks) routes() routes {
	return routes{
		"POST /api/v1/pipelines/{name}/tasks":      t.upload,
		"GET /api/v1/tasks/{id}":                   t.task,
		"GET /api/v1/tasks/{id}/outputs":           t.outputs,
		"GET /api/v1/tasks/{id}/why":               t.why,
		"GET /api/v1/tasks/{id}/outputs/{path...}": t.output,
		"GET /api/openapi.json": func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Content-Type", gantry.MediaJSON)
			w.Write(openAPI)
			return nil
		},
		"/api/v1/": nothing,
	}
}

// openAPI describes the routes (OpenAPI 3.1).
//
//go:embed openapi.json
var openAPI []byte

// fromHere refuses what a page of another site asks for in a browser on this machine: such a page has
// an Origin of its own, or reaches us under a name of its own.
func fromHere(r *http.Request) error {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	if host != "localhost" && (ip == nil || !ip.IsLoopback()) || http.NewCrossOriginProtection().Check(r) != nil {
		return gantry.Errorf(gantry.Denied, CodeForeignSite, "the request comes from another site, or names another host")
	}
	return nil
}

// waiting reads how long to wait for a task's end.
func waiting(r *http.Request) (time.Duration, error) {
	text := r.URL.Query().Get("wait")
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > maxWait {
		return 0, gantry.Errorf(gantry.Illegal, CodeBadWait, "wait is no duration from 0s to %s", maxWait)
	}
	return d, nil
}

// task says how a task is, or how it ended.
func (t *tasks) task(w http.ResponseWriter, r *http.Request) error {
	wait, err := waiting(r)
	if err != nil {
		return err
	}
	x, err := t.look(r.Context(), r.PathValue("id"), wait)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, x)
}

// look reads a task, and waits for its end if it may. One that was waited for and is done says its manifest.
func (t *tasks) look(ctx context.Context, id string, wait time.Duration) (Task, error) {
	end := time.Now().Add(wait)
	for pause := t.pause; ; pause = min(pause*3/2, time.Second) {
		x, err := t.desk.Task(ctx, id)
		if state, known := gantry.ParseState(x.State); err != nil || known && state.Final() {
			if err == nil && wait > 0 && state == gantry.Done {
				x.Manifest, err = t.manifest(ctx, id)
			}
			return x, err
		}
		left := time.Until(end)
		if left <= 0 {
			return x, nil
		}
		select {
		case <-time.After(min(pause, left)):
		case <-stopping(ctx):
			return x, nil
		case <-ctx.Done():
			return x, context.Cause(ctx)
		}
	}
}

// manifest gives a task's manifest; nil if nothing was delivered.
func (t *tasks) manifest(ctx context.Context, id string) ([]byte, error) {
	results, err := t.desk.Results(ctx, id)
	if gantry.KindOf(err) == gantry.NotFound && err != nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer results.Close()
	return results.Manifest(), nil
}

// outputs gives the manifest as it was delivered.
func (t *tasks) outputs(w http.ResponseWriter, r *http.Request) error {
	results, err := t.desk.Results(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	defer results.Close()
	w.Header().Set("Content-Type", gantry.MediaJSON)
	w.Write(results.Manifest())
	return nil
}

// output gives one output.
func (t *tasks) output(w http.ResponseWriter, r *http.Request) error {
	results, err := t.desk.Results(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	defer results.Close()
	o, err := results.Open(r.Context(), r.PathValue("path"))
	if err != nil {
		return err
	}
	defer o.Body.Close()
	h := w.Header()
	h.Set("Content-Type", o.Media)
	h.Set("Content-Length", strconv.FormatInt(o.Size, 10))
	h.Set("Content-Disposition", "attachment")
	h.Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(o.SHA[:])+":")
	if _, err := io.CopyN(w, o.Body, o.Size); err != nil {
		panic(http.ErrAbortHandler) // the connection is broken off, so that nobody takes it for whole
	}
	return nil
}

func answer(w http.ResponseWriter, status int, x any) error {
	b, err := json.Marshal(x)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", gantry.MediaJSON)
	w.WriteHeader(status)
	w.Write(append(b, '\n'))
	return nil
}
