package app_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// example gives the YAML block of a documentation page that names a pipeline.
func example(t *testing.T, page, name string) string {
	t.Helper()
	doc, err := os.ReadFile("../../docs/" + page)
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range strings.Split(string(doc), "```yaml\n")[1:] {
		if block, _, _ = strings.Cut(block, "```"); strings.Contains(block, "\nname: "+name+"\n") {
			return block
		}
	}
	t.Fatalf("%s has no pipeline %s", page, name)
	return ""
}

// archive is a web server that takes results, once each, into files.
func archive(t *testing.T, files map[string][]byte) *service {
	var mu sync.Mutex
	return serve(t, func(w http.ResponseWriter, r *http.Request, body []byte, _ int) {
		mu.Lock()
		defer mu.Unlock()
		name := r.Method + " " + r.URL.RequestURI() + " " + r.Header.Get("X-Gantry-Path")
		if _, there := files[name]; there {
			w.WriteHeader(http.StatusPreconditionFailed)
			return
		}
		files[name] = body
		w.WriteHeader(http.StatusCreated)
	})
}

// A batch goes out as a form under a key, each slice comes back as a picture, and the results land on a
// web server: the first example of docs/http.md.
func TestOutlineOfTheDocumentation(t *testing.T) {
	t.Parallel()
	slicesOf := study(t, 5)
	var entries []entry
	for i, b := range slicesOf {
		entries = append(entries, entry{name: fmt.Sprintf("DOE^JANE/%d.dcm", i), body: b})
	}
	model := serve(t, func(w http.ResponseWriter, r *http.Request, body []byte, _ int) {
		if r.Header.Get("X-API-Key") != "s3cr3t" || r.Header.Get("X-Request-Key") == "" || r.Header.Get("Idempotency-Key") != "" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, params, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
		form, err := multipart.NewReader(bytes.NewReader(body), params["boundary"]).ReadForm(64 << 20)
		if err != nil || len(form.Value["metadata"]) != 1 || len(form.File["image"]) != len(slicesOf) {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		answer := multipart.NewWriter(w)
		w.Header().Set("Content-Type", "multipart/mixed; boundary="+answer.Boundary())
		for _, h := range form.File["image"] {
			f, _ := h.Open()
			in, _ := io.ReadAll(f)
			part, _ := answer.CreatePart(textproto.MIMEHeader{"Content-Type": {"image/png"}, "Content-Disposition": {`form-data; name="x"; filename="../../../etc/passwd"`}})
			part.Write(noise(30, [32]byte([]byte(digest(in)))))
		}
		answer.Close()
	})
	files := map[string][]byte{}
	to := archive(t, files)
	r := newRig(t, map[string]string{"MODEL_URL": model.URL, "ARCHIVE_URL": to.URL, "MODEL_KEY": "s3cr3t", "ARCHIVE_TOKEN": "t0k3n"})
	o := r.run(example(t, "http.md", "outline"), "", file(t, "study.zip", packed(t, entries...)))[0]
	mustBeDone(t, o)
	want := map[string][]byte{}
	for i, in := range slicesOf {
		want[fmt.Sprintf("outline/%06d.png", i+1)] = noise(30, [32]byte([]byte(digest(in))))
	}
	for path, body := range want {
		at := o.ID + "/" + path
		if got := files["PUT /results/"+at+" "+at]; !bytes.Equal(got, body) {
			t.Errorf("%s: %d bytes arrived, want %d; there are %q", path, len(got), len(body), slices.Sorted(maps.Keys(files)))
		}
	}
	if m := files["PUT /results/"+o.ID+"/_manifest.json "+o.ID+"/_manifest.json"]; !json.Valid(m) || len(files) != len(want)+1 {
		t.Errorf("%d files, the manifest is %q", len(files), m)
	}
	for _, x := range to.all() {
		if x.auth != "Bearer t0k3n" || strings.Contains(x.path+x.key, "DOE") {
			t.Errorf("%s came with %q", x.path, x.auth)
		}
	}
	if log := r.log.text(); strings.Contains(log, "s3cr3t") || strings.Contains(log, "t0k3n") {
		t.Error("a secret is in the log")
	}
	if n := len(model.all()); n != 1 {
		t.Errorf("%d calls for one batch", n)
	}
}

// JSON with media in base64, both ways, and a message when a task is done: the second example.
func TestHeatmapOfTheDocumentation(t *testing.T) {
	t.Parallel()
	picture, heat := noise(20, [32]byte{1}), noise(200, [32]byte{2})
	model := serve(t, func(w http.ResponseWriter, r *http.Request, body []byte, _ int) {
		var in struct {
			Inputs []struct {
				Media string
				Data  []byte
			}
		}
		if json.Unmarshal(body, &in) != nil || len(in.Inputs) != 1 || !bytes.Equal(in.Inputs[0].Data, picture) || in.Inputs[0].Media != "image/png" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"outputs": [{"media": "image/png", "data": "%s", "label": "lung"}], "score": 0.93}`, base64.StdEncoding.EncodeToString(heat))
	})
	files := map[string][]byte{}
	to := archive(t, files)
	r := newRig(t, nil)
	r.Lookup = func(k string) (string, bool) {
		v, ok := map[string]string{"MODEL_URL": model.URL, "ARCHIVE_URL": to.URL, "OUT": r.out}[k]
		return v, ok
	}
	o := r.run(example(t, "http.md", "heatmap"), "", file(t, "x.png", picture))[0]
	mustBeDone(t, o)
	m, raw := manifestOf(t, r.out, o.ID)
	if len(m.Outputs) != 2 {
		t.Errorf("%d outputs: %+v", len(m.Outputs), m.Outputs)
	}
	if got, err := os.ReadFile(filepath.Join(r.out, o.ID, "heat", "000001.png")); err != nil || !bytes.Equal(got, heat) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if got, err := os.ReadFile(filepath.Join(r.out, o.ID, "heat", "000001-2.json")); err != nil || string(got) != `{"outputs":[{"media":"image/png","label":"lung"}],"score":0.93}` {
		t.Errorf("%q, %v", got, err)
	}
	path := o.ID + "/_manifest.json"
	if got := files["POST /hooks/done?site=north "+path]; !bytes.Equal(got, raw) || len(files) != 1 {
		t.Errorf("%d messages, the manifest is %q", len(files), got)
	}
}
