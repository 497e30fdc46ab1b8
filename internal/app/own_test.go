package app_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// What the installation keeps for itself is no input: each task would make more of it, without end.
func TestOwnFilesAreNoInputs(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	at := `endpoint: "http://127.0.0.1:1", path_style: true, bucket: same`
	home, out := r.Home, t.TempDir()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	fromHere, err := filepath.Rel(here, home)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // it is refused before anything is done
	for name, c := range map[string]struct {
		source string
		blobs  string // empty: in home
		ok     bool
	}{
		"home":                       {source: "kind: dir, path: " + home},
		"the folder of blobs":        {source: "kind: dir, path: " + home + "/b", blobs: home + "/b/blobs"},
		"the same as seen from here": {source: "kind: dir, path: " + home + "/b", blobs: fromHere + "/b/blobs"},
		"a folder in it":             {source: "kind: dir, path: " + home + "/b/blobs/sha", blobs: home + "/b/blobs"},
		"a folder beside":            {source: "kind: dir, path: " + home + "/in", ok: true},
		"a hidden folder":            {source: "kind: dir, path: " + home + "/b", blobs: home + "/b/.blobs", ok: true},
		"names that no blob has":     {source: "kind: dir, pattern: 'scan-*', path: " + home, ok: true},
		"the bucket of blobs":        {source: "kind: s3, " + at, blobs: "s3://same/blobs"},
		"all of it":                  {source: "kind: s3, prefix: blobs/x/, " + at, blobs: "s3://same"},
		"another prefix":             {source: "kind: s3, prefix: in/, " + at, blobs: "s3://same/blobs", ok: true},
		"a prefix that begins so":    {source: "kind: s3, prefix: blobs2/, " + at, blobs: "s3://same/blobs", ok: true},
		"a prefix that is left out":  {source: "kind: s3, exclude: [blobs/], " + at, blobs: "s3://same/blobs", ok: true},
		"another bucket":             {source: "kind: s3, " + at, blobs: "s3://else/blobs", ok: true},
	} {
		p := parsed(t, "gantry: v1\nname: p\nsources: {in: {"+c.source+"}}\nsinks: {out: {kind: dir, path: "+out+"}}\n"+
			"stages: [{name: a, call: b}]\nprocessors: {b: {kind: http, url: 'http://127.0.0.1:1/b'}}\n")
		shared := gantry.Shared{Endpoint: p.Sources[0], Routes: []gantry.Route{{To: "q"}}}
		q := *p
		q.Name, q.Sources = "q", nil
		r.Blobs, r.BlobBucket = c.blobs, app.BlobBucket{Endpoint: "http://localhost:1"}
		if c.blobs == "" {
			r.Blobs = filepath.Join(r.Home, "blobs")
		}
		for _, err := range []error{r.Serve(ctx, []*gantry.Pipeline{p}), r.Serve(ctx, []*gantry.Pipeline{&q}, shared)} {
			if refused := gantry.CodeOf(err) == app.CodeOwnFiles; refused == c.ok {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
