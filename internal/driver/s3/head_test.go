package s3

import (
	"io"
	"net/http"
	"testing"
	"time"

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

// Neither does it say that a clock is wrong, but it has the time. What is to become of an object is tried again then, and not never.
func TestSkewedHead(t *testing.T) {
	t.Parallel()
	for by, c := range map[time.Duration]struct {
		kind gantry.Kind
		code gantry.Code
	}{
		-time.Hour: {gantry.Unavailable, CodeClockSkew}, time.Hour: {gantry.Unavailable, CodeClockSkew},
		-10 * time.Minute: {gantry.Denied, CodeAccessDenied}, 0: {gantry.Denied, CodeAccessDenied},
	} {
		e := signed{&faults{before: func(r *http.Request) *http.Response {
			resp := refusal(r, http.StatusForbidden, "RequestTimeTooSkewed")
			resp.Body, resp.ContentLength = http.NoBody, 0
			if by != 0 { // else it has no time
				resp.Header.Set("Date", time.Now().Add(by).UTC().Format(http.TimeFormat))
			}
			return resp
		}}}
		s, err := NewSource(t.Context(), SourceConfig{Bucket: "somewhere", Endpoint: "http://s3.test", PathStyle: true, After: "delete"}, e)
		if err != nil {
			t.Fatal(err)
		}
		src := s.(*source)
		wantError(t, src.Tidy(t.Context(), src.Mark(gantry.Object{Ref: "in/a", Version: "etag"}), gantry.Done, nothing), c.kind, c.code)
	}
}
