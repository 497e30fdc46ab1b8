package trace_test

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/trace"
)

// receiver is an OTLP collector over HTTP that keeps what it was sent.
type receiver struct {
	*httptest.Server
	mu   sync.Mutex
	got  []*spans.Span
	raw  string
	fail bool
}

func receive(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		b, err := io.ReadAll(req.Body)
		var m collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(b, &m)
		}
		if err != nil || req.URL.Path != "/v1/traces" || r.fail {
			http.Error(w, "patient Doe", http.StatusBadRequest)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.raw += string(b)
		for _, x := range m.ResourceSpans {
			for _, s := range x.ScopeSpans {
				r.got = append(r.got, s.Spans...)
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(r.Close)
	return r
}

func lookup(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

// TestSpans sends a step with a call in it, and a call of no task, to a collector.
func TestSpans(t *testing.T) {
	r := receive(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", r.URL) // the exporter reads it itself
	tr, err := trace.FromEnv(t.Context(), lookup("OTEL_EXPORTER_OTLP_ENDPOINT", r.URL), "v9", slog.New(slog.DiscardHandler))
	if err != nil || tr == nil {
		t.Fatalf("%v, %v", tr, err)
	}
	task := gantry.Task{Lease: gantry.Lease{Task: 5}, PublicID: gantry.PublicID([]byte("k"), "x"), State: gantry.Inferring, Stage: 1}
	in := gantry.Intent{ID: gantry.NewIDs(time.Now, rand.Reader).New(), Boundary: gantry.AtProcessor, Op: gantry.OpProcess, Try: 2}
	for range 2 { // the second step might be another process's
		ctx, end := tr.Step(t.Context(), task, "p")
		tr.Call(ctx, in, "p", "qa", gantry.Outcome{Result: gantry.ResultFailed, Code: "http_500", Sent: time.Second, Took: 2 * time.Second})
		end(gantry.Transition{Lease: task.Lease, To: gantry.Failed, Code: "http_500"})
	}
	tr.Call(t.Context(), in, "", "", gantry.Outcome{})
	tr.Close()
	if len(r.got) != 5 {
		t.Fatalf("%d spans", len(r.got))
	}
	call, step, alone := r.got[0], r.got[1], r.got[4]
	if call.Name != "call processor" || step.Name != "step inferring" || string(call.ParentSpanId) != string(step.SpanId) || len(step.ParentSpanId) != 0 {
		t.Errorf("%v\n%v", call, step)
	}
	if string(r.got[3].TraceId) != string(step.TraceId) || string(alone.TraceId) == string(step.TraceId) || string(r.got[3].SpanId) == string(step.SpanId) {
		t.Error("the steps of a task are not of one trace, or all spans are")
	}
	if d := time.Duration(call.EndTimeUnixNano - call.StartTimeUnixNano); d != 3*time.Second || call.Status.Code != spans.Status_STATUS_CODE_ERROR || alone.Status.GetCode() == spans.Status_STATUS_CODE_ERROR {
		t.Errorf("the call took %s, status %v", d, call.Status)
	}
	for _, want := range []string{"gantry.endpoint", "http_500", task.PublicID, in.ID.String(), "service.name", "v9"} {
		if !strings.Contains(r.raw, want) {
			t.Errorf("nothing says %s", want)
		}
	}
}

// TestFromEnv is nobody's tracer unless it is asked for, and does nothing then.
func TestFromEnv(t *testing.T) {
	for _, env := range [][]string{{}, {"OTEL_TRACES_EXPORTER", "none", "OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"}, {"OTEL_EXPORTER_OTLP_ENDPOINT", ""},
		{"OTEL_SDK_DISABLED", "true", "OTEL_TRACES_EXPORTER", "otlp"}} {
		tr, err := trace.FromEnv(t.Context(), lookup(env...), "v", slog.New(slog.DiscardHandler))
		if tr != nil || err != nil {
			t.Errorf("%v: %v, %v", env, tr, err)
		}
		ctx, end := tr.Step(t.Context(), gantry.Task{}, "p")
		end(gantry.Transition{})
		tr.Call(ctx, gantry.Intent{}, "", "", gantry.Outcome{})
		tr.Close()
	}
	if _, err := trace.FromEnv(t.Context(), lookup("OTEL_TRACES_EXPORTER", "zipkin"), "v", nil); gantry.CodeOf(err) != "unknown_exporter" {
		t.Error(err)
	}
}

// TestCollectorRefuses logs that, in our words alone.
func TestCollectorRefuses(t *testing.T) {
	r := receive(t)
	r.fail = true
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", r.URL)
	var log strings.Builder
	tr, err := trace.FromEnv(context.Background(), lookup("OTEL_EXPORTER_OTLP_ENDPOINT", r.URL), "v", slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	_, end := tr.Step(t.Context(), gantry.Task{}, "p")
	end(gantry.Transition{})
	tr.Close()
	if !strings.Contains(log.String(), "send traces") || strings.Contains(log.String(), "Doe") {
		t.Errorf("logged %q", log.String())
	}
}
