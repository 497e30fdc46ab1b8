package http

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// openProcessor makes a processor that posts to a handler.
func openProcessor(t *testing.T, c ProcessorConfig, h http.HandlerFunc) *processor {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	c.URL = server.URL + c.URL
	return openAt(t, c)
}

func openAt(t *testing.T, c ProcessorConfig) *processor {
	t.Helper()
	p, err := NewProcessor(t.Context(), c, drivertest.Egress(t))
	if err != nil {
		t.Fatal(err)
	}
	return p.(*processor)
}

// serve is the fake service behind a model.
func serve(m *drivertest.Model) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // not a whole request
		}
		a := m.Ask(drivertest.Posted{Key: r.Header.Get("Idempotency-Key"), Items: []drivertest.Medium{{Media: r.Header.Get("Content-Type"), Body: body}}})
		status := map[drivertest.Fault]int{
			drivertest.Busy: 503, drivertest.Broken: 500, drivertest.Refusing: 422, drivertest.Denying: 401, drivertest.Missing: 404,
		}[a.Fault]
		switch a.Fault {
		case drivertest.Silent:
			<-r.Context().Done()
			return
		case drivertest.Resetting:
			panic(http.ErrAbortHandler)
		case drivertest.Babbling:
			a.Media = "text/html; charset=utf-8"
		case drivertest.Busy:
			if a.RetryAfter > 0 {
				w.Header().Set("Retry-After", strconv.Itoa(int(a.RetryAfter/time.Second)))
			}
		case drivertest.Cutting:
			w.Header().Set("Content-Length", strconv.Itoa(len(a.Body)+1))
		}
		if a.Media != "" {
			w.Header().Set("Content-Type", a.Media)
		}
		if status != 0 {
			w.WriteHeader(status)
		}
		w.Write(a.Body)
		if a.Fault == drivertest.Cutting {
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
	}
}

func TestProcessor(t *testing.T) {
	t.Parallel()
	drivertest.Processor(t, func(t *testing.T, m *drivertest.Model) gantry.Processor {
		return openProcessor(t, ProcessorConfig{}, serve(m))
	})
}

// output is what was received.
type output struct {
	Media string
	Size  int64
	Body  string
}

// request makes a request of items that hold bodies. Its outputs are appended to out.
func request(out *[]output, bodies ...string) *gantry.Request {
	req := &gantry.Request{
		Key: "key",
		Open: func(_ context.Context, i int) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader([]byte(bodies[i]))), nil
		},
		Receive: func(_ context.Context, media string, size int64, body io.Reader) error {
			b, err := io.ReadAll(body)
			if err == nil {
				*out = append(*out, output{media, size, string(b)})
			}
			return err
		},
	}
	for _, b := range bodies {
		req.Items = append(req.Items, gantry.Item{Media: gantry.MediaDICOM, Size: int64(len(b))})
	}
	return req
}
