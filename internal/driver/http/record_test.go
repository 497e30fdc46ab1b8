package http

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/gate"
)

// ledger is a session of a process that lacks nothing. It keeps the outcomes.
type ledger struct{ outcomes []gantry.Outcome }

func (l *ledger) Commit(_ context.Context, w *gantry.Write) error {
	if w.Outcome != nil {
		l.outcomes = append(l.outcomes, *w.Outcome)
	}
	return nil
}

func (*ledger) Acquire(context.Context, int32, int16) (func(), error) { return func() {}, nil }
func (*ledger) Alive() bool                                           { return true }
func (*ledger) Saw(int32, gantry.Showing)                             {}
func (*ledger) Hold(context.Context, int32, int16, time.Duration) (func(bool), error) {
	return func(bool) {}, nil
}

// recorded is a processor whose only way out is the gate's.
type recorded struct {
	*processor
	ledger  ledger
	gate    *gate.Gate
	control *gate.Control
	came    atomic.Int32
}

func openRecorded(t *testing.T, c ProcessorConfig, h http.HandlerFunc) *recorded {
	t.Helper()
	r := &recorded{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { r.came.Add(1); h(w, req) }))
	t.Cleanup(server.Close)
	c.URL = server.URL + c.URL
	way := gate.NewEgress(c.Target(), gate.Policy{})
	t.Cleanup(way.Close)
	p, err := NewProcessor(t.Context(), c, way)
	if err != nil {
		t.Fatal(err)
	}
	ids := gantry.NewIDs(time.Now, rand.Reader)
	r.processor, r.gate, r.control = p.(*processor), gate.New(&r.ledger, ids, time.Now), gate.NewControl(ids, time.Now)
	return r
}

// call makes a call of the record and gives its outcome.
func (r *recorded) call(ctx context.Context, op gantry.Op, f func(context.Context) error) (gantry.Outcome, error) {
	spec := gantry.CallSpec{Intent: gantry.Intent{Boundary: gantry.AtProcessor, Op: op}, Timeout: 10 * time.Second}
	err := r.gate.Call(ctx, spec, f, nil)
	return r.ledger.outcomes[len(r.ledger.outcomes)-1], err
}

// rows gives what was counted of control traffic.
func (r *recorded) rows(t *testing.T) []gantry.Control {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var all []gantry.Control
	r.control.Run(ctx, func(_ context.Context, rows []gantry.Control) error { all = append(all, rows...); return nil })
	return all
}

// Through the gate's door a submit is one request and one call, looks and deletions are control traffic, and
// fetching an answer is one call of as many requests as its service needs.
func TestDeferredOnRecord(t *testing.T) {
	t.Parallel()
	for what, result := range map[string]string{"itself": "", "pointed": "/url", "redirected": ""} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r := openRecorded(t, patient(func(a *AsyncConfig) { a.Result = result }), func(w http.ResponseWriter, req *http.Request) {
				switch {
				case req.Method == "POST":
					replies(202, "", "Location", "/j")(w, req)
				case req.Method == "DELETE":
					replies(204, "")(w, req)
				case req.URL.Path == "/r" || what == "itself":
					replies(200, "PNG", "Content-Type", "image/png")(w, req)
				case what == "pointed":
					replies(200, `{"url":"/r"}`, "Content-Type", "application/json")(w, req)
				default:
					replies(303, "", "Location", "/r")(w, req)
				}
			})
			key := gantry.ControlKey{Boundary: gantry.AtProcessor, Limiter: 7}
			watched := r.control.WithControl(t.Context(), key)
			var ticket gantry.Ticket
			o, err := r.call(watched, gantry.OpSubmit, func(ctx context.Context) (err error) {
				ticket, err = r.Submit(ctx, request(nil, "x"), "")
				return err
			})
			if err != nil || ticket.ID != "/j" || o.Status != 202 || o.Result != gantry.ResultOK || o.ReqSize != 1 || r.came.Load() != 1 {
				t.Fatalf("submit: %+v, %v, %+v", ticket, err, o)
			}
			if _, err := r.Poll(t.Context(), ticket); gantry.CodeOf(err) != gate.CodeNoRecord {
				t.Errorf("a look that is on no record: %v", err)
			}
			if x, err := r.Poll(watched, ticket); err != nil || !x.Ready {
				t.Fatalf("poll: %+v, %v", x, err)
			}
			if err := r.Abandon(watched, ticket); err != nil {
				t.Fatalf("abandon: %v", err)
			}
			if rows := r.rows(t); len(rows) != 1 || rows[0].ControlKey != key || rows[0].Requests != 2 || rows[0].Failures != 0 {
				t.Errorf("rows %+v", rows)
			}
			var out []output
			collect := func(ctx context.Context) error { return r.Collect(ctx, ticket, request(&out)) }
			if o, err := r.call(watched, gantry.OpCollect, collect); err != nil || len(out) != 1 || o.Result != gantry.ResultOK || o.Status != 200 {
				t.Errorf("collect: %v, %+v, %v", err, o, out)
			}
			if what == "itself" {
				return
			}
			// The control: a call of another kind is one request.
			if _, err := r.call(watched, gantry.OpProcess, collect); gantry.CodeOf(err) != gate.CodeSecondSend || len(out) != 1 {
				t.Errorf("two requests of one call: %v", err)
			}
		})
	}
}

// A redirect is handed on to nobody who did not ask for it, and no other redirect to anybody.
func TestElsewhereThroughTheDoor(t *testing.T) {
	t.Parallel()
	for status, ok := range map[int]bool{300: false, 301: false, 302: true, 303: true, 307: false, 308: false} {
		r := openRecorded(t, ProcessorConfig{}, replies(status, "", "Location", "/r"))
		ctx := r.control.WithControl(t.Context(), gantry.ControlKey{})
		for method, handed := range map[string]bool{"GET": ok, "DELETE": false, "PUT": false} {
			for _, asked := range []bool{false, true} {
				if asked {
					ctx = gantry.AllowElsewhere(ctx)
				}
				resp, err := r.ask(ctx, method, r.url, "")
				if resp != nil {
					resp.Body.Close()
				}
				if want := handed && asked; want != (err == nil) || err != nil && gantry.CodeOf(err) != gate.CodeRedirect {
					t.Errorf("%s, %d, asked for %t: %v", method, status, asked, err)
				}
				ctx = r.control.WithControl(t.Context(), gantry.ControlKey{})
			}
		}
	}
}
