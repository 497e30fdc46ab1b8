package postgres

import (
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// The statements take their rows as one array per column. The types below collect those arrays in
// the order of the statements' parameters.

// leases are the leases that a batch of writes stands on. A row names its own by its place, from 1;
// 0 is none: a call before its task exists.
type leases struct {
	task  []int64
	seq   []int32
	place map[gantry.Lease]int32
}

func (l *leases) of(x gantry.Lease) int32 {
	if x.Task == 0 {
		return 0
	}
	k := l.place[x]
	if k == 0 {
		if l.place == nil {
			l.place = map[gantry.Lease]int32{}
		}
		l.task, l.seq = append(l.task, int64(x.Task)), append(l.seq, x.Seq)
		k = int32(len(l.task))
		l.place[x] = k
	}
	return k
}

type resultColumns struct {
	leases
	cursor  []int64 // by lease
	cursors int     // how many are set
	rows    int

	item struct {
		lease                       []int32
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
		lease, id []int32
		owner     []int64
		sha       [][]byte
		size      []int64
		reason    []string
		rejected  []bool
	}
	plan struct {
		partColumns
		first, count []int32
		status       []int16
	}
	part struct {
		partColumns
		status, attempt, submits []int16
		due                      []int64
		reason                   []string
		asked                    []int16
	}
	out struct {
		partColumns
		submits         []int16
		due, until, end []int64
		ticket          []string
		limiter         []int32
		token           [][]byte
	}
	intent  intentColumns
	outcome struct {
		lease             []int32
		task              []int64
		id                [][16]byte
		sent, ttfb, took  []int64
		reqSize, respSize []int64
		limiter, status   []int32
		result, kind      []int16
		reqSHA, respSHA   [][]byte
		code              []string
	}
}

// partColumns are the key of a part.
type partColumns struct {
	lease                 []int32
	leg, stage, processor []int16
	ordinal               []int32
	gen                   []int16
}

func (t *partColumns) add(lease int32, x *gantry.Part) {
	t.lease = append(t.lease, lease)
	t.leg, t.stage, t.processor = append(t.leg, x.Leg), append(t.stage, x.Stage), append(t.processor, x.Processor)
	t.ordinal, t.gen = append(t.ordinal, x.Ordinal), append(t.gen, x.Generation)
}

func newResultColumns(writes []*gantry.Write) *resultColumns {
	c := &resultColumns{}
	for _, w := range writes {
		if !hasResults(w) && w.Outcome == nil && w.Intent == nil {
			continue
		}
		c.rows++
		lease := c.of(w.Lease)
		if w.Intent != nil {
			c.intent.add(c.of(w.Intent.Lease), w.Intent)
		}
		for len(c.cursor) < len(c.task) {
			c.cursor = append(c.cursor, 0)
		}
		if w.Cursor > 0 {
			c.cursors++
			c.cursor[lease-1] = max(c.cursor[lease-1], w.Cursor)
		}
		for i := range w.Items {
			c.addItem(lease, &w.Items[i])
		}
		for i := range w.Marks {
			c.addMark(lease, w.Of, &w.Marks[i])
		}
		for i := range w.Plan {
			x := &w.Plan[i]
			c.plan.add(lease, x)
			c.plan.first, c.plan.count = append(c.plan.first, int32(x.First)), append(c.plan.count, x.Count)
			c.plan.status = append(c.plan.status, int16(x.Status))
		}
		for i := range w.Parts {
			c.addPart(lease, &w.Parts[i])
		}
		if w.Outcome != nil {
			c.addOutcome(lease, w.Outcome)
		}
	}
	return c
}

func (c *resultColumns) empty() bool { return c.rows == 0 }

func (c *resultColumns) addItem(lease int32, x *gantry.Item) {
	t := &c.item
	t.lease, t.id, t.parent, t.origin = append(t.lease, lease), append(t.id, int32(x.ID)), append(t.parent, int32(x.Parent)), append(t.origin, int32(x.Origin))
	t.ordinal, t.part = append(t.ordinal, x.Ordinal), append(t.part, x.Part)
	t.leg, t.stage, t.processor, t.gen = append(t.leg, x.Leg), append(t.stage, x.Stage), append(t.processor, x.Processor), append(t.gen, x.Generation)
	t.rejected, t.size = append(t.rejected, x.Rejected), append(t.size, x.Size)
	t.media, t.transform, t.locator = append(t.media, x.Media), append(t.transform, x.Transform), append(t.locator, x.Locator)
	t.location, t.reason = append(t.location, x.Location), append(t.reason, string(x.Reason))
	t.name, t.sha, t.body = append(t.name, textOrNull(x.Name)), append(t.sha, digestOrNull(x.SHA)), append(t.body, x.Body)
}

func (c *resultColumns) addMark(lease int32, owner gantry.TaskID, x *gantry.ItemMark) {
	t := &c.mark
	t.owner = append(t.owner, int64(owner))
	t.lease, t.id, t.sha = append(t.lease, lease), append(t.id, int32(x.ID)), append(t.sha, digestOrNull(x.SHA))
	t.size, t.reason, t.rejected = append(t.size, x.Size), append(t.reason, string(x.Reason)), append(t.rejected, x.Rejected)
}

func (c *resultColumns) addPart(lease int32, x *gantry.Part) {
	if x.Status == gantry.PartOut {
		c.addOut(lease, x)
		return
	}
	t := &c.part
	t.submits = append(t.submits, x.Submits)
	t.add(lease, x)
	t.status, t.attempt = append(t.status, int16(x.Status)), append(t.attempt, x.Attempt)
	t.due, t.reason = append(t.due, x.DueIn), append(t.reason, string(x.Reason))
	t.asked = append(t.asked, x.Asked)
}

func (c *resultColumns) addOut(lease int32, x *gantry.Part) {
	t := &c.out
	t.add(lease, x)
	t.submits, t.due, t.until, t.end = append(t.submits, x.Submits), append(t.due, x.DueIn), append(t.until, x.Out.For), append(t.end, x.Out.Left)
	t.ticket, t.limiter, t.token = append(t.ticket, x.Out.Ticket), append(t.limiter, x.Out.Limiter), append(t.token, digestOrNull(x.Out.Token))
}

func (c *resultColumns) addOutcome(lease int32, x *gantry.Outcome) {
	t := &c.outcome
	t.lease, t.task, t.id = append(t.lease, lease), append(t.task, int64(x.Task)), append(t.id, x.ID)
	t.sent, t.ttfb, t.took = append(t.sent, micros(x.Sent)), append(t.ttfb, micros(x.TTFB)), append(t.took, micros(x.Took))
	t.reqSize, t.respSize = append(t.reqSize, x.ReqSize), append(t.respSize, x.RespSize)
	t.limiter, t.status = append(t.limiter, x.Limiter), append(t.status, x.Status)
	t.result, t.kind = append(t.result, int16(x.Result)), append(t.kind, int16(x.Kind))
	t.reqSHA, t.respSHA, t.code = append(t.reqSHA, digestBytes(x.ReqSHA)), append(t.respSHA, digestBytes(x.RespSHA)), append(t.code, string(x.Code))
}

// statement is what commits the results of worker w.
func (c *resultColumns) statement(of *sections, w gantry.WorkerID) (string, []any) {
	i, m, n, p, t, o := &c.item, &c.mark, &c.plan, &c.part, &c.out, &c.outcome
	me := "held"
	if c.cursors+len(i.id)+len(m.id)+len(n.ordinal)+len(p.ordinal)+len(t.ordinal)+len(o.id) == 0 {
		me = "alone"
	}
	return of.statement(
		section{me, 1, []any{int64(w)}},
		section{"leases", max(1, len(c.task)), []any{c.task, c.seq}},
		section{"cursors", c.cursors, []any{c.cursor}},
		section{"items", len(i.id), []any{i.lease, i.id, i.parent, i.origin, i.ordinal, i.part, i.leg, i.stage, i.processor, i.gen,
			i.rejected, i.size, i.media, i.transform, i.locator, i.location, i.reason, i.name, i.sha, i.body}},
		section{"marks", len(m.id), []any{m.lease, m.owner, m.id, m.sha, m.size, m.reason, m.rejected}},
		section{"plans", len(n.ordinal), []any{n.lease, n.leg, n.stage, n.processor, n.ordinal, n.gen, n.first, n.count, n.status}},
		section{"parts", len(p.ordinal), []any{p.lease, p.leg, p.stage, p.processor, p.ordinal, p.gen, p.status, p.attempt, p.due, p.reason, p.asked, p.submits}},
		section{"outs", len(t.ordinal), []any{t.lease, t.leg, t.stage, t.processor, t.ordinal, t.gen, t.submits, t.due, t.ticket, t.limiter, t.until, t.end, t.token}},
		section{"intents", len(c.intent.id), c.intent.args()},
		section{"outcomes", len(o.id), []any{o.lease, o.task, o.id, o.sent, o.ttfb, o.took, o.reqSize, o.respSize, o.limiter, o.status,
			o.result, o.kind, o.reqSHA, o.respSHA, o.code}})
}

type intentColumns struct {
	lease                        []int32
	id                           [][16]byte
	arrival                      []int64
	limiter, pipeline, part, seq []int32
	items                        []int32
	boundary, op, leg, stage     []int16
	processor, gen, try          []int16
	sha                          [][]byte
}

func (c *intentColumns) add(lease int32, x *gantry.Intent) {
	c.lease, c.id, c.arrival = append(c.lease, lease), append(c.id, x.ID), append(c.arrival, x.Arrival)
	c.limiter, c.pipeline = append(c.limiter, x.Limiter), append(c.pipeline, x.Pipeline)
	c.part, c.seq, c.items = append(c.part, x.Part.Ordinal), append(c.seq, x.Seq), append(c.items, x.ItemCount)
	c.boundary, c.op = append(c.boundary, int16(x.Boundary)), append(c.op, int16(x.Op))
	c.leg, c.stage, c.processor = append(c.leg, x.Part.Leg), append(c.stage, x.Part.Stage), append(c.processor, x.Part.Processor)
	c.gen, c.try, c.sha = append(c.gen, x.Part.Generation), append(c.try, x.Try), append(c.sha, digestBytes(x.ItemsSHA))
}

func (c *intentColumns) args() []any {
	return []any{c.lease, c.id, c.arrival, c.limiter, c.pipeline, c.part, c.seq, c.items, c.boundary, c.op, c.leg, c.stage, c.processor, c.gen, c.try, c.sha}
}

type transitionColumns struct {
	id                      []int64
	seq                     []int32
	from, to, stage, change []int16
	after, within           []int64
	kind                    []int16
	code, detail            []string
	priority                []int16 // below 0: as it is
	heard                   []int32
	item                    []int32 // below 0: none goes with it
	ended                   int     // children among those that end
}

func newTransitionColumns(writes []*gantry.Write) *transitionColumns {
	c := &transitionColumns{}
	for _, w := range writes {
		if t := w.Transition; t != nil && !ofOperators(t) {
			c.id, c.seq = append(c.id, int64(t.Task)), append(c.seq, t.Seq)
			c.from, c.to, c.stage = append(c.from, int16(t.From)), append(c.to, int16(t.To)), append(c.stage, t.Stage)
			c.change, c.after, c.within = append(c.change, int16(t.Change)), append(c.after, micros(t.After)), append(c.within, micros(t.Within))
			c.kind, c.code, c.detail = append(c.kind, int16(t.Kind)), append(c.code, string(t.Code)), append(c.detail, t.Detail)
			c.priority = append(c.priority, priorityOr(t.Priority))
			c.heard, c.item = append(c.heard, t.Heard), append(c.item, lastItem(w.Items))
			if t.Change == gantry.End && t.Parent != 0 {
				c.ended++
			}
		}
	}
	return c
}

// lastItem is the id of the last of items, below 0 if there are none.
func lastItem(items []gantry.Item) int32 {
	if len(items) == 0 {
		return int32(gantry.NoItem)
	}
	return int32(items[len(items)-1].ID)
}

func (c *transitionColumns) empty() bool { return len(c.id) == 0 }

// statement is what commits the transitions of worker w.
func (c *transitionColumns) statement(of *sections, w gantry.WorkerID) (string, []any) {
	return of.statement(
		section{"moves", len(c.id), []any{int64(w), c.id, c.seq, c.from, c.to, c.stage, c.change, c.after, c.within, c.kind, c.code, c.detail, c.priority, c.heard, c.item}},
		section{"parents", c.ended, nil})
}

// digestBytes is empty where there is no digest.
func digestBytes(d gantry.Digest) []byte {
	if d.IsZero() {
		return []byte{}
	}
	return d[:]
}

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
