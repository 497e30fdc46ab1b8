package metrics_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/metrics"
)

func scrape(t *testing.T, m *metrics.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func mustHold(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if !strings.Contains(text, l+"\n") {
			t.Errorf("no line %q in\n%s", l, text)
		}
	}
}

// TestObservations notes calls, tasks, commits and blobs. What never left has no latency.
func TestObservations(t *testing.T) {
	m := metrics.New("v1", "abc")
	e := metrics.Endpoint{Pipeline: "p", Name: "qa"}
	m.Call(gantry.AtProcessor, e, gantry.Outcome{Took: 30 * time.Millisecond, Sent: 2 * time.Millisecond, ReqSize: 10, RespSize: 20})
	m.Call(gantry.AtProcessor, e, gantry.Outcome{Result: gantry.ResultFailed, Kind: gantry.Timeout, Took: time.Second})
	m.Call(gantry.AtSink, metrics.Endpoint{}, gantry.Outcome{Result: gantry.ResultNotSent})
	m.Ended("p", gantry.Done)
	m.Commit(3, time.Millisecond)
	m.Blob(1000)
	m.Callback(gantry.CallbackForged)
	m.Arrived("incoming", gantry.Unmatched)
	m.Asked("p", "counted")
	m.Closed("p", gantry.ClosedByExpected)
	text := scrape(t, m)
	mustHold(t, text,
		`gantry_calls_total{boundary="processor",endpoint="qa",kind="",outcome="ok",pipeline="p"} 1`,
		`gantry_calls_total{boundary="processor",endpoint="qa",kind="timeout",outcome="failed",pipeline="p"} 1`,
		`gantry_calls_total{boundary="sink",endpoint="",kind="transient",outcome="not_sent",pipeline=""} 1`,
		`gantry_call_seconds_bucket{boundary="processor",endpoint="qa",pipeline="p",le="0.05"} 1`,
		`gantry_call_seconds_count{boundary="processor",endpoint="qa",pipeline="p"} 2`,
		`gantry_call_wait_seconds_count{boundary="processor",endpoint="qa",pipeline="p"} 2`,
		`gantry_call_bytes_total{boundary="processor",direction="received",endpoint="qa",pipeline="p"} 20`,
		`gantry_tasks_ended_total{pipeline="p",state="done"} 1`,
		`gantry_commit_rows_sum 3`, `gantry_commit_seconds_count 1`, `gantry_blob_bytes_total 1000`,
		`gantry_archive_questions_total{outcome="counted",pipeline="p"} 1`, `gantry_collections_closed_total{pipeline="p",reason="expected"} 1`,
		`gantry_callbacks_total{verdict="forged"} 1`, `gantry_source_arrivals_total{source="incoming",status="unmatched"} 1`)
	if !strings.Contains(text, `revision="abc",version="v1"} 1`) || strings.Contains(text, `gantry_call_seconds_count{boundary="sink"`) {
		t.Errorf("build info or what was not sent is wrong:\n%s", text)
	}
}

// TestNil: a process without metrics notes nothing.
func TestNil(t *testing.T) {
	var m *metrics.Metrics
	m.Call(gantry.AtSource, metrics.Endpoint{}, gantry.Outcome{})
	m.Ended("p", gantry.Done)
	m.Commit(1, 1)
	m.Blob(1)
	m.Callback(gantry.CallbackLate)
	m.Arrived("incoming", gantry.Accepted)
	m.Take(metrics.Census{})
}

// TestCensus asks for the tasks at most every ten seconds, and shows none when they cannot be counted.
func TestCensus(t *testing.T) {
	now, asked := time.Unix(1000, 0), 0
	var fail error
	m := metrics.New("v1", "")
	m.Take(metrics.Census{
		Tasks: func(context.Context) ([]metrics.TaskCount, error) {
			asked++
			return []metrics.TaskCount{{"p", "queued", "ready", int64(asked)}}, fail
		},
		Out:     func(context.Context) ([]metrics.PartCount, error) { return []metrics.PartCount{{"http://h:1", 7}}, nil },
		Waiting: func() (int, int) { return 4, 5 },
		Free:    func() (int64, error) { return 6, nil },
		Now:     func() time.Time { return now },
	})
	text := scrape(t, m)
	mustHold(t, text, `gantry_tasks{phase="ready",pipeline="p",state="queued"} 1`, `gantry_parts_out{target="http://h:1"} 7`, `gantry_calls_waiting{for="unit"} 4`, `gantry_calls_waiting{for="start"} 5`, `gantry_blob_free_bytes 6`)
	now = now.Add(9 * time.Second)
	mustHold(t, scrape(t, m), `gantry_tasks{phase="ready",pipeline="p",state="queued"} 1`)
	now = now.Add(time.Second)
	mustHold(t, scrape(t, m), `gantry_tasks{phase="ready",pipeline="p",state="queued"} 2`, `gantry_census_errors_total 0`)
	now, fail = now.Add(time.Minute), errors.New("away")
	text = scrape(t, m)
	mustHold(t, text, `gantry_census_errors_total 1`)
	if strings.Contains(text, "gantry_tasks{") {
		t.Errorf("stale tasks:\n%s", text)
	}
}
