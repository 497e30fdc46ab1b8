package postgres

import (
	_ "embed"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

//go:embed move.sql
var moveSQL string

//go:embed pause.sql
var pauseSQL string

// leaveColumns are the transitions by which tasks leave their process to an operator: moves and pauses, each with
// a statement of its own.
type leaveColumns struct {
	id                []int64
	seq               []int32
	from, stage, kind []int16
	pipeline, lane    []int32
	within            []int64
	code, detail      []string
}

// ofOperators tells whether a transition is committed by move.sql or pause.sql, and not by transition.sql.
func ofOperators(t *gantry.Transition) bool {
	return t.Change == gantry.Move || t.Change == gantry.Pause
}

func newLeaveColumns(writes []*gantry.Write, change gantry.Change) *leaveColumns {
	c := &leaveColumns{}
	for _, w := range writes {
		t := w.Transition
		if t == nil || t.Change != change {
			continue
		}
		c.id, c.seq = append(c.id, int64(t.Task)), append(c.seq, t.Seq)
		c.from, c.stage = append(c.from, int16(t.From)), append(c.stage, t.Stage)
		if p := t.Passage; p != nil {
			c.pipeline, c.lane, c.within = append(c.pipeline, p.Pipeline), append(c.lane, p.Lane), append(c.within, micros(p.Within))
			c.kind, c.code, c.detail = append(c.kind, int16(t.Kind)), append(c.code, string(t.Code)), append(c.detail, t.Detail)
		}
	}
	return c
}

func (c *leaveColumns) empty() bool { return len(c.id) == 0 }

func (c *leaveColumns) moveArgs(w gantry.WorkerID) []any {
	return []any{int64(w), c.id, c.seq, c.from, c.stage, c.pipeline, c.lane, c.within, c.kind, c.code, c.detail}
}

func (c *leaveColumns) pauseArgs(w gantry.WorkerID) []any {
	return []any{int64(w), c.id, c.seq, c.from, c.stage}
}
