package app_test

import (
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestSecretsStayOutside looks for a token and a password everywhere that lasts.
func TestSecretsStayOutside(t *testing.T) {
	t.Parallel()
	const token, password = "tok-5f1d93c2aa", "pw-81c2f0a7be"
	s := serve(t, func(w http.ResponseWriter, r *http.Request, body []byte, before int) {
		if before == 0 {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		scoring(w, r, body, 0)
	})
	r := newRig(t, map[string]string{"TOKEN": token, "PASSWORD": password})
	o := r.one(head("signed")+`
stages: [{name: score, call: score}, {name: draw, call: draw}]
processors:
  score: {kind: http, url: "`+s.URL+`/score", auth: bearer}
  draw: {kind: http, url: "`+s.URL+`/draw", auth: basic}
auth:
  bearer: {kind: bearer, token: "${env:TOKEN}"}
  basic: {kind: basic, username: gantry, password: "${env:PASSWORD}"}
`, file(t, "x.png", noise(20, [32]byte{5})))
	mustBeDone(t, o)
	for _, x := range s.all() {
		if x.path == "/score" && x.auth != "Bearer "+token || x.path == "/draw" && !strings.HasPrefix(x.auth, "Basic ") {
			t.Errorf("%s came with %q", x.path, x.auth)
		}
	}
	texts := map[string]string{"the log": r.log.text()}
	for _, dir := range []string{r.out, r.Home} {
		for _, name := range delivered(t, dir) {
			texts[name] = beginning(t, filepath.Join(dir, name))
		}
	}
	for table, text := range dump(t, r.dsn) {
		texts[table] = text
	}
	if !strings.Contains(r.log.text()+strings.Join(slices.Collect(maps.Values(texts)), ""), "env:TOKEN") || !strings.Contains(strings.Join(slices.Collect(maps.Values(texts)), ""), o.ID) {
		t.Error("the dump of the database shows neither the reference nor the task")
	}
	for where, text := range texts {
		for _, secret := range []string{token, password, "Basic Z2FudHJ5"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s holds a secret", where)
			}
		}
	}
}

// beginning reads up to 4 MB of a file: segments of the blob store are long and mostly empty.
func beginning(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 4<<20))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// dump gives every row of every table as text.
func dump(t *testing.T, dsn string) map[string]string {
	t.Helper()
	c, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	rows, err := c.Query(t.Context(), `select table_schema || '.' || table_name from information_schema.tables where table_schema not in ('pg_catalog', 'information_schema') and table_type = 'BASE TABLE'`)
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(names) == 0 {
		t.Fatalf("%d tables: %v", len(names), err)
	}
	out := map[string]string{}
	for _, name := range names {
		id := pgx.Identifier(strings.SplitN(name, ".", 2)).Sanitize()
		var text string
		if err := c.QueryRow(t.Context(), `select coalesce(string_agg(x::text, e'\n'), '') from `+id+` x`).Scan(&text); err != nil {
			t.Fatal(err)
		}
		out["table "+name] = text
	}
	return out
}

// TestFolderOfAnInputIsNoTarget: whoever runs an input may have named its folder after a patient. The record
// cannot be erased, so the folder must not be in it.
func TestFolderOfAnInputIsNoTarget(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	r := newRig(t, nil)
	folder := filepath.Join(t.TempDir(), "DOE^JANE")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	input := filepath.Join(folder, "x.png")
	if err := os.WriteFile(input, noise(20, [32]byte{5}), 0o600); err != nil {
		t.Fatal(err)
	}
	mustBeDone(t, r.one(twoStages(s.URL), input))
	for table, text := range dump(t, r.dsn) {
		if strings.Contains(text, "DOE") {
			t.Errorf("table %s holds the name of the input's folder", table)
		}
	}
}
