package app_test

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
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
				if err := flipKept(f.Home, bytesIn(t, s.Files[0])); err != nil {
					t.Fatal(err)
				}
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

// TestDamagedLater has a bit change between two stages: what the second service says of other bytes than the first saw is not kept.
func TestDamagedLater(t *testing.T) {
	t.Parallel()
	listen, home, s := freeAddress(t), make(chan string, 1), dimsetest.NewStudy(t, 1, 64)
	file := bytesIn(t, s.Files[0])
	url := serve(t, func(w http.ResponseWriter, r *http.Request, body []byte, before int) {
		select {
		case dir := <-home: // the first call
			if err := flipKept(dir, file); err != nil {
				t.Error(err)
			}
		default:
		}
		scoring(w, r, body, before)
	}).URL
	p := gatehouse("us", url, listen, "GANTRY", "", "group: {by: study, quiet: 400ms}")
	f := newFront(t, nil, strings.Replace(p, "{name: score, call: score}", "{name: score, call: score}, {name: again, call: score}", 1))
	home <- f.Home
	if r := dcmsend(t, listen, "GANTRY", s.Dir); r.Exit != 0 {
		t.Fatal(r.Output)
	}
	task := f.until("failed", func(x postgres.TaskRow) bool { return x.State == "failed" })
	rows, err := f.Store.Calls(t.Context(), postgres.Filter{Boundary: "processor"})
	if err != nil || len(rows) != 2 || task.Error == nil || task.Error.Code != string(gantry.CodeCorrupt) {
		t.Fatalf("%d calls, %v, %+v", len(rows), err, task.Error)
	}
	for _, c := range rows {
		switch {
		case c.Stage == "score" && c.Outcome != "ok", c.Stage == "again" && (c.Outcome != "failed" || c.ErrorKind != "illegal" || c.Status != 200):
			t.Errorf("%+v", c)
		}
	}
	if rows[0].RequestSHA256 == rows[1].RequestSHA256 {
		t.Error("the record says that both saw the same")
	}
}

func bytesIn(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// flipKept changes a bit of a file where its last bytes are kept, in the middle of them.
func flipKept(home string, file []byte) error {
	end := file[len(file)/4:] // behind the head that the sender gave it
	segments, err := filepath.Glob(filepath.Join(home, "blobs", "seg", "*", "*"))
	if err != nil {
		return err
	}
	for _, path := range segments {
		all, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		at := bytes.Index(all, end)
		if at < 0 {
			continue
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		half := at + len(end)/2
		_, err = f.WriteAt([]byte{all[half] ^ 1}, int64(half))
		return errors.Join(err, f.Close())
	}
	return errors.New("it is kept nowhere")
}
