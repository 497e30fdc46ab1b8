package app_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// TestUploadOfTwoStudies: the archive's task lists those of its studies, and each of them says its outputs.
func TestUploadOfTwoStudies(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil, strings.Replace(up(serve(t, scoring).URL), "stages:", "group: {by: study}\nstages:", 1))
	ct := study(t, 2)
	other := bytes.Clone(ct[1]) // of another study: the last digit of its UID, element (0020,000D), is another
	at := bytes.Index(other, []byte("\x20\x00\x0d\x00UI"))
	last := at + 8 + int(other[at+6]) - 1
	if other[last] == 0 {
		last--
	}
	other[last] = '0' + (other[last]-'0'+1)%10
	a := f.upload("?wait=20s", packed(t, entry{name: "a", body: ct[0]}, entry{name: "b", body: ct[1]}, entry{name: "c", body: other}))
	if a.said.State != "done" {
		t.Fatalf("%d, %s", a.status, a.body)
	}
	var m struct {
		Children []struct{ Task string }
	}
	got := f.ask("GET", a.header.Get("Location")+"/outputs", nil)
	if err := json.Unmarshal(got.body, &m); err != nil || len(m.Children) != 2 {
		t.Fatalf("%s, %v", got.body, err)
	}
	for _, c := range m.Children {
		want, raw := manifestOf(t, f.out, c.Task)
		if got := f.ask("GET", "/api/v1/tasks/"+c.Task+"/outputs", nil); string(got.body) != string(raw) || len(want.Outputs) == 0 {
			t.Errorf("%s: %s", c.Task, got.body)
		}
	}
}
