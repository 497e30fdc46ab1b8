package gantry_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func TestSpans(t *testing.T) {
	for _, c := range []struct {
		ids  []gantry.ItemID
		want []gantry.Span
		text string
	}{
		{nil, nil, "{}"},
		{[]gantry.ItemID{4}, []gantry.Span{{First: 4, End: 5}}, "{[4,5)}"},
		{[]gantry.ItemID{0, 1, 2, 7, 9, 10}, []gantry.Span{{First: 0, End: 3}, {First: 7, End: 8}, {First: 9, End: 11}}, "{[0,3),[7,8),[9,11)}"},
	} {
		got := gantry.Spans(c.ids)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("spans of %v (-want +got):\n%s", c.ids, diff)
		}
		if text := gantry.FormatSpans(got); text != c.text {
			t.Errorf("spans of %v are written %s", c.ids, text)
		}
	}
}

func TestChildID(t *testing.T) {
	seen := map[string]bool{}
	for _, parent := range []string{"a", "b"} {
		for _, r := range []gantry.Role{gantry.Shard, gantry.Member} {
			for n := range 3 {
				id := gantry.ChildID(parent, r, n)
				if len(id) != 26 || seen[id] || id != gantry.ChildID(parent, r, n) {
					t.Errorf("%s of %s %s %d", id, parent, r, n)
				}
				seen[id] = true
			}
		}
	}
}
