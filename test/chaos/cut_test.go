package chaos

import (
	"fmt"
	"net/url"
	"path"
	"sync/atomic"
	"testing"
	"time"
)

// TestAnswersToCommitsAreLost cuts connections to the database after a write was committed and before a byte
// of the answer came back, over and over, and wants the results of a run in which every answer came.
func TestAnswersToCommitsAreLost(t *testing.T) {
	f, c := newField(t), newCluster(t)
	want := setting(t, "CHAOS_CUTS", 120)
	f.clean(t)
	i := c.install(t)
	direct, err := url.Parse(i.dsn)
	if err != nil {
		t.Fatal(err)
	}
	socket := path.Join(direct.Query().Get("host"), ".s.PGSQL."+direct.Query().Get("port"))
	p := newProxy(t, "unix", socket)
	through := *i
	through.dsn = fmt.Sprintf("postgres://postgres@%s%s?sslmode=disable", p.Addr(), direct.Path)
	a, b := f.serve(t, &through), f.worker(t, &through)
	eventually(t, 30*time.Second, "both processes to register", func() bool { return i.count(t, `select count(*) from worker`) == 2 })
	p.armed.Store(true)
	dropped := 0
	for deadline := time.Now().Add(2 * time.Minute); p.n.Load() < int64(want) && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		f.mark(t, i)
		if i.count(t, `select count(*) from task_hot h join task t using (id) where t.parent is null`) < 24 && i.count(t, `select count(*) from task where parent is null`) > (dropped-8)*len(modes) {
			f.drop(t, dropped, dropped+4)
			dropped += 4
		}
		if a.ended() || b.ended() {
			t.Fatal("a process ended")
		}
	}
	p.armed.Store(false)
	cuts := p.n.Load()
	p.cuts.Range(func(sql, n any) bool {
		t.Logf("%4d %s", n.(*atomic.Int64).Load(), sql)
		return true
	})
	t.Logf("%d answers were lost, %d inputs", cuts, dropped*len(modes))
	if cuts < int64(want) {
		t.Errorf("%d answers were lost, not %d", cuts, want)
	}
	f.drained(t, i, dropped, time.Minute)
	a.stop(t)
	b.stop(t)
	f.sound(t, i)
	got := f.tree(t)
	same(t, f.undisturbed(t, c, dropped), got)
}
