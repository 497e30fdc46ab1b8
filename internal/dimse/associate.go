package dimse

import (
	"encoding/binary"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// The items of A-ASSOCIATE-RQ and -AC (PS3.8 sections 9.3.2 and 9.3.3).
const (
	itemApplication byte = 0x10
	itemProposed    byte = 0x20
	itemAnswered    byte = 0x21
	itemAbstract    byte = 0x30
	itemTransfer    byte = 0x40
	itemUser        byte = 0x50
)

// Results of a presentation context (PS3.8 table 9-18).
const (
	resultAccepted     byte = 0
	resultUser         byte = 1
	resultNoAbstract   byte = 3
	resultNoTransfer   byte = 4
	maxContexts             = 128
	maxTransfers            = 256
	applicationContext      = "1.2.840.10008.3.1.1.1"
	associateHead           = 68 // protocol version, AE titles and what is reserved
	titleSize               = 16
)

// associate is an A-ASSOCIATE-RQ or -AC.
type associate struct {
	kind            byte // pduAssociateRQ or pduAssociateAC
	version         uint16
	called, calling string // without padding
	application     string
	contexts        []presentation
	user            userInfo
}

// presentation is a context as it is proposed (abstract and at least one transfer) or answered (result and one transfer,
// which means nothing unless the result is 0).
type presentation struct {
	id       byte
	result   byte
	abstract string
	transfer []string
}

// encode gives the whole PDU. What does not fit into a field of it is an error of kind Illegal.
func (m *associate) encode() ([]byte, error) {
	w := &itemWriter{b: make([]byte, headerSize, 1024)}
	w.u16(m.version)
	w.u16(0)
	w.title(m.called)
	w.title(m.calling)
	w.b = append(w.b, make([]byte, 32)...)
	w.text(itemApplication, m.application)
	for _, c := range m.contexts {
		kind := itemProposed
		if m.kind == pduAssociateAC {
			kind = itemAnswered
		}
		w.item(kind, func() {
			w.b = append(w.b, c.id, 0, c.result, 0)
			if m.kind == pduAssociateRQ {
				w.text(itemAbstract, c.abstract)
			}
			for _, t := range c.transfer {
				w.text(itemTransfer, t)
			}
		})
	}
	w.item(itemUser, func() { m.user.encode(w) })
	if w.tooLong || len(w.b)-headerSize > maxAssociate {
		return nil, gantry.Errorf(gantry.Illegal, CodeBadParams, "write association: a value does not fit into its field")
	}
	putHeader(w.b, m.kind, len(w.b)-headerSize)
	return w.b, nil
}

// decodeAssociate reads what follows the header. Every length has to add up; items of unknown type are skipped (PS3.8 section
// 9.3.1). Padding of titles and UIDs is taken off; else they are the peer's bytes.
func decodeAssociate(kind byte, b []byte) (*associate, *fault) {
	if len(b) < associateHead {
		return nil, malformed("an association shorter than its fixed part")
	}
	m := &associate{kind: kind, version: binary.BigEndian.Uint16(b), called: unpad(b[4:20]), calling: unpad(b[20:36])}
	seen := map[byte]bool{}
	var ids [256]bool
	it := items(b[associateHead:])
	for it.next() {
		switch t := it.kind; {
		case t == itemApplication || t == itemUser:
			if seen[t] {
				return nil, malformed("an item that may stand once stands twice")
			}
			seen[t] = true
			if t == itemApplication {
				m.application = unpad(it.value)
			} else if err := m.user.decode(it.value); err != nil {
				return nil, err
			}
		case t == itemProposed && kind == pduAssociateRQ, t == itemAnswered && kind == pduAssociateAC:
			c, err := decodePresentation(t, it.value)
			if err != nil {
				return nil, err
			}
			if c.id%2 == 0 || ids[c.id] {
				return nil, malformed("a presentation context's ID is even or stands twice")
			}
			ids[c.id] = true
			m.contexts = append(m.contexts, c)
		}
	}
	if it.broken {
		return nil, malformed("an item longer than what holds it")
	}
	return m, nil
}

// decodePresentation reads a presentation context item.
func decodePresentation(kind byte, b []byte) (presentation, *fault) {
	if len(b) < 4 {
		return presentation{}, malformed("a presentation context shorter than its fixed part")
	}
	c := presentation{id: b[0]}
	if kind == itemAnswered {
		c.result = b[2]
	}
	abstracts := 0
	it := items(b[4:])
	for it.next() {
		switch {
		case it.kind == itemAbstract && kind == itemProposed:
			c.abstract = unpad(it.value)
			abstracts++
		case it.kind == itemTransfer:
			c.transfer = append(c.transfer, unpad(it.value))
		}
		if len(c.transfer) > maxTransfers {
			return presentation{}, malformed("more than 256 transfer syntaxes in a presentation context")
		}
	}
	switch {
	case it.broken:
		return presentation{}, malformed("an item longer than what holds it")
	case kind == itemProposed && (abstracts != 1 || len(c.transfer) == 0):
		return presentation{}, malformed("a presentation context without one abstract syntax and a transfer syntax")
	case kind == itemAnswered && c.result == resultAccepted && len(c.transfer) != 1:
		return presentation{}, malformed("an accepted presentation context without one transfer syntax")
	}
	return c, nil
}

// unpad takes off the padding of AE titles and UIDs: spaces on both sides, NULs at the end.
func unpad(b []byte) string { return strings.Trim(string(b), " \x00") }

// itemReader goes through items: type, a reserved byte, length in 16 bits, value.
type itemReader struct {
	rest   []byte
	kind   byte
	value  []byte
	broken bool // an item ends after what holds it
}

func items(b []byte) *itemReader { return &itemReader{rest: b} }

// next goes to the next item; false at the end and where an item is broken.
func (r *itemReader) next() bool {
	if len(r.rest) == 0 {
		return false
	}
	if len(r.rest) < 4 {
		r.broken = true
		return false
	}
	n := int(binary.BigEndian.Uint16(r.rest[2:]))
	if n > len(r.rest)-4 {
		r.broken = true
		return false
	}
	r.kind, r.value, r.rest = r.rest[0], r.rest[4:4+n], r.rest[4+n:]
	return true
}

// itemWriter builds items. tooLong stays true once a value did not fit.
type itemWriter struct {
	b       []byte
	tooLong bool
}

func (w *itemWriter) u16(v uint16) { w.b = binary.BigEndian.AppendUint16(w.b, v) }

// title writes an AE title, padded with spaces.
func (w *itemWriter) title(s string) {
	if len(s) > titleSize {
		w.tooLong = true
		s = s[:titleSize]
	}
	w.b = append(append(w.b, s...), strings.Repeat(" ", titleSize-len(s))...)
}

// item writes an item around what body writes.
func (w *itemWriter) item(kind byte, body func()) {
	at := len(w.b)
	w.b = append(w.b, kind, 0, 0, 0)
	body()
	w.patch(at+2, len(w.b)-at-4)
}

// text writes an item that is a string.
func (w *itemWriter) text(kind byte, s string) {
	w.item(kind, func() { w.b = append(w.b, s...) })
}

// sized writes bytes with their length in 16 bits before them.
func (w *itemWriter) sized(s []byte) {
	at := len(w.b)
	w.u16(0)
	w.b = append(w.b, s...)
	w.patch(at, len(s))
}

func (w *itemWriter) patch(at, n int) {
	if n > 0xFFFF {
		w.tooLong = true
		return
	}
	binary.BigEndian.PutUint16(w.b[at:], uint16(n))
}
