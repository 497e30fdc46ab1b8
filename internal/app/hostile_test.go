package app_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"image"
	"image/jpeg"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// beside is how many good tasks run among hostile ones.
const beside = 20

// hostile is one input and how its task is to end.
type hostile struct {
	path string
	want []string // codes, one of which is right; none: it is done
	// remark is a warning on one of the items; empty: not looked at.
	remark []string
	items  int // how many there are to be; 0: not looked at
}

func strict(url string) string {
	return head("strict") + `
extract: {archives: [zip, tar, tar.gz, tar.zst], depth: 3, max_bytes: 512MiB, max_entries: 10000, max_ratio: 100}
on_error: fail
stages: [{name: score, call: score}]
processors: {score: {kind: http, url: "` + url + `/score"}}
`
}

// framed is strict, and takes multi-frame files and videos apart.
func framed(url string) string {
	return strings.Replace(strict(url), "extract: {", "extract: {frames: png, video: png, ", 1)
}

// ordeal runs hostile inputs and good ones in one run of a pipeline and holds each to its end.
func ordeal(t *testing.T, source func(url string) string, list []hostile) {
	t.Helper()
	forgetPeak(t)
	s := serve(t, scoring)
	r := newRig(t, nil)
	var inputs []string
	before := map[string]string{}
	for _, x := range list {
		inputs = append(inputs, x.path)
		before[x.path] = fingerprint(t, x.path)
	}
	for i := range beside {
		good := file(t, "good.png", noise(24, [32]byte{byte(i), 1}))
		at := i * len(inputs) / beside
		inputs = slices.Insert(inputs, at, good)
		list = slices.Insert(list, at, hostile{path: good})
		before[good] = fingerprint(t, good)
	}
	foreseen(t, source("http://127.0.0.1:9"), list)
	known := map[string]bool{}
	for i, o := range r.run(source(s.URL), r.out, inputs...) {
		judge(t, r, o, list[i])
		if fingerprint(t, o.Input) != before[o.Input] {
			t.Errorf("%s was changed", o.Input)
		}
		known[o.ID] = true
	}
	for _, e := range delivered(t, r.out) {
		if id, _, _ := strings.Cut(e, "/"); !known[id] {
			t.Errorf("%s lies outside of every task's folder", e)
		}
	}
	for _, p := range []string{"slip.png", "evil.png"} {
		if _, err := os.Stat(filepath.Join(filepath.Dir(r.out), p)); err == nil {
			t.Errorf("%s was written beside the results", p)
		}
	}
	mustBeSmall(t)
}

// foreseen holds the preview of each input to the end that it is to have, without a call.
func foreseen(t *testing.T, source string, list []hostile) {
	t.Helper()
	p := parsed(t, source)
	for _, x := range list {
		got := string(planned(t, p, nil, x.path).Inputs[0].Code)
		if len(x.want) == 0 && got != "" || len(x.want) > 0 && !slices.Contains(x.want, got) {
			t.Errorf("preview of %s: %q, want one of %v", filepath.Base(x.path), got, x.want)
		}
	}
}

// judge holds one outcome to what was to come of it.
func judge(t *testing.T, r *rig, o app.Outcome, x hostile) {
	t.Helper()
	name := filepath.Join(filepath.Base(filepath.Dir(x.path)), filepath.Base(x.path))
	if len(x.want) > 0 {
		if o.State != "failed" || o.Error == nil || !slices.Contains(x.want, o.Error.Code) || o.Error.Kind != gantry.Illegal.String() {
			t.Errorf("%s: %s %+v, want failed with one of %v", name, o.State, o.Error, x.want)
		}
		if strings.Contains(fmt.Sprint(o.Error), filepath.Base(x.path)) {
			t.Errorf("%s: the error names the file", name)
		}
		if files := delivered(t, filepath.Join(r.out, o.ID)); len(files) > 0 {
			t.Errorf("%s: delivered %v", name, files)
		}
		return
	}
	if o.State != "done" {
		t.Errorf("%s: %s %+v, want done", name, o.State, o.Error)
		return
	}
	m, _ := manifestOf(t, r.out, o.ID)
	if len(m.Errors) != 0 || len(m.Outputs) != len(m.Items) || len(m.Items) == 0 {
		t.Errorf("%s: %d items, %d outputs, %d errors", name, len(m.Items), len(m.Outputs), len(m.Errors))
	}
	if x.items > 0 && len(m.Items) != x.items {
		t.Errorf("%s: %d items, want %d", name, len(m.Items), x.items)
	}
	if len(x.remark) > 0 && !slices.ContainsFunc(r.items(o.ID), func(i gantry.Item) bool { return slices.Contains(x.remark, string(i.Reason)) }) {
		t.Errorf("%s: no item has a remark of %v", name, x.remark)
	}
}

// items are what the store holds of a task.
func (r *rig) items(id string) []gantry.Item {
	r.t.Helper()
	task, err := r.Store.Task(r.t.Context(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	items, err := r.Store.Items(r.t.Context(), gantry.TaskID(task.Key))
	if err != nil {
		r.t.Fatal(err)
	}
	return items
}

func fingerprint(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return digest(b)
}

// TestHostileInputs holds each generated hostile input to its reason, with good ones beside.
func TestHostileInputs(t *testing.T) {
	slice, picture := study(t, 1)[0], noise(60, [32]byte{7})
	dir := t.TempDir()
	var list []hostile
	add := func(name string, body []byte, want ...string) {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, body, 0o644); err != nil {
			t.Fatal(err)
		}
		list = append(list, hostile{path: path, want: want})
	}
	add("empty.dcm", nil, "empty")
	add("cut.dcm", slice[:len(slice)-100], "truncated")
	add("cut-tags.dcm", slice[:300], "truncated", "length_out_of_bounds", "malformed")
	add("flipped.png", flip(picture, 600), "checksum_mismatch", "malformed")
	add("cut.png", picture[:len(picture)-30], "truncated")
	add("flipped.dcm", flip(slice, 134), "malformed", "bad_vr", "length_out_of_bounds")
	add("page.dcm", []byte("<!doctype html><html><title>502 Bad Gateway</title></html>"), "not_dicom")
	add("words.txt", []byte("no image"), "unsupported_format")
	add("picture.jpg", picture)
	list[len(list)-1].remark = []string{"extension_mismatch"}
	for i, name := range []string{"../slip.png", "/slip.png", `..\slip.png`, "a/../../slip.png", "C:/slip.png"} {
		add(fmt.Sprintf("slip%d.zip", i), packed(t, entry{name: name, body: picture}), "unsafe_path")
	}
	add("bomb.zip", packed(t, entry{name: "zeros.png", body: make([]byte, 40<<20)}), "archive_bomb")
	add("many.zip", manyEntries(t, 10_001), "too_many_entries")
	add("encrypted.zip", encrypted(t, picture), "encrypted")
	add("no-entries.zip", packed(t), "empty")
	add("cut.zip", packed(t, entry{name: "a.png", body: picture})[:200], "truncated", "malformed")
	add("nested3.zip", nest(t, picture, 3))
	add("nested4.zip", nest(t, picture, 4), "too_deep")
	add("sum.zip", flip(packed(t, entry{name: "a.png", body: picture, stored: true}), 700), "checksum_mismatch", "malformed")
	add("whole.tgz", tarred(t, true, entry{name: "a.png", body: picture}, entry{name: "in.tar", body: tarred(t, false, entry{name: "b.dcm", body: slice})}))
	add("slip.tar", tarred(t, false, entry{name: "../slip.png", body: picture}), "unsafe_path")
	add("cut.tar", tarred(t, false, entry{name: "a.png", body: picture})[:2048], "truncated")
	add("cut.tar.gz", tarred(t, true, entry{name: "a.png", body: picture})[:300], "truncated")
	add("no-tar.gz", zipped(t, picture), "unsupported_format")
	add("bomb.tar.gz", tarred(t, true, entry{name: "zeros.png", body: make([]byte, 40<<20)}), "archive_bomb")
	add("deep.zip", nest(t, tarred(t, true, entry{name: "a.png", body: picture}), 3), "too_deep")
	add("photo.jpg", photo(t))
	add("cut.jpg", photo(t)[:200], "truncated")
	add("flipped.jpg", flip(photo(t), 3), "malformed")
	add("bad-among-good.zip", packed(t, entry{name: "a.png", body: picture}, entry{name: "b.dcm", body: slice[:len(slice)-9]}), "truncated")
	ordeal(t, strict, list)
}

// flip gives a copy with one bit changed.
func flip(b []byte, at int) []byte {
	b = slices.Clone(b)
	b[at] ^= 0x10
	return b
}

// tarred packs a tar, in a gzip stream if wanted.
func tarred(t *testing.T, compressed bool, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		err := w.WriteHeader(&tar.Header{Name: e.name, Mode: 0o644, Size: int64(len(e.body))})
		if err == nil {
			_, err = w.Write(e.body)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if compressed {
		return zipped(t, b.Bytes())
	}
	return b.Bytes()
}

func zipped(t *testing.T, body []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// photo is a JPEG.
func photo(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, image.NewGray(image.Rect(0, 0, 64, 64)), nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// nest wraps an image into n archives.
func nest(t *testing.T, body []byte, n int) []byte {
	t.Helper()
	name := "x.png"
	for range n {
		body, name = packed(t, entry{name: name, body: body}), "in.zip"
	}
	return body
}

func manyEntries(t *testing.T, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := range n {
		if _, err := z.CreateHeader(&zip.FileHeader{Name: fmt.Sprint(i), Method: zip.Store}); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// encrypted sets the flag of encryption in both headers of the only entry.
func encrypted(t *testing.T, body []byte) []byte {
	t.Helper()
	b := packed(t, entry{name: "a.png", body: body, stored: true})
	set := func(at int) {
		binary.LittleEndian.PutUint16(b[at:], binary.LittleEndian.Uint16(b[at:])|1)
	}
	set(6)
	set(bytes.LastIndex(b, []byte("PK\x01\x02")) + 8)
	return b
}
