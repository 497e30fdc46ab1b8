package engine

import (
	"crypto/sha256"
	"hash"
	"io"
	"sync"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// sends gives an item as it is sent: its digest is taken at the first time, and held to afterwards. What is rendered for each sending
// may come out otherwise under another version of this program.
func (a *answer) sends(x gantry.Item, r body) body {
	if !x.SHA.IsZero() && isFrame(x) {
		return r
	}
	return &sending{body: r, item: x, sum: sha256.New(), to: a}
}

// sending is an item that is read to be sent. Its digest is taken here, unless it is all of the request: that has one, of the gate.
type sending struct {
	body
	item gantry.Item
	to   *answer
	sum  hash.Hash // nil: the item is all of the request
	n    int64
	once sync.Once
	err  error // instead of the end
}

// Size is that of the item.
func (s *sending) Size() int64 { return sizeOf(gantry.Item{Size: -1}, s.body) }

// Sole is for a processor whose request is the item alone.
func (s *sending) Sole() { s.sum = nil }

// Read passes bytes on. An item that is not what it was at its first reading does not come to its end: Illegal with code blob_corrupt.
func (s *sending) Read(p []byte) (int, error) {
	n, err := s.body.Read(p)
	if s.sum != nil {
		s.sum.Write(p[:n])
	}
	s.n += int64(n)
	if err == io.EOF {
		if s.once.Do(s.ended); s.err != nil {
			err = s.err
		}
	}
	return n, err
}

func (s *sending) ended() {
	m := gantry.ItemMark{ID: s.item.ID, Reason: s.item.Reason, Size: s.n, Sent: s.sum == nil}
	if s.sum != nil {
		m.SHA = gantry.Digest(s.sum.Sum(nil))
	}
	switch {
	case s.item.SHA.IsZero():
		s.to.note(m)
	case m.Sent:
		s.to.sentAlone(s.item, s.n)
	case m.SHA != s.item.SHA:
		s.err = corrupt()
	}
}

func corrupt() error {
	return gantry.Errorf(gantry.Illegal, gantry.CodeCorrupt, "read item: its bytes are not those that were kept")
}

// sentAlone notes that an item was all of a request and was read to its end, which is so many bytes.
func (a *answer) sentAlone(x gantry.Item, n int64) {
	x.Size = n
	a.mu.Lock()
	a.alone = &x
	a.mu.Unlock()
}

// holds wants a call to have sent the bytes of the item that was all of its request: what came of others is not kept. Where a request
// was begun again, and more was sent than the item, there is nothing to compare.
func (a *answer) holds(o *gantry.Outcome) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.alone != nil && o.ReqSize == a.alone.Size && o.ReqSHA != a.alone.SHA {
		return corrupt()
	}
	return nil
}
