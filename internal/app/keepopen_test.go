package app_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/pipeline"
)

// TestReadingIsNoQuiet: a file that is read for longer than its folder has to be quiet for came in time, and belongs to the collection that was open.
func TestReadingIsNoQuiet(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	env := map[string]string{}
	r := newRig(t, env)
	d := newDepot(t, env, false)
	p, err := pipeline.Parse("test.yaml", fmt.Appendf(nil, `%ssources: {inbox: {kind: s3, bucket: inbox, prefix: in/, endpoint: %q, path_style: true, auth: gateway, poll: 100ms}}
sinks: {out: {kind: dir, path: %q}}
auth: {gateway: {kind: aws, access_key_id: "${env:ID}", secret_access_key: "${env:SECRET}"}}
`, collecting(s.URL, "{by: prefix, quiet: 2s, late: ignore}"), d.front, r.out), all.Drivers(), r.Lookup)
	if err != nil {
		t.Fatal(err)
	}
	d.wrong = func(_ int, w http.ResponseWriter, q *http.Request, pass http.Handler) bool {
		if strings.HasSuffix(q.URL.Path, "/slow.png") {
			time.Sleep(6 * time.Second)
		}
		return false
	}
	defer r.serveUntil(p)()
	d.put("in/a/1.png", noise(9, [32]byte{1}))
	r.eventually("it is not taken", func() bool { return r.count(`select count(*) from collection_member`) == 1 })
	d.put("in/a/slow.png", noise(9, [32]byte{2}))
	d.put("in/b/1.png", noise(9, [32]byte{3})) // nothing waits for another folder's
	r.eventually("the other is not closed", func() bool { return r.count(`select count(*) from collection where closed`) == 1 })
	if n := r.count(`select count(*) from arrival`); n != 2 {
		t.Errorf("%d are on record: what is slow was waited for", n)
	}
	r.wantSets("1.png", "1.png slow.png")
}
