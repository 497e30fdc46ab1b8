package http

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// secret stands for what no error may quote of an answer.
const secret = "DOE^JANE"

func TestStatuses(t *testing.T) {
	t.Parallel()
	statuses := map[gantry.Kind][]int{
		gantry.Timeout:     {408},
		gantry.Unavailable: {425, 429, 503},
		gantry.Denied:      {401, 403},
		gantry.NotFound:    {404, 405, 410},
		gantry.BadResponse: {202, 206, 300, 301, 302, 303, 304, 307, 308, 399, 600, 999},
		gantry.Permanent:   {400, 402, 406, 407, 409, 411, 412, 413, 414, 415, 417, 421, 422, 423, 426, 428, 431, 451, 499},
		gantry.Transient:   {500, 501, 502, 504, 505, 507, 508, 511, 599},
	}
	for kind, list := range statuses {
		for _, status := range list {
			p := openProcessor(t, ProcessorConfig{}, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Location", "/elsewhere/"+secret)
				w.Header().Set("Content-Type", "image/png")
				w.WriteHeader(status)
				io.WriteString(w, secret)
			})
			var out []output
			err := p.Process(t.Context(), request(&out, "x"))
			code := gantry.Code(fmt.Sprintf("http_%d", status))
			if status >= 300 && status < 400 {
				code = "redirect"
			}
			if err == nil || gantry.KindOf(err) != kind || gantry.CodeOf(err) != code {
				t.Errorf("%d: %v (%s, %s), want %s, %s", status, err, gantry.KindOf(err), gantry.CodeOf(err), kind, code)
			}
			if err != nil && strings.Contains(err.Error(), secret) || len(out) != 0 {
				t.Errorf("%d: error %q, outputs %v", status, err, out)
			}
		}
	}
}

func TestSuccesses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status      int
		media, body string
		flush       bool // before the body, so that its length is not known
		want        []output
	}{
		{200, "image/png", "PNG", false, []output{{"image/png", 3, "PNG"}}},
		{201, "image/jpeg", "JPEG", false, []output{{"image/jpeg", 4, "JPEG"}}},
		{203, "application/dicom", "DICM", true, []output{{"application/dicom", -1, "DICM"}}},
		{200, "Application/DICOM; transfer-syntax=1.2.840.10008.1.2.1", "DICM", false, []output{{"application/dicom", 4, "DICM"}}},
		{200, "application/json; charset=utf-8", `{"a":1}`, false, []output{{"application/json", 7, `{"a":1}`}}},
		{200, "application/json; =", ` [] `, true, []output{{"application/json", -1, ` [] `}}},
		{204, "", "", false, nil},
		{200, "", "", false, nil},
		{200, "text/html", "", true, nil},
		{200, "application/json", "", true, nil},
	} {
		p := openProcessor(t, ProcessorConfig{}, func(w http.ResponseWriter, r *http.Request) {
			if c.media != "" {
				w.Header().Set("Content-Type", c.media)
			}
			w.WriteHeader(c.status)
			if c.flush {
				w.(http.Flusher).Flush()
			}
			io.WriteString(w, c.body)
		})
		var out []output
		if err := p.Process(t.Context(), request(&out, "x")); err != nil {
			t.Errorf("%d %s: %v", c.status, c.media, err)
		}
		if diff := cmp.Diff(c.want, out); diff != "" {
			t.Errorf("%d %s (-want +got):\n%s", c.status, c.media, diff)
		}
	}
}

func TestAnswersThatAreNotTaken(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		header http.Header
		body   string
		code   gantry.Code
		text   string // that the error says
	}{
		"a page":            {http.Header{"Content-Type": {"text/html; charset=utf-8"}}, "<html>", CodeMediaType, "text/html"},
		"bytes":             {http.Header{"Content-Type": {"application/octet-stream"}}, "x", CodeMediaType, "application/octet-stream"},
		"an archive":        {http.Header{"Content-Type": {"application/zip"}}, "PK", CodeMediaType, "application/zip"},
		"another type":      {http.Header{"Content-Type": {"x-secret/" + secret}}, "x", CodeMediaType, "another"},
		"no type":           {http.Header{"Content-Type": nil}, "x", CodeMediaType, "no media type"},
		"a type like ours":  {http.Header{"Content-Type": {"image/png2"}}, "x", CodeMediaType, "another"},
		"garbage as type":   {http.Header{"Content-Type": {"/;;==" + secret}}, "x", CodeMediaType, "another"},
		"JSON of a kind":    {http.Header{"Content-Type": {"application/problem+json"}}, "{}", CodeMediaType, "another"},
		"compressed":        {http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}}, "{}", CodeEncoded, "encoded"},
		"no JSON":           {http.Header{"Content-Type": {"application/json"}}, secret, CodeBadJSON, "no JSON"},
		"NaN":               {http.Header{"Content-Type": {"application/json"}}, `{"score": NaN}`, CodeBadJSON, "no JSON"},
		"half a JSON":       {http.Header{"Content-Type": {"application/json"}}, `{"name": "` + secret, CodeBadJSON, "no JSON"},
		"two JSONs":         {http.Header{"Content-Type": {"application/json"}}, `{}{}`, CodeBadJSON, "no JSON"},
		"blanks for a JSON": {http.Header{"Content-Type": {"application/json"}}, "  \n", CodeBadJSON, "no JSON"},
		"a deep JSON":       {http.Header{"Content-Type": {"application/json"}}, strings.Repeat("[", 100_000), CodeJSONTooDeep, "512"},
	} {
		p := openProcessor(t, ProcessorConfig{}, func(w http.ResponseWriter, r *http.Request) {
			for k, v := range c.header {
				w.Header()[k] = v
			}
			io.WriteString(w, c.body)
		})
		var out []output
		err := p.Process(t.Context(), request(&out, "x"))
		if gantry.KindOf(err) != gantry.BadResponse || gantry.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v (%s, %s)", what, err, gantry.KindOf(err), gantry.CodeOf(err))
		}
		if err != nil && strings.Contains(err.Error(), secret) || len(out) != 0 {
			t.Errorf("%s: error %q, outputs %v", what, err, out)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 10, 21, 7, 28, 0, 0, time.UTC)
	for s, want := range map[string]time.Duration{
		"":                                  0,
		"0":                                 0,
		"7":                                 7 * time.Second,
		" 7 ":                               7 * time.Second,
		"600":                               10 * time.Minute,
		"601":                               10 * time.Minute,
		"99999999999999999999999":           10 * time.Minute,
		"-5":                                0,
		"+5":                                0,
		"1.5":                               0,
		"0x10":                              0,
		"1e3":                               0,
		"soon":                              0,
		"NaN":                               0,
		"Wed, 21 Oct 2026 07:28:30 GMT":     30 * time.Second,
		"Wednesday, 21-Oct-26 07:29:00 GMT": time.Minute,      // RFC 850
		"Wed Oct 21 07:28:10 2026":          10 * time.Second, // asctime
		"Wed, 21 Oct 2026 07:27:59 GMT":     0,
		"Wed, 21 Oct 2099 07:28:00 GMT":     10 * time.Minute,
		"Wed, 41 Oct 2026 07:28:00 GMT":     0,
	} {
		if got := retryAfter(s, now); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
}

func TestRetryAfterOnlyWhereItMeansNotNow(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]time.Duration{425: time.Minute, 429: time.Minute, 503: time.Minute, 500: 0, 413: 0, 301: 0, 202: 0} {
		p := openProcessor(t, ProcessorConfig{}, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "Wed, 21 Oct 2026 07:28:00 GMT")
			w.WriteHeader(status)
		})
		p.now = func() time.Time { return time.Date(2026, 10, 21, 7, 27, 0, 0, time.UTC) }
		if got := gantry.RetryAfterOf(p.Process(t.Context(), request(nil, "x"))); got != want {
			t.Errorf("%d: RetryAfter %s, want %s", status, got, want)
		}
	}
}

// Whatever Receive makes of it, an answer that broke off or was not read is no success.
func TestAnswerThatIsNotReadToItsEnd(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		media, body string
		length      int // that is announced
		read        int64
		kind        gantry.Kind
	}{
		{"image/png", "PNG", 4, 100, gantry.Transient},
		{"image/png", strings.Repeat("PNG", 100_000), 300_000, 100, gantry.Transient},
		{"application/json", `{"a":1}`, 8, 100, gantry.Transient},
		{"application/json", `{"a":1}`, 7, 3, gantry.Transient},
		{"application/json", `{"a":1,`, 7, 100, gantry.BadResponse},
	} {
		p := openProcessor(t, ProcessorConfig{}, func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", c.media)
			w.Header().Set("Content-Length", fmt.Sprint(c.length))
			io.WriteString(w, c.body)
		})
		req := request(nil, "x")
		req.Receive = func(_ context.Context, _ string, _ int64, body io.Reader) error {
			io.CopyN(io.Discard, body, c.read)
			return nil
		}
		if err := p.Process(t.Context(), req); err == nil || gantry.KindOf(err) != c.kind {
			t.Errorf("%d of %d bytes of %s: %v, want %s", c.read, c.length, c.media, err, c.kind)
		}
	}
}

// A service that calls it a success before it has the input cannot have looked at it.
func TestAnswerBeforeTheInput(t *testing.T) {
	t.Parallel()
	for _, status := range []int{200, 204, 413} {
		gate := make(chan struct{})
		p := openAt(t, ProcessorConfig{URL: "http://model.test"})
		p.rt = roundTrip(func(r *http.Request) (*http.Response, error) { // as net/http does it: the body is read beside
			go func() {
				defer r.Body.Close()
				<-gate
				io.Copy(io.Discard, r.Body)
			}()
			rec := httptest.NewRecorder()
			rec.Header().Set("Content-Type", "image/png")
			rec.WriteHeader(status)
			if status == 200 {
				io.WriteString(rec, "PNG")
			}
			return rec.Result(), nil
		})
		var out []output
		err := p.Process(t.Context(), request(&out, strings.Repeat("x", 1<<20)))
		close(gate)
		want, code := gantry.BadResponse, CodeAnsweredEarly
		if status == 413 {
			want, code = gantry.Permanent, "http_413"
		}
		if gantry.KindOf(err) != want || gantry.CodeOf(err) != code || len(out) != 0 {
			t.Errorf("%d: %v (%s), outputs %v", status, err, gantry.CodeOf(err), out)
		}
	}
}

// The rest of a refusal is read, up to a limit, so that the connection serves again.
func TestRefusalKeepsTheConnection(t *testing.T) {
	t.Parallel()
	for size, want := range map[int]int{0: 1, drainLimit - 1: 1, 8 << 20: 4} {
		peers := map[string]bool{}
		p := openProcessor(t, ProcessorConfig{}, func(w http.ResponseWriter, r *http.Request) {
			peers[r.RemoteAddr] = true
			w.WriteHeader(http.StatusInternalServerError)
			w.Write(make([]byte, size))
		})
		for range 4 {
			if err := p.Process(t.Context(), request(nil, "x")); gantry.CodeOf(err) != "http_500" {
				t.Fatal(err)
			}
		}
		if len(peers) != want {
			t.Errorf("a body of %d bytes: %d connections for 4 calls, want %d", size, len(peers), want)
		}
	}
}
