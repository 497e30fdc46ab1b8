package engine

import "github.com/gantry-imaging/gantry/internal/gantry"

// containers are those that outputs are put together to.
type containers struct {
	*work
	inside map[gantry.ItemID][]gantry.Item
	list   []*rejoining // in the order in which they begin
	by     map[rejoinKey]*rejoining
	merges map[rejoinKey]bool                          // what merged says, by stage and processor
	codes  map[rejoinKey]map[gantry.ItemID]gantry.Code // reasons, by stage and processor
}

// take puts an output into a container; false if it stays a file of its own.
func (c *containers) take(x delivered) bool {
	root, ok := c.rootOf(x.Origin)
	if x.Media == gantry.MediaJSON || x.Origin == 0 || !ok || len(c.inside[root.ID]) == 0 {
		return false
	}
	k, of := rejoinKey{root.ID, x.Stage, x.Processor}, rejoinKey{0, x.Stage, x.Processor}
	r := c.by[k]
	if r == nil {
		merged, known := c.merges[of]
		if !known {
			merged = c.merged(x.Stage, x.Processor)
			c.merges[of] = merged
		}
		if merged {
			return false
		}
		if c.codes[of] == nil {
			c.codes[of] = c.reasons(x.Stage, x.Processor)
		}
		r = &rejoining{work: c.work, rejoinKey: k, root: root, inside: c.inside, by: map[gantry.ItemID]delivered{}, codes: c.codes[of]}
		c.by[k], c.list = r, append(c.list, r)
	}
	if _, taken := r.by[x.Origin]; taken {
		return false
	}
	r.by[x.Origin], r.list = x, append(r.list, x)
	return true
}

// rootOf gives the original that a piece of media lies in; false for what is about a collection as a whole.
func (w *work) rootOf(id gantry.ItemID) (gantry.Item, bool) {
	x, ok := w.item(id)
	for ok && x.Parent != gantry.NoItem {
		x, ok = w.item(x.Parent)
	}
	return x, ok
}
