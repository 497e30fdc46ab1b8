package chaos

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// collectedPipelines get their inputs from a source that they share: all images of a folder are one task, and the first
// of each is another of its own. A collection is quiet for as long as processes look for others at least, so that all try to close it.
const collectedPipelines = `gantry: v1
name: collected
sinks: {results: {kind: dir, path: %[1]s/out/collected}}
group: {by: prefix, quiet: 1s, marker: _done, late: append}
stages:
  - {name: enhance, call: enhance}
  - {name: report, mode: cumulative, each: task, call: reporter}
processors:
  enhance: {kind: http, url: "%[2]s/v1/enhance", timeout: 2s, limits: {concurrency: 64}}
  reporter: {kind: http, url: "%[2]s/v1/report", body: zip, timeout: 2s, limits: {concurrency: 64}}
retry: {attempts: 30, initial: 20ms, max: 100ms}
---
gantry: v1
name: alone
sinks: {results: {kind: dir, path: %[1]s/out/alone}}
stages:
  - {name: quality, call: score}
processors:
  score: {kind: http, url: "%[2]s/v1/quality", timeout: 2s, limits: {concurrency: 64}}
retry: {attempts: 30, initial: 20ms, max: 100ms}
`

const deployment = `gantry: v1
pipelines: [pipelines]
sources:
  ward:
    kind: dir
    path: %[1]s/in/ward
    settle: 20ms
    after: move
    move_to: %[1]s/in/moved
    match: all
    routes:
      - {when: 'not (object.name endsWith ".txt")', to: collected}
      - {when: 'object.name == "0.png"', to: alone}
`

const (
	ofFolder = 3 // images
	marker   = "_done"
	note     = "note.txt" // which no rule takes
)

func folderName(n int) string { return fmt.Sprintf("%04d", n) }

// member is the image of a folder.
func member(n, i int) []byte { return picture(300000 + ofFolder*n + i) }

// dropFolder drops what a folder holds, but for its marker.
func (f *field) dropFolder(t *testing.T, n int) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(f.dir, "in", "ward", folderName(n)), 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range ofFolder {
		f.write(t, "ward", filepath.Join(folderName(n), strconv.Itoa(i)+".png"), member(n, i))
	}
	f.write(t, "ward", filepath.Join(folderName(n), note), []byte(folderName(n)))
}

// mark puts the marker into a folder all of whose images are on record, so that none is late however long nobody
// watches; into one at a time, since collections that are due together are closed together.
func (f *field) mark(t *testing.T, i *installation) {
	t.Helper()
	var names string
	i.scan(t, &names, `select coalesce(string_agg(name, ' ' order by id), '') from collection where not marked and arrivals = $1`, ofFolder)
	for name := range strings.FieldsSeq(names) {
		if _, err := os.Stat(filepath.Join(f.dir, "in", "ward", name, marker)); err != nil {
			f.write(t, "ward", filepath.Join(name, marker), nil)
			return
		}
	}
}

// hurry lets the minute pass for which objects are those of a process that may be dead.
func (f *field) hurry(t *testing.T, i *installation) {
	t.Helper()
	pass(t, i, "aftercare", "due")
}

// movedEarlySQL counts the calls that moved an image, or a marker, before a task that was made of it, alone or with others, or of the
// marker's folder, had ended.
const movedEarlySQL = `
select count(*) from call_intent i where op = $1 and arrival is not null and exists (select from task t where t.finished_at > i.at
  and (t.arrival = i.arrival or t.collection in (select collection from collection_member where arrival = i.arrival
    union all select c.id from arrival a join aftercare f using (source, ref_mac, version) join collection c on c.key_mac = any(f.groups) where a.id = i.arrival)))`

// tidy waits until the inputs of n folders are where they are to be in the end.
func (f *field) tidy(t *testing.T, i *installation, n int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); i.count(t, `select count(*) from aftercare where due is not null`) > 0; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("something is still to be done with %d inputs", i.count(t, `select count(*) from aftercare where due is not null`))
		}
		f.hurry(t, i)
	}
	if n := i.count(t, `select count(*) from collection`); n == 0 {
		t.Error("nothing was collected")
	}
	for _, x := range [][2]string{
		{"collections are open", `select count(*) from collection where not closed`},
		{"collections were closed with some members missing", `select count(*) from collection where revision <> 0 or reason <> 'marker'`},
		{"collections do not have all members", `select count(*) from collection c where arrivals <> 3 or 3 <> (select count(*) from collection_member where collection = c.id)`},
		{"collections are not one task", `select count(*) from collection c where 1 <> (select count(*) from task where collection = c.id and parent is null)`},
		{"inputs could not be moved", `select count(*) from aftercare where ended is distinct from 5 or code <> 'source_gone'`},
		{"arrivals are not known", `select count(*) from arrival where coalesce(sequencer, '') = ''`},
		{"images were moved by no call", `select count(*) from collection_member m where not exists (select from call_intent where op = $1 and arrival = m.arrival)`},
		{"images were moved before their tasks were done", movedEarlySQL},
	} {
		var args []any
		if strings.Contains(x[1], "$1") {
			args = append(args, gantry.OpMove)
		}
		if bad := i.count(t, x[1], args...); bad > 0 {
			t.Errorf("%d %s", bad, x[0])
		}
	}
	f.moved(t, n)
}

// moved wants each image, and each marker, where done ones go, under its own name, and nothing else; what no rule took stays.
func (f *field) moved(t *testing.T, n int) {
	t.Helper()
	for x := range n {
		for dir, want := range map[string]map[string][]byte{
			"moved": {"0.png": member(x, 0), "1.png": member(x, 1), "2.png": member(x, 2), marker: nil},
			"ward":  {note: []byte(folderName(x))},
		} {
			dir = filepath.Join(f.dir, "in", dir, folderName(x))
			files, err := os.ReadDir(dir)
			if err != nil || len(files) != len(want) {
				t.Errorf("%s: %v, %v", dir, files, err)
			}
			for name, b := range want {
				if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, b) {
					t.Errorf("%s/%s: %d bytes, %v", dir, name, len(got), err)
				}
			}
		}
	}
}
