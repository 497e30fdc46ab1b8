package pipeline

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestGroup: what divides an archive, what puts arrivals together, and what stands for keys that are absent.
func TestGroup(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		group  string
		divide gantry.GroupBy
		want   *gantry.Collect
	}{
		{"{}", "", nil},
		{"{by: study}", "study", nil},
		{"{by: series, quiet: 60s}", "series", &gantry.Collect{By: "series", Quiet: time.Minute, Cap: 24 * time.Hour, Late: "rerun"}},
		{"{by: patient, quiet: 2d}", "patient", &gantry.Collect{By: "patient", Quiet: 48 * time.Hour, Cap: 48 * time.Hour, Late: "rerun"}},
		{"{by: prefix, depth: 2, count: 324, cap: 30m, late: append}", "",
			&gantry.Collect{By: "prefix", Depth: 2, Count: 324, Cap: 30 * time.Minute, Late: "append"}},
		{"{by: prefix, marker: _done}", "", &gantry.Collect{By: "prefix", Marker: "_done", Quiet: 5 * time.Second, Cap: 24 * time.Hour, Late: "rerun"}},
		{"{by: prefix, depth: 1, marker: '*/_done', cap: 1s, late: ignore}", "",
			&gantry.Collect{By: "prefix", Depth: 1, Marker: "*/_done", Quiet: time.Second, Cap: time.Second, Late: "ignore"}},
		{"{by: prefix, marker: _done, quiet: 1ms}", "", &gantry.Collect{By: "prefix", Marker: "_done", Quiet: time.Millisecond, Cap: 24 * time.Hour, Late: "rerun"}},
	} {
		src := small
		if c.group != "{}" {
			src += "group: " + c.group + "\n"
		}
		p, err := Parse("test.yaml", []byte(src), fake{}, variables())
		if err != nil {
			t.Errorf("%s: %v", c.group, err)
			continue
		}
		again, err := ParseResolved(p.Resolved, fake{})
		if err != nil {
			t.Errorf("%s: its version: %v", c.group, err)
			continue
		}
		for _, p := range []*gantry.Pipeline{p, again} {
			if p.Group != c.divide {
				t.Errorf("%s divides archives by %q", c.group, p.Group)
			}
			if diff := cmp.Diff(c.want, p.Collect); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.group, diff)
			}
		}
	}
}

// TestGroupVersion: the rules are part of the version, and files without them keep theirs.
func TestGroupVersion(t *testing.T) {
	t.Parallel()
	seen := map[gantry.Digest]string{}
	for _, group := range []string{"", "group: {by: study}\n", "group: {by: study, quiet: 1s}\n", "group: {by: study, quiet: 2s}\n", "group: {by: study, quiet: 2s, late: append}\n"} {
		p, err := Parse("test.yaml", []byte(small+group), fake{}, variables())
		if err != nil {
			t.Fatal(err)
		}
		if other, known := seen[p.Version]; known {
			t.Errorf("%q has the version of %q", group, other)
		}
		seen[p.Version] = group
	}
}
