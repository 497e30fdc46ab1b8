package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/sample"
)

// frameShard is how many frames of the loop a shard has; the last has fewer.
const frameShard = 256

// TestFramesOverKilledProcesses sends a loop of 1,200 frames as shards through three processes, one of which is
// killed at its work. The service gives back what it got: each frame is answered once on record, and the object
// that is put together again has the pixels of the original, as dcmtk and this program read both.
func TestFramesOverKilledProcesses(t *testing.T) {
	model := newForeign(t, 20*time.Millisecond)
	model.Echo = true
	f := newFleet(t, lease)
	f.pipeline("loop", model.URL, "{concurrency: 8}")
	f.rejoins("loop", fmt.Sprintf("{frames: png, window: stored, shard: %d}", frameShard))
	f.write("in-loop/loop.dcm", sample.Ultrasound(pictures, 32, 32))
	processes := []*process{f.begin("worker", "2"), f.begin("worker", "2")}
	for _, p := range processes {
		eventually(t, 10*time.Second, "a worker to register", func() bool {
			return f.number(`select count(*) from worker where pid = $1`, p.cmd.Process.Pid) > 0
		})
	}
	served := f.begin("serve", "2")
	id := f.killAtWork(model, processes[0])
	eventually(t, 60*time.Second, "the task to end", func() bool {
		return f.number(`select count(*) from task where parent is null and final_state is not null`) == 1
	})
	if bad := f.number(`select count(*) from task where final_state is distinct from 5`); bad > 0 {
		t.Errorf("%d tasks are not done", bad)
	}
	processes[1].stop(t)
	served.stop(t)
	if f.number(`select count(*) from task_event where change = 9 and worker = $1`, id) == 0 {
		t.Error("no shard was rescued: the kill missed the work")
	}
	t.Logf("%d requests for %d frames", len(model.seen()), pictures)
	f.holdShards((pictures + frameShard - 1) / frameShard)
	f.holdLoop()
}

// rejoins has a pipeline take media apart and its sink put them together again.
func (f *fleet) rejoins(name, extract string) {
	f.t.Helper()
	path := "pipelines/" + name + ".yaml"
	b, err := os.ReadFile(filepath.Join(f.dir, path))
	if err != nil {
		f.t.Fatal(err)
	}
	place := "out-" + name + "}"
	if strings.Count(string(b), place) != 1 {
		f.t.Fatalf("the pipeline has not one sink:\n%s", b)
	}
	text := strings.Replace(string(b), place, "out-"+name+", rejoin: original}", 1)
	f.write(path, fmt.Appendf(nil, "%sextract: %s\n", text, extract))
}

// killAtWork kills a process once it holds shards with calls under way, and gives its id.
func (f *fleet) killAtWork(model *foreign, victim *process) int {
	f.t.Helper()
	eventually(f.t, 30*time.Second, "the victim to be at work on shards", func() bool {
		return model.answered.Load() > pictures/10 && f.unitsOf(victim) > 0 && f.number(`select count(*) from part p join task_hot h on h.id = p.task_id
			join worker w on w.id = h.owner where w.pid = $1 and p.status = 2`, victim.cmd.Process.Pid) > 0
	})
	id := f.number(`select id from worker where pid = $1`, victim.cmd.Process.Pid)
	victim.kill()
	if f.number(`select count(*) from call_intent i left join call_outcome o using (task_id, id) where i.worker = $1 and o.id is null`, id) == 0 {
		f.t.Log("the kill found no call open")
	}
	return id
}

// holdLoop compares the rejoined loop with the original: values, the raw pixel data that dcmtk takes out of both, and
// the manifest, which names each frame with the call that answered it, in order.
func (f *fleet) holdLoop() {
	f.t.Helper()
	found, err := filepath.Glob(filepath.Join(f.dir, "out-loop", "*", "score", "rejoined.dcm"))
	if err != nil || len(found) != 1 {
		f.t.Fatalf("rejoined files %v: %v", found, err)
	}
	in := filepath.Join(f.dir, "in-loop", "loop.dcm")
	was, is := stored(f.t, in), stored(f.t, found[0])
	if len(was) != pictures || len(is) != pictures {
		f.t.Fatalf("%d frames of %d", len(is), len(was))
	}
	for i := range was {
		if !bytes.Equal(was[i].Values, is[i].Values) || was[i].Photometric != is[i].Photometric || was[i].BitsStored != is[i].BitsStored {
			f.t.Fatalf("frame %d differs", i)
		}
	}
	a, b := raw(f.t, in), raw(f.t, found[0])
	if len(a) != pictures*32*32 || !bytes.Equal(a, b) {
		f.t.Errorf("dcmtk finds %d bytes of pixels, and %d of the original; the same: %v", len(b), len(a), bytes.Equal(a, b))
	}
	text, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(found[0])), "_manifest.json"))
	if err != nil {
		f.t.Fatal(err)
	}
	var m struct {
		Items   []struct{ Path, SHA256 string }
		Outputs []struct {
			Joined []struct{ Parent, SHA256, Call string }
		}
	}
	if err := json.Unmarshal(text, &m); err != nil {
		f.t.Fatal(err)
	}
	if len(m.Items) != pictures || len(m.Outputs) != 1 || len(m.Outputs[0].Joined) != pictures {
		f.t.Fatalf("%d items and %d outputs in the manifest", len(m.Items), len(m.Outputs))
	}
	for i, j := range m.Outputs[0].Joined {
		call := fmt.Sprintf("/0/score/score/%d/0", i%frameShard)
		if want := fmt.Sprintf("input#%d", i); j.Parent != want || m.Items[i].Path != want || j.SHA256 != m.Items[i].SHA256 || !strings.HasSuffix(j.Call, call) {
			f.t.Errorf("frame %d is in the manifest as %+v, of %+v", i, j, m.Items[i])
		}
	}
}

// stored gives the stored values of each frame of a file.
func stored(t *testing.T, path string) []*dicom.Picture {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := dicom.OpenFrames(bytes.NewReader(b), int64(len(b)), dicom.DefaultFrameLimits())
	if err != nil {
		t.Fatal(err)
	}
	out := make([]*dicom.Picture, f.Len())
	for i := range out {
		if out[i], err = f.Picture(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// raw gives the pixel data of a file as dcmtk writes them.
func raw(t *testing.T, path string) []byte {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("dcmdump", "-q", "+W", dir, path).CombinedOutput(); err != nil {
		t.Fatalf("dcmdump: %v\n%s", err, out)
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.raw"))
	if err != nil || len(found) != 1 {
		t.Fatalf("pixel data %v: %v", found, err)
	}
	b, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	return b
}
