package postgres

import (
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// The statements take their rows as one array per column. The types below collect those arrays in
// the order of the statements' parameters.

type resultColumns struct {
	task   []int64
	seq    []int32
	cursor []int64

	item struct {
		task                        []int64
		id, parent, origin, ordinal []int32
		part                        []int32
		leg, stage, processor, gen  []int16
		rejected                    []bool
		size                        []int64
		media, transform, locator   []string
		location, reason            []string
		name                        []*string
		sha, body                   [][]byte
	}
	mark struct {
		task     []int64
		id       []int32
		sha      [][]byte
		size     []int64
		reason   []string
		rejected []bool
	}
	part struct {
		task                  []int64
		leg, stage, processor []int16
		ordinal               []int32
		gen, status, attempt  []int16
		first, count          []int32
		due                   []int64
		reason                []string
	}
}

func newResultColumns(writes []*gantry.Write) *resultColumns {
	c := &resultColumns{}
	at := map[gantry.TaskID]int{}
	for _, w := range writes {
		if !hasResults(w) {
			continue
		}
		task := int64(w.Lease.Task)
		k, seen := at[w.Lease.Task]
		if !seen {
			k = len(c.task)
			at[w.Lease.Task] = k
			c.task, c.seq, c.cursor = append(c.task, task), append(c.seq, w.Lease.Seq), append(c.cursor, 0)
		}
		c.cursor[k] = max(c.cursor[k], w.Cursor)
		for i := range w.Items {
			c.addItem(task, &w.Items[i])
		}
		for i := range w.Marks {
			c.addMark(task, &w.Marks[i])
		}
		for i := range w.Plan {
			c.addPart(task, &w.Plan[i])
		}
		for i := range w.Parts {
			c.addPart(task, &w.Parts[i])
		}
	}
	return c
}

func (c *resultColumns) empty() bool { return len(c.task) == 0 }

func (c *resultColumns) addItem(task int64, x *gantry.Item) {
	t := &c.item
	t.task, t.id, t.parent, t.origin = append(t.task, task), append(t.id, int32(x.ID)), append(t.parent, int32(x.Parent)), append(t.origin, int32(x.Origin))
	t.ordinal, t.part = append(t.ordinal, x.Ordinal), append(t.part, x.Part)
	t.leg, t.stage, t.processor, t.gen = append(t.leg, x.Leg), append(t.stage, x.Stage), append(t.processor, x.Processor), append(t.gen, x.Generation)
	t.rejected, t.size = append(t.rejected, x.Rejected), append(t.size, x.Size)
	t.media, t.transform, t.locator = append(t.media, x.Media), append(t.transform, x.Transform), append(t.locator, x.Locator)
	t.location, t.reason = append(t.location, x.Location), append(t.reason, string(x.Reason))
	t.name, t.sha, t.body = append(t.name, textOrNull(x.Name)), append(t.sha, digestOrNull(x.SHA)), append(t.body, x.Body)
}

func (c *resultColumns) addMark(task int64, x *gantry.ItemMark) {
	t := &c.mark
	t.task, t.id, t.sha = append(t.task, task), append(t.id, int32(x.ID)), append(t.sha, digestOrNull(x.SHA))
	t.size, t.reason, t.rejected = append(t.size, x.Size), append(t.reason, string(x.Reason)), append(t.rejected, x.Rejected)
}

func (c *resultColumns) addPart(task int64, x *gantry.Part) {
	t := &c.part
	t.task, t.leg, t.stage, t.processor = append(t.task, task), append(t.leg, x.Leg), append(t.stage, x.Stage), append(t.processor, x.Processor)
	t.ordinal, t.gen = append(t.ordinal, x.Ordinal), append(t.gen, x.Generation)
	t.status, t.attempt = append(t.status, int16(x.Status)), append(t.attempt, x.Attempt)
	t.first, t.count = append(t.first, int32(x.First)), append(t.count, x.Count)
	t.due, t.reason = append(t.due, x.DueIn), append(t.reason, string(x.Reason))
}

func (c *resultColumns) args(w gantry.WorkerID) []any {
	i, m, p := &c.item, &c.mark, &c.part
	return []any{int64(w), c.task, c.seq, c.cursor,
		i.task, i.id, i.parent, i.origin, i.ordinal, i.part, i.leg, i.stage, i.processor, i.gen, i.rejected, i.size,
		i.media, i.transform, i.locator, i.location, i.reason, i.name, i.sha, i.body,
		m.task, m.id, m.sha, m.size, m.reason, m.rejected,
		p.task, p.leg, p.stage, p.processor, p.ordinal, p.gen, p.status, p.attempt, p.first, p.count, p.due, p.reason}
}

type callColumns struct {
	intent struct {
		task                         []int64
		id                           [][16]byte
		arrival                      []int64
		limiter, pipeline, part, seq []int32
		items                        []int32
		boundary, op, leg, stage     []int16
		processor, gen, try          []int16
		sha                          [][]byte
	}
	outcome struct {
		task              []int64
		id                [][16]byte
		seq               []int32
		sent, ttfb, took  []int64
		reqSize, respSize []int64
		limiter, status   []int32
		result, kind      []int16
		reqSHA, respSHA   [][]byte
		code              []string
	}
}

func newCallColumns(writes []*gantry.Write) *callColumns {
	c := &callColumns{}
	for _, w := range writes {
		if w.Intent != nil {
			c.addIntent(w.Intent)
		}
		if w.Outcome != nil {
			c.addOutcome(w.Lease.Seq, w.Outcome)
		}
	}
	return c
}

func (c *callColumns) empty() bool { return len(c.intent.task)+len(c.outcome.task) == 0 }

func (c *callColumns) addIntent(x *gantry.Intent) {
	t := &c.intent
	t.task, t.id, t.arrival = append(t.task, int64(x.Task)), append(t.id, x.ID), append(t.arrival, x.Arrival)
	t.limiter, t.pipeline = append(t.limiter, x.Limiter), append(t.pipeline, x.Pipeline)
	t.part, t.seq, t.items = append(t.part, x.Part.Ordinal), append(t.seq, x.Seq), append(t.items, x.ItemCount)
	t.boundary, t.op = append(t.boundary, int16(x.Boundary)), append(t.op, int16(x.Op))
	t.leg, t.stage, t.processor = append(t.leg, x.Part.Leg), append(t.stage, x.Part.Stage), append(t.processor, x.Part.Processor)
	t.gen, t.try, t.sha = append(t.gen, x.Part.Generation), append(t.try, x.Try), append(t.sha, digestBytes(x.ItemsSHA))
}

func (c *callColumns) addOutcome(seq int32, x *gantry.Outcome) {
	t := &c.outcome
	t.task, t.id, t.seq = append(t.task, int64(x.Task)), append(t.id, x.ID), append(t.seq, seq)
	t.sent, t.ttfb, t.took = append(t.sent, micros(x.Sent)), append(t.ttfb, micros(x.TTFB)), append(t.took, micros(x.Took))
	t.reqSize, t.respSize = append(t.reqSize, x.ReqSize), append(t.respSize, x.RespSize)
	t.limiter, t.status = append(t.limiter, x.Limiter), append(t.status, x.Status)
	t.result, t.kind = append(t.result, int16(x.Result)), append(t.kind, int16(x.Kind))
	t.reqSHA, t.respSHA, t.code = append(t.reqSHA, digestBytes(x.ReqSHA)), append(t.respSHA, digestBytes(x.RespSHA)), append(t.code, string(x.Code))
}

func (c *callColumns) args(w gantry.WorkerID) []any {
	i, o := &c.intent, &c.outcome
	return []any{int64(w),
		i.task, i.id, i.arrival, i.limiter, i.pipeline, i.part, i.seq, i.items, i.boundary, i.op, i.leg, i.stage, i.processor, i.gen, i.try, i.sha,
		o.task, o.id, o.seq, o.sent, o.ttfb, o.took, o.reqSize, o.respSize, o.limiter, o.status, o.result, o.kind, o.reqSHA, o.respSHA, o.code}
}

type transitionColumns struct {
	id                      []int64
	seq                     []int32
	from, to, stage, change []int16
	after, within           []int64
	kind                    []int16
	code, detail            []string
}

func newTransitionColumns(writes []*gantry.Write) *transitionColumns {
	c := &transitionColumns{}
	for _, w := range writes {
		if t := w.Transition; t != nil {
			c.id, c.seq = append(c.id, int64(t.Task)), append(c.seq, t.Seq)
			c.from, c.to, c.stage = append(c.from, int16(t.From)), append(c.to, int16(t.To)), append(c.stage, t.Stage)
			c.change, c.after, c.within = append(c.change, int16(t.Change)), append(c.after, micros(t.After)), append(c.within, micros(t.Within))
			c.kind, c.code, c.detail = append(c.kind, int16(t.Kind)), append(c.code, string(t.Code)), append(c.detail, t.Detail)
		}
	}
	return c
}

func (c *transitionColumns) empty() bool { return len(c.id) == 0 }

func (c *transitionColumns) args(w gantry.WorkerID) []any {
	return []any{int64(w), c.id, c.seq, c.from, c.to, c.stage, c.change, c.after, c.within, c.kind, c.code, c.detail}
}

func digestBytes(d gantry.Digest) []byte { return d[:] }

func digestOrNull(d gantry.Digest) []byte {
	if d.IsZero() {
		return nil
	}
	return d[:]
}

func textOrNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
