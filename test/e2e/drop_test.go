package e2e

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
)

// drops is how many objects TestDrop drops; GANTRY_DROP says another number.
const drops = 300

// worst is what the server does to the traffic of gantry.
var worst = s3test.Faults{Broken: 0.02, SlowDown: 0.01, Expired: 0.01, Reset: 0.02, Short: 0.02, WrongETag: 0.02, Missing: 0.3}

// TestDrop drops objects that are told of by webhook, by queue and in listings at once, each of which loses, doubles or
// delays what it tells, while the server does its worst and the process is killed ten times: each object is one arrival,
// one task, one manifest and the right bytes.
func TestDrop(t *testing.T) {
	n := drops
	if s := os.Getenv("GANTRY_DROP"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil || n < kills {
			t.Fatalf("GANTRY_DROP is %q", s)
		}
	}
	p, u, listen := newTellingPail(t, worst)
	i := install(t)
	l := openLedger(t, i)
	serve := func() *process {
		g := i.start(t, "serve", "--pipelines", p.pipeline, "--listen", listen, "--lease", lease)
		eventually(t, 20*time.Second, "gantry serve to begin", func() bool { return len(g.log.tail(1)) > 0 })
		return g
	}
	g := serve()
	began := time.Now()
	for k := range kills {
		first, end := p.dropped, n*(k+1)/kills
		all := make(chan error, 1)
		go func() { all <- p.put(t.Context(), first, end) }()
		p.dropped = end
		eventually(t, 10*time.Minute, "some of what was dropped to be taken in", func() bool {
			return l.count(t, `select count(*) from arrival`) > first+(end-first)/4
		})
		g.kill()
		if err := <-all; err != nil {
			t.Fatal(err)
		}
		t.Logf("kill %d: %d of %d taken, %d done", k+1, l.count(t, `select count(*) from arrival`), end, l.count(t, `select count(*) from task where final_state = 5`))
		g = serve()
	}
	l.finishedWithin(t, n, time.Minute+time.Duration(n)*100*time.Millisecond)
	t.Logf("%d objects in %s; the server did %v", n, time.Since(began).Round(time.Second), u.Done())
	time.Sleep(35 * time.Second) // what a dead process had received comes again
	g.stop(t)
	for _, fault := range []string{"broken_before", "broken_after", "slow_down", "expired", "reset", "short", "wrong_etag", "missing"} {
		if u.Done()[fault] == 0 {
			t.Errorf("the server never did %s", fault)
		}
	}
	if k := l.count(t, `select count(*) from task`); k != n {
		t.Errorf("%d tasks of %d objects", k, n)
	}
	if k := l.count(t, `select count(*) from arrival where status = 0`); k != n {
		t.Errorf("%d arrivals", k)
	}
	if k := l.count(t, `select count(*) from source_event`); k != 0 {
		t.Errorf("%d messages were not understood", k)
	}
	p.wantEach(t, n)
}

// wantEach wants one manifest, and the one right image, of each of n objects.
func (p *pail) wantEach(t *testing.T, n int) {
	t.Helper()
	images, want := map[string]int{}, map[string]int{}
	manifests := 0
	for key, sha := range p.tree(t) {
		if path.Base(key) == "_manifest.json" {
			manifests++
		} else {
			images[sha]++
		}
	}
	for i := range n {
		seed := sha256.Sum256(fmt.Appendf(nil, "input %d", i))
		input := sha256.Sum256(picture(seed[:]))
		want[fmt.Sprintf("%x", sha256.Sum256(picture(input[:])))]++
	}
	if diff := cmp.Diff(want, images); diff != "" {
		t.Errorf("images by digest (-want +got):\n%s", diff)
	}
	if manifests != n {
		t.Errorf("%d manifests of %d objects", manifests, n)
	}
}
