package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestHeading names the way through a pipeline, with what lies around its stages.
func TestHeading(t *testing.T) {
	t.Parallel()
	p := func(m gantry.Mode, r gantry.Rejoin) *gantry.Pipeline {
		return &gantry.Pipeline{Name: "x", Stages: []gantry.Stage{{Name: "s", Mode: m, Call: []string{"a", "b"}}}, Sinks: []gantry.Endpoint{{Rejoin: r}}}
	}
	only := []pageStage{{"s", "calls a + b"}}
	for mode, c := range map[string]struct {
		x    act
		want []pageStage
	}{
		"sequential":            {act{pipeline: p(gantry.Sequential, "")}, only},
		"cumulative":            {act{pipeline: p(gantry.Cumulative, "")}, only},
		"fanout":                {act{pipeline: p(gantry.Fanout, "")}, only},
		"frame by frame":        {act{pipeline: p(gantry.Sequential, gantry.RejoinOriginal)}, []pageStage{{"take apart", ""}, only[0], {"put together", ""}}},
		"from bucket to bucket": {act{pipeline: p(gantry.Sequential, ""), buckets: true}, []pageStage{{"demo-in", "a bucket"}, only[0], {"demo-out", "another"}}},
	} {
		if got := c.x.heading(); got.Mode != mode || !cmp.Equal(c.want, got.Stages) || got.Buckets != c.x.buckets {
			t.Errorf("%s: %+v", mode, got)
		}
	}
}

// TestStand picks pictures that are there before and after.
func TestStand(t *testing.T) {
	t.Parallel()
	item := pageItem{Before: "in", After: []pageFile{{Link: "out"}}}
	frames := func(names ...string) (all []pageFrame) {
		for _, n := range names {
			all = append(all, pageFrame{Picture: n})
		}
		return all
	}
	for name, c := range map[string]struct {
		tasks         []pageTask
		before, after string
	}{
		"nothing":       {nil, "", ""},
		"a failed task": {[]pageTask{{}, {First: []pageItem{{Before: "x"}, item}}}, "in", "out"},
		"a strip":       {[]pageTask{{Strips: []pageStrip{{Before: frames("a", "b", "c"), After: frames("d", "e", "f")}}}}, "b", "e"},
		"half a strip":  {[]pageTask{{Strips: []pageStrip{{Before: frames("a", "b", "c")}}}}, "", ""},
		"no strip":      {[]pageTask{{Strips: []pageStrip{{}}}}, "", ""},
	} {
		a := pageAct{Tasks: c.tasks}
		if a.stand(); a.Before != c.before || a.After != c.after {
			t.Errorf("%s: %q, %q", name, a.Before, a.After)
		}
	}
}
