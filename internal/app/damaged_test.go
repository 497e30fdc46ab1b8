package app_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/gantry-imaging/gantry/internal/dimse/dimsetest"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// TestReceivedDamaged has a bit of a received instance change where it is kept, before anybody read it: no service gets it whole, and
// its task ends with the reason. With none changed the service has all of it, and its digest is known then.
func TestReceivedDamaged(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]bool{"damaged": true, "sound": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listen := freeAddress(t)
			f := newFront(t, nil, gatehouse("us", serve(t, scoring).URL, listen, "GANTRY", "", "group: {by: study, quiet: 1500ms}"))
			s := dimsetest.NewStudy(t, 1, 64)
			if r := dcmsend(t, listen, "GANTRY", s.Dir); r.Exit != 0 {
				t.Fatal(r.Output)
			}
			if damage {
				flipKept(t, f.Home, s.Files[0])
			}
			task := f.until("over", func(x postgres.TaskRow) bool { return x.State == "done" || x.State == "failed" })
			sent, err := f.Store.Calls(t.Context(), postgres.Filter{Boundary: "processor", Outcome: "ok"})
			if err != nil {
				t.Fatal(err)
			}
			known := f.count(`select count(*) from item where sha is not null and media = 'application/dicom'`)
			switch {
			case damage && (task.State != "failed" || task.Error == nil || task.Error.Code != string(gantry.CodeCorrupt) || len(sent) != 0 || known != 0):
				t.Errorf("%+v, %+v, %d calls went through, %d digests are known", task, task.Error, len(sent), known)
			case !damage && (task.State != "done" || len(sent) != 1 || known != 1):
				t.Errorf("%+v, %d calls went through, %d digests are known", task, len(sent), known)
			}
		})
	}
}

// flipKept changes a bit in the middle of the data set of a file, where it is kept.
func flipKept(t *testing.T, home, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	set := dataset(t, b)
	segments, err := filepath.Glob(filepath.Join(home, "blobs", "seg", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range segments {
		all, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(all, set)
		if at < 0 {
			continue
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		half := at + len(set)/2
		if _, err := f.WriteAt([]byte{all[half] ^ 1}, int64(half)); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatal("it is kept nowhere")
}
