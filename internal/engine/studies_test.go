package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/sample"
)

// slicesOf gives two files of one study, and one of another.
func slicesOf(t *testing.T) [3][]byte {
	t.Helper()
	files, err := sample.CT(3, 16)
	if err != nil {
		t.Fatal(err)
	}
	tags, err := dicom.Tags(bytes.NewReader(files[2]), int64(len(files[2])))
	if err != nil {
		t.Fatal(err)
	}
	uid := []byte(tags["StudyInstanceUID"])
	other := append(bytes.Clone(uid[:len(uid)-1]), uid[len(uid)-1]^1)
	return [3][]byte{files[0], files[1], bytes.ReplaceAll(files[2], uid, other)}
}

// grouped is a task with two files of a study, one of them in frames, one of another study, and a picture.
func grouped(t *testing.T, by gantry.GroupBy) *world {
	t.Helper()
	w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
	w.plan.Group = by
	w.plan.Timeouts.Queued = time.Hour
	files := slicesOf(t)
	add := func(parent gantry.ItemID, media string, body []byte) {
		id := gantry.ItemID(len(w.items))
		w.items = append(w.items, gantry.Item{ID: id, Origin: id, Parent: parent, Stage: gantry.OriginalStage, Media: media, Body: body, Size: int64(len(body))})
	}
	add(gantry.NoItem, gantry.MediaZIP, []byte("x"))
	add(0, gantry.MediaDICOM, files[0])
	add(1, gantry.MediaPNG, tinyPNG(t)) // its frames
	add(1, gantry.MediaPNG, tinyPNG(t))
	add(0, gantry.MediaPNG, tinyPNG(t))
	add(0, gantry.MediaDICOM, files[2])
	add(0, gantry.MediaDICOM, files[1])
	return w
}

// TestGroups divides by the attribute of the file that a piece of media is, or is a frame of.
func TestGroups(t *testing.T) {
	t.Parallel()
	for by, want := range map[gantry.GroupBy][][]gantry.Span{
		gantry.GroupStudy:   {{{First: 2, End: 4}, {First: 6, End: 7}}, {{First: 4, End: 5}}, {{First: 5, End: 6}}},
		gantry.GroupSeries:  {{{First: 2, End: 4}, {First: 5, End: 7}}, {{First: 4, End: 5}}},
		gantry.GroupPatient: {{{First: 2, End: 4}, {First: 5, End: 7}}, {{First: 4, End: 5}}},
		gantry.GroupNone:    nil,
	} {
		w := grouped(t, by)
		tr := w.step(t.Context(), gantry.Ingesting, 0)
		if by == gantry.GroupNone {
			if tr.To != gantry.Inferring || tr.Divide != nil {
				t.Errorf("without grouping: %+v", tr)
			}
			continue
		}
		if tr.Change != gantry.Wait || tr.To != gantry.Ingesting || tr.Within < time.Hour+10*time.Minute || tr.Divide.Role != gantry.Member ||
			tr.Divide.State != gantry.Queued || tr.Divide.Within != time.Hour {
			t.Errorf("by %s: %+v", by, tr)
		}
		var got [][]gantry.Span
		for _, c := range tr.Divide.Children {
			got = append(got, c.Members)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("by %s (-want +got):\n%s", by, diff)
		}
	}
}

// TestUnreadableGroup tries again where a file cannot be read, and makes no child of what it does not know.
func TestUnreadableGroup(t *testing.T) {
	t.Parallel()
	w := grouped(t, gantry.GroupStudy)
	w.items[6].Body, w.items[6].Location = nil, "gone" // it reads as empty
	x := &work{e: New(Options{Store: w, Session: w, Blobs: w.blobs, Plans: w}), plan: w.plan, items: w.items, task: top}
	x.shelf = newShelf(x.e)
	err := x.divideByGroup(t.Context())
	if _, is := errors.AsType[waits](err); err == nil || is {
		t.Errorf("it went on with %v", err)
	}
}

// TestMembersAwaited waits for the members, calls nothing itself, and says how each ended.
func TestMembersAwaited(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		second gantry.State
		code   gantry.Code
		to     gantry.State
	}{{gantry.Done, "", gantry.Done}, {gantry.Failed, "empty", gantry.Failed}, {gantry.Cancelled, gantry.CodeRunnerGone, gantry.Failed}} {
		w := grouped(t, gantry.GroupStudy)
		for i, s := range []gantry.State{gantry.Done, gantry.Responding} {
			w.kin[gantry.TaskID(100+i)] = &child{parent: lease.Task, ChildTask: gantry.ChildTask{ID: gantry.TaskID(100 + i), PublicID: "m" + string(rune('0'+i)),
				Role: gantry.Member, Ordinal: int32(i), Members: int32(3 - i), State: s}}
		}
		if tr := w.step(t.Context(), gantry.Ingesting, 0); tr.Change != gantry.Wait || tr.Divide != nil {
			t.Fatalf("with a member open: %+v", tr)
		}
		second := w.kin[101]
		second.State, second.Code, second.Kind, second.Detail = c.second, c.code, gantry.Illegal, "no bytes"
		for _, s := range []struct{ at, to gantry.State }{{gantry.Ingesting, gantry.Inferring}, {gantry.Inferring, gantry.Responding}, {gantry.Responding, c.to}} {
			if tr := w.step(t.Context(), s.at, 0); tr.To != s.to || tr.Code != c.code && s.at == gantry.Responding {
				t.Errorf("%s with a member %s: %+v", s.at, c.second, tr)
			}
		}
		var m manifest
		if err := json.Unmarshal([]byte(w.sealed["id/_manifest.json"]), &m); err != nil {
			t.Fatal(err)
		}
		want := []manifestChild{{"m0", 3, "done", "", 0}, {"m1", 2, c.second.String(), string(c.code), 0}}
		if diff := cmp.Diff(want, m.Children); diff != "" || len(w.called)+len(m.Items)+len(m.Outputs) > 0 || len(w.put) != 1 {
			t.Errorf("called %v, delivered %v, children (-want +got):\n%s", w.called, w.put, diff)
		}
	}
}

// TestMember goes through the states on its parent's media, and looks at none of them again.
func TestMember(t *testing.T) {
	t.Parallel()
	w := grouped(t, gantry.GroupStudy)
	w.kin[100] = &child{parent: lease.Task, members: []gantry.Span{{First: 2, End: 4}, {First: 6, End: 7}}, parts: map[gantry.PartKey]gantry.Part{},
		ChildTask: gantry.ChildTask{ID: 100, Role: gantry.Member}}
	f := &family{world: w, ended: map[gantry.TaskID]gantry.Transition{}}
	tr := f.run(t.Context(), gantry.Task{Lease: gantry.Lease{Task: 100, Seq: 1}, PublicID: "m", Role: gantry.Member, Parent: lease.Task})
	if tr.To != gantry.Done {
		t.Fatalf("ended with %+v", tr)
	}
	if diff := cmp.Diff([]string{"m/0/a/m/0/0", "m/0/a/m/1/0", "m/0/a/m/2/0"}, w.calledKeys()); diff != "" {
		t.Errorf("called (-want +got):\n%s", diff)
	}
	var m manifest
	if err := json.Unmarshal([]byte(w.sealed["m/_manifest.json"]), &m); err != nil {
		t.Fatal(err)
	}
	if len(m.Items) != 3 || len(m.Outputs) != 3 || m.Outputs[2].Parent != m.Items[2].Path || m.Children != nil || m.Items[0].Media != gantry.MediaPNG {
		t.Errorf("manifest %+v", m)
	}
	for _, x := range w.kin[100].items {
		if x.ID < ownItems || x.Origin >= ownItems {
			t.Errorf("the member made item %d of %d", x.ID, x.Origin)
		}
	}
}
