package gate

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// answers gives a server that answers with the status that the path names.
func answers(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/503":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/404":
			w.WriteHeader(http.StatusNotFound)
		case "/cut":
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "short")
			return
		}
		w.Write(append([]byte("got "), body...))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// ask sends one request and reads the answer.
func ask(ctx context.Context, t *testing.T, e *Egress, to, body string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := e.Transport().RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	_, err = io.ReadAll(resp.Body)
	return resp, err
}

func TestSeveralRequests(t *testing.T) {
	t.Parallel()
	url := answers(t)
	e := egressTo(t, url, Policy{})
	m := NewMeter(time.Now)
	m.Several()
	released := 0
	m.OnLastByte = func() { released++ }
	ctx := WithMeter(t.Context(), m)
	for i, path := range []string{"/a", "/503", "/b"} {
		resp, err := ask(ctx, t, e, url+path, "12345")
		if err != nil {
			t.Fatal(err)
		}
		if _, _, known := gantry.DigestOf(resp.Body); known != (i == 0) {
			t.Errorf("answer %d: its digest is known: %v", i, known)
		}
	}
	if released != 0 {
		t.Error("the unit went back while more requests could follow")
	}
	m.Close()
	out := m.Snapshot()
	if released != 1 || out.Status != 200 || out.ReqSize != 15 || out.RespSize != 27 || out.Took <= 0 {
		t.Errorf("released %d times, %+v", released, out)
	}
}

// One call's requests follow one another; two at once would mix their numbers.
func TestSeveralIsNotAtOnce(t *testing.T) {
	t.Parallel()
	url := answers(t)
	e := egressTo(t, url, Policy{})
	m := NewMeter(time.Now)
	m.Several()
	ctx, cancel := context.WithCancel(WithMeter(t.Context(), m))
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, url+"/a", nil)
	open, err := e.Transport().RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ask(ctx, t, e, url+"/b", ""); gantry.CodeOf(err) != CodeSecondSend {
		t.Errorf("a request beside an open answer gave %v", err)
	}
	io.Copy(io.Discard, open.Body)
	if _, err := ask(ctx, t, e, url+"/b", ""); err != nil {
		t.Errorf("the next request: %v", err)
	}
	open.Body.Close() // late: it must not end what runs by then
	m.Close()
}

func TestControl(t *testing.T) {
	t.Parallel()
	url := answers(t)
	e := egressTo(t, url, Policy{})
	c := NewControl(gantry.NewIDs(time.Now, neverEnding{}), time.Now)
	key := gantry.ControlKey{Boundary: gantry.AtSource, Limiter: 7, Pipeline: 3, Index: 1}
	ctx := c.WithControl(t.Context(), key)
	for _, path := range []string{"/a", "/b", "/503", "/404", "/cut"} {
		ask(ctx, t, e, url+path, "12")
	}
	call := NewMeter(time.Now)
	ask(WithMeter(ctx, call), t, e, url+"/a", "1")
	call.Close()
	gone, cancel := context.WithCancel(ctx)
	cancel()
	ask(gone, t, e, url+"/a", "")

	var rows []gantry.Control
	c.flush(t.Context(), func(context.Context, []gantry.Control) error { return errors.New("no database") })
	c.flush(t.Context(), func(_ context.Context, r []gantry.Control) error { rows = r; return nil })
	if len(rows) != 4 {
		t.Fatalf("%d rows: %+v", len(rows), rows)
	}
	want := []struct {
		status   int32
		kind     gantry.Kind
		code     gantry.Code
		requests int32
	}{{503, gantry.Unavailable, "refused", 1}, {404, gantry.NotFound, "refused", 1}, {200, gantry.Transient, CodeShortBody, 1}, {0, 0, "", 2}}
	for i, w := range want {
		r := rows[i]
		if r.Status != w.status || r.Kind != w.kind || r.Code != w.code || r.Requests < w.requests || r.ControlKey != key || r.ID == (gantry.UUID{}) {
			t.Errorf("row %d: %+v, want %+v", i, r, w)
		}
	}
	if sum := rows[3]; sum.Failures != 0 || sum.ReqSize != 4 || sum.RespSize != 12 || sum.To.Before(sum.From) {
		t.Errorf("the sum: %+v", sum)
	}
	c.flush(t.Context(), func(context.Context, []gantry.Control) error { t.Error("wrote again"); return nil })
}

// What a driver asks a further target of its own is counted under that one's limit.
func TestControlOfAnotherTarget(t *testing.T) {
	t.Parallel()
	url := answers(t)
	e := egressTo(t, url, Policy{})
	c := NewControl(gantry.NewIDs(time.Now, neverEnding{}), time.Now)
	key := gantry.ControlKey{Boundary: gantry.AtSource, Limiter: 7, Pipeline: 3, Index: 1}
	ctx := c.WithControl(t.Context(), key)
	ask(ctx, t, e, url+"/a", "")
	ask(WithControlOf(ctx, 9), t, e, url+"/a", "")
	if _, err := ask(WithControlOf(t.Context(), 9), t, e, url+"/a", ""); gantry.CodeOf(err) != CodeNoRecord {
		t.Errorf("without a record: %v", err)
	}
	seen := map[gantry.ControlKey]int32{}
	c.flush(t.Context(), func(_ context.Context, rows []gantry.Control) error {
		for _, r := range rows {
			seen[r.ControlKey] += r.Requests
		}
		return nil
	})
	other := key
	other.Limiter = 9
	if len(seen) != 2 || seen[key] != 1 || seen[other] != 1 {
		t.Errorf("%v", seen)
	}
}

// A failure that never ends does not fill the memory while the database is away.
func TestControlIsBounded(t *testing.T) {
	t.Parallel()
	c := NewControl(gantry.NewIDs(time.Now, neverEnding{}), time.Now)
	for range maxFailures + 500 {
		m := NewMeter(time.Now)
		m.SetStatus(500)
		m.Began()
		m.Close()
		c.add(t.Context(), gantry.ControlKey{}, m)
	}
	var rows []gantry.Control
	c.flush(t.Context(), func(_ context.Context, r []gantry.Control) error { rows = r; return nil })
	if last := rows[len(rows)-1]; len(rows) != maxFailures+1 || last.Failures != 500 || c.failed != 0 {
		t.Errorf("%d rows, the last %+v, %d still counted", len(rows), last, c.failed)
	}
}

func TestControlWritesEachMinuteAndAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewControl(gantry.NewIDs(time.Now, neverEnding{}), time.Now)
		count := func() {
			m := NewMeter(time.Now)
			m.Began()
			m.Close()
			c.add(t.Context(), gantry.ControlKey{}, m)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wrote []int32
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.Run(ctx, func(ctx context.Context, rows []gantry.Control) error {
				wrote = append(wrote, rows[0].Requests)
				return ctx.Err()
			})
		}()
		count()
		count()
		time.Sleep(controlEvery + time.Second)
		count()
		cancel()
		<-done
		if len(wrote) != 2 || wrote[0] != 2 || wrote[1] != 1 {
			t.Errorf("wrote %v", wrote)
		}
	})
}

// neverEnding is a reader of sevens.
type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 7
	}
	return len(p), nil
}

// A call that is over is on record with its sums; what a driver sends after it, in a context that it kept,
// would be on no record.
func TestNothingLeavesAfterTheCall(t *testing.T) {
	t.Parallel()
	url := answers(t)
	e := egressTo(t, url, Policy{})
	for _, several := range []bool{false, true} {
		m := NewMeter(time.Now)
		if several {
			m.Several()
			if _, err := ask(WithMeter(t.Context(), m), t, e, url+"/a", "1"); err != nil {
				t.Fatal(err)
			}
		}
		m.Close()
		if _, err := ask(WithMeter(t.Context(), m), t, e, url+"/b", "2"); gantry.CodeOf(err) != CodeSecondSend {
			t.Errorf("several %t: %v", several, err)
		}
	}
}
