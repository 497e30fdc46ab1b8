package app_test

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// try is what the record says of one call.
type try struct {
	Attempt, Status     int
	Outcome, Kind, Code string
}

const endless = 10 << 30 // bytes of an answer that does not end

// faults are services that misbehave, and what comes of it.
var faults = []struct {
	name    string
	handle  func(w http.ResponseWriter, r *http.Request, body []byte, before int)
	timeout string
	tries   []try
	code    string // of the task; empty: it is done
	kind    gantry.Kind
	atLeast time.Duration
}{
	{name: "500 twice", handle: func(w http.ResponseWriter, _ *http.Request, body []byte, before int) {
		if before < 2 {
			w.WriteHeader(500)
			return
		}
		answerPNG(w, body)
	}, tries: []try{{1, 500, "failed", "transient", "http_500"}, {2, 500, "failed", "transient", "http_500"}, {3, 200, "ok", "", ""}}},
	{name: "429 with Retry-After", handle: func(w http.ResponseWriter, _ *http.Request, body []byte, before int) {
		if before == 0 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(429)
			return
		}
		answerPNG(w, body)
	}, tries: []try{{1, 429, "failed", "unavailable", "http_429"}, {2, 200, "ok", "", ""}}, atLeast: time.Second},
	{name: "hang", timeout: "300ms", handle: func(w http.ResponseWriter, r *http.Request, body []byte, before int) {
		if before == 0 {
			<-r.Context().Done()
			return
		}
		answerPNG(w, body)
	}, tries: []try{{1, 0, "failed", "timeout", "header_timeout"}, {2, 200, "ok", "", ""}}},
	{name: "hang within the answer", timeout: "300ms", handle: func(w http.ResponseWriter, r *http.Request, body []byte, before int) {
		if before == 0 {
			w.Header().Set("Content-Type", "image/png")
			w.Write(noise(160, [32]byte{})[:100])
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return
		}
		answerPNG(w, body)
	}, tries: []try{{1, 200, "failed", "timeout", "timeout"}, {2, 200, "ok", "", ""}}},
	{name: "reset", handle: func(w http.ResponseWriter, _ *http.Request, body []byte, before int) {
		if before == 0 {
			c, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				c.(*net.TCPConn).SetLinger(0)
				c.Close()
			}
			return
		}
		answerPNG(w, body)
	}, tries: []try{{1, 0, "failed", "transient", "connection_reset"}, {2, 200, "ok", "", ""}}},
	{name: "garbage for JSON", handle: func(w http.ResponseWriter, _ *http.Request, _ []byte, _ int) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"score": 0.5`)
	}, tries: []try{{1, 200, "failed", "bad_response", "bad_json"}, {2, 200, "failed", "bad_response", "bad_json"}}, code: "bad_json", kind: gantry.BadResponse},
	{name: "garbage for a picture", handle: func(w http.ResponseWriter, _ *http.Request, _ []byte, _ int) {
		w.Header().Set("Content-Type", "image/png")
		io.WriteString(w, "no picture at all")
	}, tries: []try{{1, 200, "failed", "bad_response", "unexpected_content"}, {2, 200, "failed", "bad_response", "unexpected_content"}}, code: "unexpected_content", kind: gantry.BadResponse},
	{name: "wrong content type", handle: func(w http.ResponseWriter, _ *http.Request, _ []byte, _ int) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "<html>welcome</html>")
	}, tries: []try{{1, 200, "failed", "bad_response", "unexpected_media_type"}, {2, 200, "failed", "bad_response", "unexpected_media_type"}}, code: "unexpected_media_type", kind: gantry.BadResponse},
	{name: "400", handle: func(w http.ResponseWriter, _ *http.Request, _ []byte, _ int) { w.WriteHeader(400) },
		tries: []try{{1, 400, "failed", "permanent", "http_400"}}, code: "http_400", kind: gantry.Permanent},
	{name: "401", handle: func(w http.ResponseWriter, _ *http.Request, _ []byte, _ int) { w.WriteHeader(401) },
		tries: []try{{1, 401, "failed", "denied", "http_401"}}, code: "http_401", kind: gantry.Denied},
	{name: "503 for ever", handle: func(w http.ResponseWriter, _ *http.Request, _ []byte, _ int) { w.WriteHeader(503) },
		tries: []try{{1, 503, "failed", "unavailable", "http_503"}, {2, 503, "failed", "unavailable", "http_503"}, {3, 503, "failed", "unavailable", "http_503"}},
		code:  "http_503", kind: gantry.Unavailable},
}

// TestFaultsOfServices runs one image against each service.
func TestFaultsOfServices(t *testing.T) {
	t.Parallel()
	for _, c := range faults {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, c.handle)
			r := newRig(t, nil)
			timeout := c.timeout
			if timeout == "" {
				timeout = "20s"
			}
			begun := time.Now()
			o := r.one(oneStage(s.URL, timeout), file(t, "x.png", noise(30, [32]byte{1})))
			if took := time.Since(begun); took < c.atLeast || took > within {
				t.Errorf("took %s", took)
			}
			var got []try
			for _, x := range r.calls(postgres.Filter{}) {
				got = append(got, try{x.Attempt, x.Status, x.Outcome, x.ErrorKind, x.ErrorCode})
			}
			if diff := cmp.Diff(c.tries, got); diff != "" {
				t.Errorf("recorded (-want +got):\n%s", diff)
			}
			all := s.all()
			for _, x := range all {
				if x.key == "" || x.key != all[0].key || x.sum != all[0].sum {
					t.Errorf("another try came with the key %q and another body or key than the first", x.key)
				}
			}
			if len(all) != len(c.tries) {
				t.Errorf("%d requests, want %d", len(all), len(c.tries))
			}
			if c.code == "" {
				mustBeDone(t, o)
				m, _ := manifestOf(t, r.out, o.ID)
				if len(m.Outputs) != 1 || m.Outputs[0].SHA256 != all[len(all)-1].answer {
					t.Errorf("outputs %+v", m.Outputs)
				}
				return
			}
			mustFail(t, o, c.code, c.kind)
			if files := delivered(t, filepath.Join(r.out, o.ID)); len(files) != 0 {
				t.Errorf("a task that failed delivered %v", files)
			}
		})
	}
}

func oneStage(url, timeout string) string {
	return head("one-stage") + `
stages: [{name: draw, call: draw}]
processors: {draw: {kind: http, url: "` + url + `/draw", timeout: ` + timeout + `}}
`
}

// TestAnswersWithoutEnd is held to a bound of bytes and of memory.
func TestAnswersWithoutEnd(t *testing.T) {
	forgetPeak(t)
	for name, c := range map[string]struct {
		media, length string
		code          string
		begin         []byte
	}{
		"JSON":         {media: "application/json", code: "json_too_large", begin: []byte(`["`)},
		"a picture":    {media: "image/png", code: "too_large", begin: endlessPNG()},
		"a known size": {media: "image/png", code: "too_large", length: strconv.Itoa(endless), begin: endlessPNG()},
	} {
		t.Run(name, func(t *testing.T) {
			sent := make(chan int64, 8)
			s := serve(t, func(w http.ResponseWriter, _ *http.Request, _ []byte, _ int) {
				w.Header().Set("Content-Type", c.media)
				if c.length != "" {
					w.Header().Set("Content-Length", c.length)
				}
				n, err := w.Write(c.begin)
				total, some := int64(n), []byte(strings.Repeat("a", 1<<20))
				for err == nil && total < endless {
					n, err = w.Write(some)
					total += int64(n)
				}
				sent <- total
			})
			r := newRig(t, nil)
			o := r.one(strings.Replace(oneStage(s.URL, "60s"), "attempts: 3", "attempts: 1", 1), file(t, "x.png", noise(30, [32]byte{1})))
			mustFail(t, o, c.code, gantry.BadResponse) // the input is not at fault
			n := len(s.all())
			for range n {
				if total := <-sent; total > 2<<30 {
					t.Errorf("%d bytes of it were read", total)
				}
			}
			if files := delivered(t, filepath.Join(r.out, o.ID)); len(files) != 0 {
				t.Errorf("delivered %v", files)
			}
			for _, f := range delivered(t, r.Home) {
				if strings.HasPrefix(filepath.Base(f), "tmp-") {
					t.Errorf("%s is left in the blob store", f)
				}
			}
			mustBeSmall(t)
		})
	}
}

// endlessPNG begins a picture of a size that needs many bytes, and one chunk of it.
func endlessPNG() []byte {
	b := []byte("\x89PNG\r\n\x1a\n")
	chunk := func(kind string, n uint32, data []byte) {
		b = binary.BigEndian.AppendUint32(b, n)
		at := len(b)
		b = append(append(b, kind...), data...)
		if int(n) == len(data) {
			b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[at:]))
		}
	}
	ihdr := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 30000), 30000)
	chunk("IHDR", 13, append(ihdr, 8, 0, 0, 0, 0))
	chunk("IDAT", 1<<31-1, nil)
	return b
}

// forgetPeak begins to measure the peak of this process's memory anew. A test that does so stands alone: it
// is not parallel.
func forgetPeak(t testing.TB) {
	t.Helper()
	if runtime.GOOS != "linux" {
		return
	}
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil { // proc(5): resets VmHWM
		t.Fatal(err)
	}
}

// mustBeSmall holds the peak of this process's memory to 512 MB, where the system tells it.
func mustBeSmall(t testing.TB) {
	t.Helper()
	if runtime.GOOS != "linux" {
		return
	}
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	kb, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	if kb > 512<<10 {
		t.Errorf("the process grew to %d MB", kb>>10)
	}
	t.Logf("peak memory %d MB", kb>>10)
}
