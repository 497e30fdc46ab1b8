package main

import (
	"slices"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// heading is what the page says of a pipeline before its tasks.
func (x *act) heading() pageAct {
	p := x.pipeline
	a := pageAct{Name: p.Name, Text: p.Description, Took: x.took, Buckets: x.buckets, Mode: string(gantry.Sequential)}
	for _, st := range p.Stages {
		a.Stages = append(a.Stages, pageStage{st.Name, "calls " + strings.Join(st.Call, " + ")})
	}
	mode := func(m gantry.Mode) bool {
		return slices.ContainsFunc(p.Stages, func(s gantry.Stage) bool { return s.Mode == m })
	}
	rejoin := func(s gantry.Endpoint) bool { return s.Rejoin == gantry.RejoinOriginal }
	switch {
	case x.buckets:
		a.Mode = "from bucket to bucket"
		a.enclose(pageStage{strings.Trim(bucketIn, "/"), "a bucket"}, pageStage{strings.Trim(bucketOut, "/"), "another"})
	case slices.ContainsFunc(p.Sinks, rejoin):
		a.Mode = "frame by frame"
		a.enclose(pageStage{Name: "take apart"}, pageStage{Name: "put together"})
	case mode(gantry.Fanout):
		a.Mode = string(gantry.Fanout)
	case mode(gantry.Cumulative):
		a.Mode = string(gantry.Cumulative)
	}
	return a
}

// enclose puts a step before the stages and one behind them.
func (a *pageAct) enclose(before, after pageStage) {
	a.Stages = append(append([]pageStage{before}, a.Stages...), after)
}

// stand picks the pictures that stand for the pipeline: of the first image that has one before and one after it, or
// of the middle of a strip.
func (a *pageAct) stand() {
	for _, t := range a.Tasks {
		for _, s := range t.Strips {
			if m := len(s.Before) / 2; m < len(s.Before) && m < len(s.After) {
				a.Before, a.After = s.Before[m].Picture, s.After[m].Picture
				return
			}
		}
		for _, x := range t.First {
			if x.Before != "" && len(x.After) > 0 {
				a.Before, a.After = x.Before, x.After[0].Link
				return
			}
		}
	}
}
