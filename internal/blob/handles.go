package blob

import (
	"container/list"
	"os"
	"sync"
)

// openSegments is how many segment files stay open for reading while nobody reads them.
const openSegments = 64

// handles keeps the segment files that were read last open. More are open only while more are
// being read.
type handles struct {
	limit       int
	root, store string

	mu     sync.Mutex
	open   map[segmentID]*handle
	order  *list.List // of *handle, the last used in front
	closed bool
}

// handle is one open segment file.
type handle struct {
	id   segmentID
	f    *os.File
	refs int
	at   *list.Element // nil: no longer kept, to be closed by the last reader
}

func newHandles(limit int, root, store string) *handles {
	return &handles{limit: limit, root: root, store: store, open: map[segmentID]*handle{}, order: list.New()}
}

// get opens a segment or shares one that is open. Each needs a put.
func (c *handles) get(id segmentID) (*handle, error) {
	c.mu.Lock()
	h := c.find(id)
	c.mu.Unlock()
	if h != nil {
		return h, nil
	}
	f, err := openSegment(c.root, c.store, id)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.find(id); h != nil { // another was faster
		f.Close()
		return h, nil
	}
	if c.closed {
		f.Close()
		return nil, errClosed()
	}
	h = &handle{id: id, f: f, refs: 1}
	h.at = c.order.PushFront(h)
	c.open[id] = h
	if len(c.open) > c.limit {
		c.forget(c.order.Back().Value.(*handle))
	}
	return h, nil
}

func (c *handles) find(id segmentID) *handle {
	h := c.open[id]
	if h != nil {
		h.refs++
		c.order.MoveToFront(h.at)
	}
	return h
}

func (c *handles) put(h *handle) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h.refs--
	if h.refs == 0 && h.at == nil {
		h.f.Close()
	}
}

func (c *handles) forget(h *handle) {
	delete(c.open, h.id)
	c.order.Remove(h.at)
	h.at = nil
	if h.refs == 0 {
		h.f.Close()
	}
}

func (c *handles) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, h := range c.open {
		c.forget(h)
	}
}
