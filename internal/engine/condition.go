package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// maxResult is the largest JSON answer that a condition may speak of, in bytes.
const maxResult = 1 << 20

// Package pipeline says which variables a condition gets. They are made of committed rows and of
// bytes that never change, so a condition has the same value in every process. What it does not
// speak of is not read.

// speaks tells whether a condition may use a name. In a text with escapes any name may hide.
func speaks(text, name string) bool {
	return strings.Contains(text, name) || strings.Contains(text, `\`)
}

// admit applies the pipeline's own condition once a task's media are known.
func (w *work) admit(ctx context.Context) (gantry.Event, error) {
	c := w.plan.When
	if c == nil {
		return gantry.Finish, nil
	}
	vars, err := w.taskVars(ctx, c)
	if err != nil {
		return "", err
	}
	holds, err := c.Holds(vars)
	switch {
	case err != nil:
		return "", err
	case !holds:
		return gantry.Filter, nil
	}
	return gantry.Finish, nil
}

// taskVars makes the variables of the pipeline's own expressions, as far as one of them speaks of them.
func (w *work) taskVars(ctx context.Context, of fmt.Stringer) (map[string]any, error) {
	list, err := w.e.Store.Originals(ctx, w.task.Task)
	if err != nil {
		return nil, err
	}
	came := w.sound()
	vars := map[string]any{
		"object": w.object(list),
		"items":  map[string]any{"count": len(came.origins)},
	}
	first := slices.IndexFunc(came.origins, func(id gantry.ItemID) bool {
		_, is := w.fileOf(id)
		return is
	})
	if first >= 0 {
		if vars["dicom"], err = w.tagsFor(ctx, of, came.origins[first]); err != nil {
			return nil, err
		}
	}
	return vars, nil
}

// object is what expressions know of what the task was made of. A collection has the size of all its members, how many
// they are, and a media type if they share one.
func (w *work) object(list []gantry.Arrival) map[string]any {
	roots := w.originals()
	vars := map[string]any{"size": int64(0), "media": "", "source": path.Base(list[0].Source)}
	if len(roots) > 0 {
		vars["size"], vars["media"] = roots[0].Size, roots[0].Media
	}
	if !w.many {
		return vars
	}
	var size int64
	for _, a := range list {
		size += a.Size
	}
	vars["size"], vars["count"] = size, len(list)
	if slices.ContainsFunc(roots, func(x gantry.Item) bool { return x.Media != roots[0].Media }) {
		vars["media"] = ""
	}
	return vars
}

// asked tells by the stage's when whether a group is sent.
func (w *work) asked(ctx context.Context, stage int16, p *passage, g group) (gantry.PartStatus, error) {
	c := w.plan.Stages[stage].When
	if c == nil {
		return gantry.PartPlanned, nil
	}
	vars, err := w.about(ctx, c, stage, p, g.origins, w.plan.Stages[stage].Each == gantry.EachTask)
	if err != nil {
		return 0, err
	}
	holds, err := c.Holds(vars)
	if err != nil || holds {
		return gantry.PartPlanned, err
	}
	return gantry.PartSkipped, nil
}

// keepOnly applies the stage's keep_if to every origin that it leaves, whether or not it was sent.
// Of one that is left out, what the stage itself answered is delivered.
func (w *work) keepOnly(ctx context.Context, stage int16, p *passage) error {
	c := w.plan.Stages[stage].KeepIf
	if c == nil {
		return nil
	}
	kept := newFlow()
	kept.whole = p.left.whole
	for _, o := range p.left.origins {
		vars, err := w.about(ctx, c, stage, p, []gantry.ItemID{o}, false)
		if err != nil {
			return err
		}
		if err := w.addResults(ctx, c, vars, stage, p, o); err != nil {
			return err
		}
		holds, err := c.Holds(vars)
		switch {
		case err != nil:
			return err
		case holds:
			kept.add(o, p.left.of[o]...)
			continue
		}
		for _, x := range w.itemsOf(p.left.of[o]) {
			if x.Stage == stage {
				p.ends = append(p.ends, x.ID)
			}
		}
	}
	p.left = kept
	return nil
}

// about makes the variables that when and keep_if share, of origins in a stage. Of the whole task, the
// answers of an earlier stage are those about every origin that it was given, gaps among them.
func (w *work) about(ctx context.Context, c gantry.Condition, stage int16, p *passage, origins []gantry.ItemID, whole bool) (map[string]any, error) {
	first, _ := w.item(origins[0])
	place, _ := slices.BinarySearch(w.ownIDs(), origins[0])
	frame, size := 0, first.Size
	if isFrame(first) {
		frame = int(first.Ordinal) + 1
	}
	if first.Transform == dicomFrame {
		size = 0 // it is known only once the frame was read, and a condition must not change by that
	}
	vars := map[string]any{"item": map[string]any{"media": first.Media, "size": size, "frame": frame, "index": w.before() + place}}
	var err error
	if vars["dicom"], err = w.tagsFor(ctx, c, origins[0]); err != nil {
		return nil, err
	}
	if !speaks(c.String(), "stages") {
		return vars, nil
	}
	stages := map[string]any{}
	for s, e := range w.passages[:stage] {
		st := w.plan.Stages[s]
		if !speaks(c.String(), st.Name) {
			continue
		}
		seen, of := origins, map[string]any{}
		if whole || e.came.whole == nil && p.came.whole != nil && origins[0] == 0 {
			seen = e.came.origins
		}
		for i, name := range st.Call {
			if of[name], err = w.entries(ctx, int16(s), int16(i), e, seen); err != nil {
				return nil, err
			}
		}
		stages[st.Name] = of
	}
	vars["stages"] = stages
	return vars, nil
}

// ownIDs gives the task's own sound media in order.
func (w *work) ownIDs() []gantry.ItemID {
	if w.own == nil {
		w.own = w.sound().origins
	}
	return w.own
}

// entries tells for each origin whether a processor of an earlier stage answered about it, and what.
// A stage that was about the whole task, or a batch, says the same for each.
func (w *work) entries(ctx context.Context, stage, processor int16, e *passage, origins []gantry.ItemID) ([]any, error) {
	var out []any
	for _, o := range origins {
		groups, known := e.about[o]
		ok := known
		for _, i := range groups {
			p, _ := w.live(stage, processor, e.groups[i].ordinal)
			ok = ok && p.Status == gantry.PartOK
		}
		result, _, err := w.result(ctx, e, processor, groups)
		if err != nil {
			return nil, err
		}
		out = append(out, map[string]any{"ok": ok, "result": result})
	}
	return out, nil
}

// addResults adds what the stage itself answered about an origin.
func (w *work) addResults(ctx context.Context, c gantry.Condition, vars map[string]any, stage int16, p *passage, o gantry.ItemID) error {
	if !speaks(c.String(), "result") {
		return nil
	}
	results := map[string]any{}
	st := w.plan.Stages[stage]
	for i, name := range st.Call {
		v, ok, err := w.result(ctx, p, int16(i), p.about[o])
		if err != nil {
			return err
		}
		if ok {
			results[name] = v
		}
	}
	vars["results"] = results
	if len(st.Call) == 1 {
		vars["result"] = results[st.Call[0]]
	}
	return nil
}

// result reads the first JSON that a processor answered for groups.
func (w *work) result(ctx context.Context, p *passage, processor int16, groups []int) (v any, ok bool, err error) {
	for _, i := range groups {
		for _, x := range p.made[answerKey{processor, int32(i)}] {
			if x.Media == gantry.MediaJSON {
				v, err = w.readJSON(ctx, x)
				return v, err == nil, err
			}
		}
	}
	return nil, false, nil
}

func (w *work) readJSON(ctx context.Context, x gantry.Item) (v any, err error) {
	if x.Size > maxResult {
		return nil, gantry.Errorf(gantry.Illegal, gantry.CodeTooLarge, "read result: %d bytes, more than the %d that a condition may speak of", x.Size, maxResult)
	}
	r, err := w.open(ctx, x)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(readerWith(ctx, r))
	if err != nil {
		return nil, err
	}
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(&v); err != nil {
		return nil, gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "read result: it is no JSON")
	}
	return v, nil
}

// tagsFor reads the attributes of a DICOM file that conditions of the pipeline speak of. It gives
// nil, as an interface too, for other media and where the condition speaks of none.
func (w *work) tagsFor(ctx context.Context, c fmt.Stringer, id gantry.ItemID) (any, error) {
	x, ok := w.fileOf(id)
	if !ok || !speaks(c.String(), "dicom") {
		return nil, nil
	}
	id = x.ID
	if known, ok := w.tags[id]; ok {
		return known, nil
	}
	r, err := w.open(ctx, x)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	all, err := dicom.Tags(readerWith(ctx, r), x.Size)
	if err != nil {
		return nil, err
	}
	text := w.conditions()
	tags := map[string]string{}
	for keyword, value := range all {
		if speaks(text, keyword) {
			tags[keyword] = value
		}
	}
	if w.tags == nil {
		w.tags = map[gantry.ItemID]map[string]string{}
	}
	w.tags[id] = tags
	return tags, nil
}

// conditions gives all conditions of the pipeline as one text.
func (w *work) conditions() string {
	var b strings.Builder
	add := func(c gantry.Condition) {
		if c != nil {
			b.WriteString(c.String() + "\n")
		}
	}
	add(w.plan.When)
	if r := w.order.Ranking; r != nil {
		b.WriteString(r.String() + "\n")
	}
	for _, st := range w.plan.Stages {
		add(st.When)
		add(st.KeepIf)
	}
	return b.String()
}
