package http

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// asText writes a request as docs/http.md shows it.
func (s seen) asText() string {
	text := s.query + " HTTP/1.1\n"
	for _, name := range slices.Sorted(maps.Keys(s.header)) {
		text += fmt.Sprintf("%s: %s\n", name, strings.Join(s.header[name], ", "))
	}
	return text + "\n" + strings.TrimSuffix(strings.ReplaceAll(string(s.body), "\r\n", "\n"), "\n") + "\n"
}

// Every request that docs/http.md shows is what goes over the wire.
func TestRequestsOfTheDocumentation(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, c := range []ProcessorConfig{
		{URL: "/v1/score", Body: "multipart", Field: "image", Metadata: `{"threshold": 0.5}`},
		{URL: "/v1/score", Body: "json", Metadata: `{"threshold": 0.5}`, KeyHeader: "X-Request-Key"},
	} {
		var got seen
		req := request(nil, "DICM…", "PNG…")
		req.Items[1].Media = gantry.MediaPNG
		if err := openProcessor(t, c, capture(&got)).Process(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		want = append(want, got.asText())
	}
	var got seen
	later := patient(func(a *AsyncConfig) { a.Callback, a.Secret = "hmac", "${env:S}" })
	if _, err := openProcessor(t, later, capture(&got)).Submit(t.Context(), request(nil, "DICM…"), "https://gantry.local/callbacks/s7q2b4m6c3x5k1z9"); err != nil {
		t.Fatal(err)
	}
	want = append(want, got.asText())
	if err := openSink(t, SinkConfig{URL: "/results"}, capture(&got)).Deliver(t.Context(), delivery("k3m/outline/000001.png", "hello")); err != nil {
		t.Fatal(err)
	}
	want = append(want, got.asText())
	blocks := strings.Split(string(doc), "```http\n")[1:]
	if len(blocks) != len(want) {
		t.Fatalf("%d requests in the documentation, %d here", len(blocks), len(want))
	}
	for i, b := range blocks {
		if b, _, _ = strings.Cut(b, "```"); b != want[i] {
			t.Errorf("request %d is\n%s\nand not\n%s", i+1, want[i], b)
		}
	}
}

// Every code that docs/http.md lists as one of answers is one, and it knows them all.
func TestCodesOfTheDocumentation(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range []gantry.Code{
		CodeBadMultipart, CodeTooManyOutputs, CodeBadOutputs, CodeBadBase64, CodeChecksumMismatch, CodeMediaType, CodeEncoded, CodeBadJSON,
		CodeJSONTooDeep, CodeJSONTooLarge, CodeAnsweredEarly, CodeBadPath, CodeSizeMismatch, gantry.CodeConflict,
		gantry.CodeJobFailed, gantry.CodeJobLost, CodeNoTicket, CodeBadTicket, CodeUndeclared, CodeNoState, CodeNotReady,
	} {
		if !strings.Contains(string(doc), "`"+string(code)+"`") {
			t.Errorf("%s is not there", code)
		}
	}
}

// A path that climbs out, is absolute or is none is refused before a byte is read or sent.
func TestSinkOfBadPaths(t *testing.T) {
	t.Parallel()
	s := openSink(t, SinkConfig{}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request came") }))
	for _, path := range []string{"", ".", "..", "../x", "a/../../x", "a/..", "/x", "x/", "a//b", "./a", "a/.", "\xff"} {
		out := delivery(path, "x")
		out.Open = func(context.Context) (io.ReadCloser, error) { t.Errorf("%q was opened", path); return nil, io.EOF }
		if err := s.Deliver(t.Context(), out); gantry.KindOf(err) != gantry.Illegal || gantry.CodeOf(err) != CodeBadPath {
			t.Errorf("%q: %v", path, err)
		}
	}
	var got seen
	s = openSink(t, SinkConfig{URL: "/in"}, capture(&got))
	for path, line := range map[string]string{ // odd, and below the URL
		"a/..b": "PUT /in/a/..b", "a\\..\\b": "PUT /in/a%5C..%5Cb", "a\r\nX: y": "PUT /in/a%0D%0AX:%20y", "%2e%2e/x": "PUT /in/%252e%252e/x", "a?b#c;d": "PUT /in/a%3Fb%23c%3Bd",
	} {
		if err := s.Deliver(t.Context(), delivery(path, "x")); err != nil || got.query != line {
			t.Errorf("%q: %q, %v", path, got.query, err)
		}
	}
}
