package app_test

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/api"
	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/engine"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// words divides a command line, minding single quotes.
func words(line string) []string {
	var out []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			out = append(out, part)
		} else {
			out = append(out, strings.Fields(part)...)
		}
	}
	return out
}

// curl makes the request that a curl command of the documentation makes; file is every file.
func (f front) curl(line, id string, file []byte) answered {
	f.t.Helper()
	var headers []string
	var body io.Reader
	method, path := "GET", ""
	for w := words(line)[1:]; len(w) > 0; w = w[1:] {
		switch {
		case w[0] == "--data-binary":
			method, body = "POST", bytes.NewReader(file)
			headers = append(headers, "Content-Type", "application/x-www-form-urlencoded") // curl's own, unless -H says another
			w = w[1:]
		case w[0] == "-H":
			name, value, _ := strings.Cut(w[1], ": ")
			headers, w = append(headers, name, value), w[1:]
		case w[0] == "-o":
			w = w[1:]
		case strings.HasPrefix(w[0], "http://127.0.0.1:8090/"):
			path = strings.ReplaceAll(strings.TrimPrefix(w[0], "http://127.0.0.1:8090"), "6m2bqmy5ls2vk4xvjsq2v3kd6e", id)
		default:
			f.t.Fatalf("%q in %s", w[0], line)
		}
	}
	return f.ask(method, path, body, headers...)
}

// Every command of docs/api.md does what it says.
func TestCommandsOfTheAPI(t *testing.T) {
	t.Parallel()
	r := serve(t, scoring)
	doc, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	f := newFront(t, map[string]string{"MODEL_URL": r.URL, "OUT": out}, example(t, "api.md", "echo"))
	zip := packed(t, entry{name: "a.dcm", body: study(t, 1)[0]})
	var id string
	n := 0
	for line := range strings.Lines(string(doc)) {
		if !strings.HasPrefix(line, "curl ") {
			continue
		}
		n++
		a := f.curl(strings.TrimSpace(line), id, zip)
		switch {
		case strings.Contains(line, "--data-binary") && a.status == 201 && a.header.Get("Location") == "/api/v1/tasks/"+a.said.ID:
			id = a.said.ID
		case !strings.Contains(line, "--data-binary") && a.status == 200 && json.Valid(a.body):
		default:
			t.Errorf("%s: %d, %s", line, a.status, a.body)
		}
		if strings.Contains(line, "wait=") && (a.said.State != "done" || !bytes.Contains(a.said.Manifest, []byte(`"manifest/v1"`))) {
			t.Errorf("%s: %s", line, a.body)
		}
	}
	if n < 5 {
		t.Errorf("%d commands", n)
	}
	for _, code := range []gantry.Code{
		gantry.CodeEmpty, api.CodeBadName, api.CodeBadKey, api.CodeBadWait, api.CodeBadDigest, "checksum_mismatch", api.CodeBroken, api.CodeForeignSite,
		app.CodeNoPipeline, postgres.CodeNoTask, app.CodeNoResults, engine.CodeNoOutput, api.CodeNotFound, api.CodeIdle, gantry.CodeTooLarge,
		api.CodeForm, api.CodeEncoded, gantry.CodeConflict, api.CodeBusy, app.CodeNoLease,
	} {
		if !bytes.Contains(doc, []byte("`"+string(code)+"`")) {
			t.Errorf("docs/api.md does not know %s", code)
		}
	}
}
