package app_test

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
	"github.com/gantry-imaging/gantry/internal/postgres"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
	"github.com/gantry-imaging/gantry/internal/sample"
)

// rig is an installation of its own: a database, a home, a folder for results.
type rig struct {
	*app.App
	t   *testing.T
	dsn string
	out string
	log *logBook
}

// newRig opens an installation; env is what the pipeline's references find.
func newRig(t *testing.T, env map[string]string) *rig {
	t.Helper()
	r := &rig{t: t, dsn: postgrestest.DSN(t), out: t.TempDir(), log: &logBook{}}
	s := app.Settings{DatabaseURL: r.dsn, Home: t.TempDir(), Drivers: all.Drivers(),
		Log:    slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Lookup: func(k string) (string, bool) { v, ok := env[k]; return v, ok }}
	db, err := app.OpenDatabase(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if r.App, err = app.New(s, db); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.App.Close() })
	return r
}

// logBook keeps what was logged.
type logBook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write keeps a line.
func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBook) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// run takes inputs through a pipeline given as YAML, into a folder of results.
func (r *rig) run(src, out string, inputs ...string) []app.Outcome {
	r.t.Helper()
	p, err := pipeline.Parse("test.yaml", []byte(src), all.Drivers(), r.Lookup)
	if err != nil {
		r.t.Fatal(err)
	}
	got, err := r.RunOnce(r.t.Context(), app.RunOptions{Pipeline: p, Inputs: inputs, Out: out})
	if err != nil {
		r.t.Fatalf("run: %v\n%s", err, r.log.text())
	}
	if len(got) != len(inputs) {
		r.t.Fatalf("%d outcomes of %d inputs", len(got), len(inputs))
	}
	return got
}

// one runs one input and gives its outcome.
func (r *rig) one(src, input string) app.Outcome {
	r.t.Helper()
	return r.run(src, r.out, input)[0]
}

// calls lists the recorded calls of processors, the oldest first.
func (r *rig) calls(f postgres.Filter) []postgres.CallRow {
	r.t.Helper()
	f.Boundary = "processor"
	rows, err := r.Store.Calls(r.t.Context(), f)
	if err != nil {
		r.t.Fatal(err)
	}
	slices.Reverse(rows)
	return rows
}

func digest(b []byte) string {
	d := sha256.Sum256(b)
	return hex.EncodeToString(d[:])
}

// answerJSON says the digest of what came.
func answerJSON(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	json.NewEncoder(w).Encode(map[string]any{"sha256": digest(body), "score": 0.5})
}

// answerPNG draws noise that only the body decides, too large to be kept in a row.
func answerPNG(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Type", "image/png")
	w.Write(noise(160, sha256.Sum256(body)))
}

// noise is a PNG that hardly compresses.
func noise(size int, seed [32]byte) []byte {
	img := image.NewGray(image.Rect(0, 0, size, size))
	rand.NewChaCha8(seed).Read(img.Pix)
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// study is the slices of a small CT.
func study(t *testing.T, n int) [][]byte {
	t.Helper()
	files, err := sample.CT(n, 32)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// entry is one file of an archive.
type entry struct {
	name   string
	body   []byte
	stored bool
}

func packed(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		if e.stored {
			h.Method = zip.Store
		}
		w, err := z.CreateHeader(h)
		if err == nil {
			_, err = w.Write(e.body)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// file writes bytes into a new folder and names the file.
func file(t testing.TB, name string, body []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, body, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// record is _manifest.json as a reader of outputs sees it.
type record struct {
	Gantry, Task, Pipeline, Version string
	Input                           struct {
		SHA256, ETag string
		Size         int64
		Media        string
	}
	Inputs []struct {
		SHA256, ETag string
		Size         int64
		Media        string
	}
	Items []struct {
		Path, SHA256, Media, Remark string
		Bytes                       int64
	}
	Outputs []struct {
		Path, SHA256, Media, Stage, Processor, Parent, Call string
		Bytes                                               int64
		Joined                                              []struct{ Parent, SHA256, Call string }
	}
	Errors []struct{ Item, Stage, Code string }
}

// manifestOf reads a task's manifest, strictly, and holds the files beside it to it: no more, no
// less, and the bytes that it names.
func manifestOf(t *testing.T, out, id string) (record, []byte) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(out, id, "_manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var m record
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{"_manifest.json": true}
	for _, o := range m.Outputs {
		want[o.Path] = true
		body, err := os.ReadFile(filepath.Join(out, id, filepath.FromSlash(o.Path)))
		if err != nil {
			t.Errorf("output of the manifest: %v", err)
			continue
		}
		if digest(body) != o.SHA256 || int64(len(body)) != o.Bytes {
			t.Errorf("%s is not what the manifest says", o.Path)
		}
	}
	for _, name := range delivered(t, filepath.Join(out, id)) {
		if !want[name] {
			t.Errorf("%s was delivered and is not in the manifest", name)
		}
	}
	return m, b
}

// delivered lists every file below a folder, hidden ones too.
func delivered(t testing.TB, root string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			rel, _ := filepath.Rel(root, path)
			out = append(out, filepath.ToSlash(rel))
		}
		if os.IsNotExist(err) {
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func sorted(s []string) []string { slices.Sort(s); return s }

// head is the beginning of a pipeline file whose tries follow each other at once.
func head(name string) string {
	return fmt.Sprintf("gantry: v1\nname: %s\nretry: {attempts: 3, initial: 1ms, factor: 2, max: 5s}\n", name)
}

func mustFail(t *testing.T, o app.Outcome, code string, kind gantry.Kind) {
	t.Helper()
	if o.State != "failed" || o.Error == nil || o.Error.Code != code || o.Error.Kind != kind.String() {
		t.Errorf("ended %s with %+v, want failed with %s, %s", o.State, o.Error, code, kind)
	}
}

func mustBeDone(t *testing.T, o app.Outcome) {
	t.Helper()
	if o.State != "done" {
		t.Fatalf("ended %s: %+v", o.State, o.Error)
	}
}

// within is how long a test of deadlines may take at most.
const within = 20 * time.Second
