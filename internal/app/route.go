package app

import (
	"context"
	"errors"
	"path"
	"slices"
	"time"

	"github.com/gantry-imaging/gantry/internal/engine"
	"github.com/gantry-imaging/gantry/internal/fail"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// way is where an arrival goes: to a pipeline, and there to the lane of its source.
type way struct {
	plan    *engine.Plan
	lane    int32
	collect *gantry.Collect // which arrivals are one task together; nil: each is one of its own
}

// route is a way that takes the arrivals of which a rule holds; nil: all.
type route struct {
	way
	when gantry.Rule
}

// lanes are those that a feed's arrivals may go to.
func (f *feed) lanes() []int32 {
	if f.routes == nil {
		return []int32{f.lane}
	}
	var list []int32
	for _, r := range f.routes {
		list = append(list, r.lane)
	}
	return list
}

// ways finds where an arrival goes. If it goes nowhere, reason says why: no rule takes it, or one cannot be asked about
// it and never can, so that nobody knows. Where asking again may help it is an error.
func (in *intake) ways(ctx context.Context, f *feed, o offer, arrival int64) (to []way, reason gantry.Code, err error) {
	if f.routes == nil {
		return []way{{f.plan, f.lane, f.collect}}, "", nil
	}
	s := &sight{in: in, feed: f, object: o.Object, arrival: arrival, came: o.came}
	for _, r := range f.routes {
		holds, err := s.holds(ctx, r.when)
		if code, ever := hopeless(err); ever {
			return nil, code, nil
		}
		if err != nil {
			return nil, "", err
		}
		if !holds || leadsTo(to, r.plan) {
			continue
		}
		to = append(to, r.way)
		if f.match != gantry.MatchAll {
			break
		}
	}
	return to, gantry.CodeNoRoute, nil
}

func leadsTo(ways []way, plan *engine.Plan) bool {
	for _, w := range ways {
		if w.plan == plan {
			return true
		}
	}
	return false
}

// hopeless gives the code of an error about the object itself, or about what may be asked of it, that asking again
// does not change. Credentials that are refused altogether are none: somebody has to mend them, and no object is to
// be passed over until then.
func hopeless(err error) (gantry.Code, bool) {
	e, ok := errors.AsType[*gantry.Error](err)
	if !ok || errors.Is(err, gantry.ErrNotRecorded) || e.Kind != gantry.Illegal && e.Kind != gantry.Permanent {
		return "", false
	}
	return gantry.CodeOf(err), true
}

// become is what becomes of an arrival in the pipeline that a way leads to.
func (in *intake) become(w way, f *feed, o offer, a gantry.Arrival, run string) gantry.Admission {
	priority := behind(firstPriority(w.plan.Pipeline, a), o.Backlog)
	return gantry.Admission{Arrival: a, PublicID: gantry.PublicID(in.app.Key, w.plan.Name, f.name, o.Ref, a.Version, run), Pipeline: w.plan.ID,
		Lane: w.lane, Run: run, Priority: priority, Within: queued(w.plan.Pipeline, priority, time.Now())}
}

// unmatched puts an arrival on record that goes nowhere. Its bytes are not copied. Where the source tells no version, the
// row stands for whatever state of the object was looked at last.
func (in *intake) unmatched(ctx context.Context, f *feed, o offer, a gantry.Arrival, reason gantry.Code) error {
	a.Status, a.Reason, a.Size = gantry.Unmatched, reason, o.Size
	x := &admission{away: &a}
	if err := in.admit(ctx, x); err != nil {
		return err
	}
	if f.ledger != nil && reason != gantry.CodeNoRoute {
		f.ledger.unmatched(a)
	}
	if x.made > 0 {
		in.app.Metrics.Arrived(f.name, a.Status)
	}
	in.app.Log.Info("unmatched", "source", f.name, "arrival", a.ID, "code", string(reason))
	return nil
}

// flushAway writes what goes nowhere among what arrived at a moment.
func (in *intake) flushAway(ctx context.Context, batch []*admission) error {
	var list []gantry.Arrival
	for _, a := range batch {
		if a.away != nil {
			list = append(list, *a.away)
		}
	}
	if len(list) == 0 {
		return nil
	}
	made, err := in.app.Store.TurnAway(ctx, list)
	fail.Point("after_turn_away")
	for _, a := range batch {
		if a.away != nil && slices.Contains(made, a.away.ID) {
			a.made = 1
		}
	}
	return err
}

// matched is told of an arrival that was accepted: that a state of it which has no version was turned away, does not
// count any more.
func (in *intake) matched(ctx context.Context, f *feed, o offer, a gantry.Arrival) error {
	if f.routes == nil || o.Version != "" {
		return nil
	}
	return in.app.Store.Matched(ctx, a.Source, a.RefMAC)
}

// sight is what is known of an arrival while rules are asked about it.
type sight struct {
	in      *intake
	feed    *feed
	object  gantry.Object
	arrival int64
	came    *came
	known   gantry.Facts
	vars    map[string]any
}

// holds asks a rule, and before that finds out what it speaks of and is not known yet.
func (s *sight) holds(ctx context.Context, r gantry.Rule) (bool, error) {
	if r == nil {
		return true, nil
	}
	if s.vars == nil {
		o := s.object
		s.vars = map[string]any{"object": map[string]any{"key": o.Ref, "name": o.Name, "size": o.Size, "source": path.Base(s.feed.name)}}
	}
	if err := s.find(ctx, r.Facts()&^s.known); err != nil {
		return false, err
	}
	return r.Holds(s.vars)
}

// find finds out facts. What the source tells about an object is control traffic, as its listing is; a part of the
// object itself is a call on record.
func (s *sight) find(ctx context.Context, facts gantry.Facts) error {
	if facts.Has(gantry.FactHeader) && s.came != nil {
		if s.came.Tags != nil {
			s.vars["dicom"] = s.came.Tags
		}
		s.known |= gantry.FactHeader
		facts &^= gantry.FactHeader
	}
	if facts == 0 {
		return nil
	}
	source, ok := s.feed.source.(gantry.Described)
	if !ok {
		return gantry.Errorf(gantry.Permanent, "not_described", "look at object: its source tells nothing about it")
	}
	if told := facts &^ gantry.FactHeader; told != 0 {
		d, err := source.Describe(ctx, s.object, told)
		if err != nil {
			return err
		}
		s.keep(d, told)
	}
	if facts.Has(gantry.FactHeader) {
		tags, err := s.in.header(ctx, s.feed, source, s.object, s.arrival)
		if err != nil {
			return err
		}
		if tags != nil {
			s.vars["dicom"] = tags
		}
	}
	s.known |= facts
	return nil
}

// keep notes what a source told.
func (s *sight) keep(d gantry.Description, told gantry.Facts) {
	object := s.vars["object"].(map[string]any)
	if told.Has(gantry.FactHead) {
		object["content_type"], object["metadata"] = d.ContentType, texts(d.Metadata)
	}
	if told.Has(gantry.FactTags) {
		object["tags"] = texts(d.Tags)
	}
}

// texts are texts as expressions know them: what is missing is nothing, not an empty text.
func texts(m map[string]string) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}
