package app_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	sdk "go.opentelemetry.io/otel/sdk/trace"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/metrics"
	"github.com/gantry-imaging/gantry/internal/postgres"
	"github.com/gantry-imaging/gantry/internal/trace"
)

func (r *rig) notReady(want gantry.Code) {
	r.t.Helper()
	var code gantry.Code
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if code = gantry.CodeOf(r.Ready(r.t.Context())); code == want {
			return
		}
	}
	r.t.Fatalf("ready says %q, want %q", code, want)
}

// TestReady is not ready before it has its lease, with another schema, while what was begun is finished,
// and without a database.
func TestReady(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, body []byte, _ int) {
		<-release
		answerJSON(w, body)
	})
	r := newRig(t, nil)
	r.notReady(app.CodeStarting)
	inbox, stop := r.serving(oneStage(s.URL, "60s"))
	r.Grace = time.Minute
	r.notReady("")
	r.exec(`update goose_db_version set version_id = version_id + 1000 where id = (select max(id) from goose_db_version)`)
	r.notReady(app.CodeOtherSchema)
	r.exec(`update goose_db_version set version_id = version_id - 1000 where id = (select max(id) from goose_db_version)`)
	r.notReady("")
	drop(t, inbox, "x.png", noise(30, [32]byte{1}))
	r.until("inferring", func(x postgres.TaskRow) bool { return x.State == "inferring" && len(s.all()) == 1 })
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	r.notReady(app.CodeDraining)
	close(release)
	<-stopped
	r.notReady(app.CodeDraining)
}

func (r *rig) exec(sql string) {
	r.t.Helper()
	c, err := pgx.Connect(r.t.Context(), r.dsn)
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close(r.t.Context())
	if _, err := c.Exec(r.t.Context(), "set search_path = gantry; "+sql); err != nil {
		r.t.Fatal(err)
	}
}

// TestLeaseLostIsNotReady: a process whose lease has ended for the others is not ready until it has
// another. A trigger makes that take long enough to be seen.
func TestLeaseLostIsNotReady(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.serving(oneStage("http://127.0.0.1:1", "1s"))
	r.notReady("")
	r.exec(`create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(0.2); return new; end $$;
		create trigger slow before insert on worker for each row execute function slow()`)
	r.exec(`update worker set expires_at = now() - interval '1 s'`)
	r.notReady(app.CodeStarting) // and it begins anew
	r.notReady("")
}

// TestMetricsOfARun counts what one image led to, by the names of the pipeline; the names of files, ids
// and digests are in no label.
func TestMetricsOfARun(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	r := newRig(t, nil)
	r.Metrics = metrics.New("test", "")
	inbox, _ := r.serving(twoStages(s.URL))
	drop(t, inbox, "DOE^JANE.png", noise(200, [32]byte{1}))
	task := r.until("done", func(x postgres.TaskRow) bool { return x.State == "done" })
	var text string
	for _, want := range []string{
		`gantry_calls_total{boundary="source",endpoint="inbox",kind="",outcome="ok",pipeline="two-stages"} 1`,
		`gantry_calls_total{boundary="processor",endpoint="score",kind="",outcome="ok",pipeline="two-stages"} 1`,
		`gantry_calls_total{boundary="processor",endpoint="draw",kind="",outcome="ok",pipeline="two-stages"} 1`,
		`gantry_call_seconds_count{boundary="processor",endpoint="draw",pipeline="two-stages"} 1`,
		`gantry_calls_total{boundary="sink",endpoint="out",kind="",outcome="ok",pipeline="two-stages"} `,
		`gantry_tasks_ended_total{pipeline="two-stages",state="done"} 1`,
	} {
		r.eventually("the metrics have no "+want, func() bool { // the row is committed before its process counts it
			w := httptest.NewRecorder()
			r.Metrics.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
			text = w.Body.String()
			return strings.Contains(text, want)
		})
	}
	for _, never := range []string{"DOE", "JANE", task.ID, inbox, s.URL, "gantry_blob_bytes_total 0\n", "gantry_commit_rows_count 0\n"} {
		if strings.Contains(text, never) {
			t.Errorf("the metrics hold %s:\n%s", never, text)
		}
	}
	if n := strings.Count(text, "\n"); n > 1000 {
		t.Errorf("%d lines", n)
	}
}

// spanBook keeps spans.
type spanBook struct {
	mu    sync.Mutex
	spans []sdk.ReadOnlySpan
}

// ExportSpans keeps them.
func (b *spanBook) ExportSpans(_ context.Context, spans []sdk.ReadOnlySpan) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spans = append(b.spans, spans...)
	return nil
}

// Shutdown has nothing to do.
func (b *spanBook) Shutdown(context.Context) error { return nil }

// TestTraceOfARun: every state that one image went through is a span of one trace, each call a child of
// its step, and no attribute holds what came from the input.
func TestTraceOfARun(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	r := newRig(t, nil)
	b := &spanBook{}
	var err error
	if r.Tracer, err = trace.New(t.Context(), b, "test"); err != nil {
		t.Fatal(err)
	}
	inbox, stop := r.serving(twoStages(s.URL))
	drop(t, inbox, "DOE^JANE.png", noise(30, [32]byte{1}))
	r.until("done", func(x postgres.TaskRow) bool { return x.State == "done" })
	stop()
	r.Tracer.Close()
	steps := map[string]string{} // by span id
	got := map[string]int{}
	var id string
	for _, x := range b.spans {
		if strings.HasPrefix(x.Name(), "step ") {
			steps[x.SpanContext().SpanID().String()] = x.Name()
			if id != "" && id != x.SpanContext().TraceID().String() {
				t.Errorf("%s is of another trace", x.Name())
			}
			id = x.SpanContext().TraceID().String()
		}
	}
	for _, x := range b.spans {
		got[strings.TrimSpace(x.Name()+" "+steps[x.Parent().SpanID().String()])]++
		for _, kv := range x.Attributes() {
			if v := kv.Value.String(); strings.Contains(v, "DOE") || strings.Contains(v, inbox) || strings.Contains(v, s.URL) {
				t.Errorf("%s holds %s", x.Name(), kv.Key)
			}
		}
	}
	want := map[string]int{"call source": 1, "step queued": 1, "step extracting": 1, "step ingesting": 1, "step inferring": 2, "step responding": 1,
		"call processor step inferring": 2, "call sink step responding": 2}
	for k, n := range want {
		if got[k] != n && (k != "call sink step responding" || got[k] < n) {
			t.Errorf("%d of %q, want %d: %v", got[k], k, n, got)
		}
	}
}
