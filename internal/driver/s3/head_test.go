package s3

import (
	"io"
	"net/http"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// The answer to a HEAD has no body that says that the credentials ran out: another try may go differently. Where
// there is a body that says otherwise, as after a PUT, none does.
func TestRefusedHead(t *testing.T) {
	t.Parallel()
	for refused, kind := range map[string]gantry.Kind{http.MethodHead: gantry.Transient, http.MethodPut: gantry.Permanent} {
		e := signed{&faults{before: func(r *http.Request) *http.Response {
			resp := refusal(r, http.StatusBadRequest, "InvalidRequest")
			if r.Method == http.MethodHead {
				resp.Body = io.NopCloser(http.NoBody) // there is none, but what counts it is around it
			}
			if r.Method != refused {
				resp.StatusCode = http.StatusNotFound
			}
			return resp
		}}}
		snk, err := NewSink(t.Context(), SinkConfig{Bucket: "somewhere", Endpoint: "http://s3.test", PathStyle: true}, e)
		if err != nil {
			t.Fatal(err)
		}
		wantError(t, snk.Deliver(t.Context(), delivery("t/a", []byte("x"))), kind, CodeRefused)
	}
}
