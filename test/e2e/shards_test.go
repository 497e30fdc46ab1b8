package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// One archive of so many pictures, in shards of so many.
const (
	pictures  = 1200
	shardSize = 100
)

// TestShardsOverKilledProcesses sends one large archive through three processes and kills one of them at its
// work: every part is answered once on record, and the manifest lists all of them in their order.
func TestShardsOverKilledProcesses(t *testing.T) {
	model := newForeign(t, 20*time.Millisecond)
	f := newFleet(t, lease)
	f.pipeline("shards", model.URL, "{concurrency: 16}")
	path := "pipelines/shards.yaml"
	text, err := os.ReadFile(filepath.Join(f.dir, path))
	if err != nil {
		t.Fatal(err)
	}
	f.write(path, fmt.Appendf(text, "extract: {shard: %d}\n", shardSize))
	f.archives("shards", 1, pictures)
	processes := []*process{f.begin("worker", "4"), f.begin("worker", "4")}
	for _, p := range processes {
		eventually(t, 10*time.Second, "a worker to register", func() bool {
			return f.number(`select count(*) from worker where pid = $1`, p.cmd.Process.Pid) > 0
		})
	}
	served := f.begin("serve", "4")
	victim := processes[0]
	eventually(t, 30*time.Second, "the victim to be at work on shards", func() bool {
		return model.answered.Load() > pictures/10 && f.unitsOf(victim) > 0 && f.number(`select count(*) from part p join task_hot h on h.id = p.task_id
			join worker w on w.id = h.owner where w.pid = $1 and p.status = 2`, victim.cmd.Process.Pid) > 0
	})
	id := f.number(`select id from worker where pid = $1`, victim.cmd.Process.Pid)
	victim.kill()
	open := f.number(`select count(*) from call_intent i left join call_outcome o using (task_id, id) where i.worker = $1 and o.id is null`, id)
	eventually(t, 60*time.Second, "the task to end", func() bool {
		return f.number(`select count(*) from task where parent is null and final_state is not null`) == 1
	})
	if bad := f.number(`select count(*) from task where final_state is distinct from 5`); bad > 0 {
		t.Errorf("%d tasks are not done", bad)
	}
	processes[1].stop(t)
	served.stop(t)
	t.Logf("killed with %d calls open; %d tasks were rescued; %d requests", open, f.number(`select count(*) from task_event where change = 9`), len(model.seen()))
	if f.number(`select count(*) from task_event where change = 9 and worker = $1`, id) == 0 {
		t.Error("no shard was rescued: the kill missed the work")
	}
	f.holdShards(pictures / shardSize)
	f.holdManifest(pictures)
	f.holdListing()
}

// holdListing wants the command line to tell parent and children apart.
func (f *fleet) holdListing() {
	f.t.Helper()
	type row struct {
		ID, Parent, Role string
		Children         int
		Open             int `json:"open_children"`
	}
	list := decode[row](f.t, f.output(f.t, "task", "ls", "--json", "--limit", "0"))
	top := list[len(list)-1] // the oldest
	if len(list) != pictures/shardSize+1 || top.Parent != "" || top.Role != "" || top.Children != pictures/shardSize || top.Open != 0 {
		f.t.Errorf("%d tasks are listed, the oldest as %+v", len(list), top)
	}
	for _, x := range list[:len(list)-1] {
		if x.Parent != top.ID || x.Role != "shard" || x.Children != 0 {
			f.t.Errorf("a shard is listed as %+v", x)
		}
	}
	if text := string(f.output(f.t, "task", "show", list[0].ID)); !strings.Contains(text, top.ID+" (its shard)") {
		f.t.Errorf("a shard is shown as\n%s", text)
	}
	if text := string(f.output(f.t, "task", "show", top.ID)); !strings.Contains(text, "12, 0 open") {
		f.t.Errorf("the parent is shown as\n%s", text)
	}
	if n := len(decode[struct{}](f.t, f.output(f.t, "call", "ls", "--json", "--limit", "0", "--task", top.ID))); n < 2*pictures {
		f.t.Errorf("%d calls are listed of the task", n)
	}
}

// holdShards wants each part of so many shards to be answered once on record, and the parent to have asked nothing.
func (f *fleet) holdShards(shards int) {
	f.t.Helper()
	if n := f.number(`select count(*) from task where role = 1`); n != shards {
		f.t.Errorf("%d shards", n)
	}
	if n := f.number(`select count(*) from (select from call_intent i join call_outcome o using (task_id, id)
		where i.boundary = 1 and o.result = 0 group by i.task_id, i.part having count(*) = 1) x`); n != pictures {
		f.t.Errorf("%d parts were answered once on record", n)
	}
	if n := f.number(`select count(*) from call_intent i join task t on t.id = i.task_id where i.boundary = 1 and t.parent is null`); n > 0 {
		f.t.Errorf("the parent made %d calls of the service itself", n)
	}
	if n := f.number(`select count(distinct worker) from call_intent where boundary = 1`); n != 3 {
		f.t.Errorf("%d processes made calls", n)
	}
	if n := f.number(`select count(*) from task_hot`); n > 0 {
		f.t.Errorf("%d tasks have ended and still have a hot row", n)
	}
}

// holdManifest wants the one manifest at the sink to list n outputs, of the entries in their order.
func (f *fleet) holdManifest(n int) {
	f.t.Helper()
	found, err := filepath.Glob(filepath.Join(f.dir, "out-shards", "*", "_manifest.json"))
	if err != nil || len(found) != 1 {
		f.t.Fatalf("manifests %v: %v", found, err)
	}
	b, err := os.ReadFile(found[0])
	if err != nil {
		f.t.Fatal(err)
	}
	var m struct {
		Items   []struct{ Path, SHA256 string }
		Outputs []struct{ Path, Parent, Call string }
	}
	if err := json.Unmarshal(b, &m); err != nil {
		f.t.Fatal(err)
	}
	if len(m.Items) != n || len(m.Outputs) != n {
		f.t.Fatalf("%d items and %d outputs in the manifest", len(m.Items), len(m.Outputs))
	}
	for i, x := range m.Outputs {
		if want := fmt.Sprintf("input#%d", i); x.Parent != want || m.Items[i].Path != want || m.Items[i].SHA256 == "" {
			f.t.Errorf("output %d is of %s, item %+v", i, x.Parent, m.Items[i])
		}
		if want := fmt.Sprintf("/0/score/score/%d/0", i%shardSize); !strings.HasSuffix(x.Call, want) {
			f.t.Errorf("output %d comes of call %s, want one of %s", i, x.Call, want)
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(found[0]), x.Path)); err != nil {
			f.t.Error(err)
		}
	}
}
