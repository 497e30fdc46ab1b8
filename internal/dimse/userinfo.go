package dimse

import "encoding/binary"

// The sub-items of user information (PS3.8 annex D.1, PS3.7 annex D.3.3).
const (
	subMaxPDU   byte = 0x51
	subClass    byte = 0x52
	subWindow   byte = 0x53
	subRole     byte = 0x54
	subVersion  byte = 0x55
	subExtended byte = 0x56
	subCommon   byte = 0x57
	subIdentity byte = 0x58
	subAnswer   byte = 0x59
)

// maxName bounds what is kept of a peer's implementation class UID and version name, which are for people to read.
const maxName = 64

// userInfo is the user information of an association.
type userInfo struct {
	maxPDU   uint32 // 0: no limit
	limited  bool   // maxPDU was there
	class    string // implementation class UID
	version  string // implementation version name
	window   *window
	roles    []role
	extended []extended
	common   []common
	identity *Identity // of a request
	answer   []byte    // to an identity, of an acceptance
	answered bool
}

// window is the asynchronous operations window (PS3.7 section D.3.3.3), as the requestor sees it; 0 is no limit.
type window struct{ invoked, performed uint16 }

// role is a role selection (PS3.7 section D.3.3.4) for the requestor.
type role struct {
	class    string
	scu, scp bool
}

// extended is SOP class extended negotiation (PS3.7 section D.3.3.5).
type extended struct {
	class string
	info  []byte
}

// common is SOP class common extended negotiation (PS3.7 section D.3.3.6).
type common struct {
	class, service string
	related        []string
}

func (u *userInfo) encode(w *itemWriter) {
	if u.limited {
		w.item(subMaxPDU, func() { w.b = binary.BigEndian.AppendUint32(w.b, u.maxPDU) })
	}
	w.text(subClass, u.class)
	if u.window != nil {
		w.item(subWindow, func() { w.u16(u.window.invoked); w.u16(u.window.performed) })
	}
	for _, r := range u.roles {
		w.item(subRole, func() {
			w.sized([]byte(r.class))
			w.b = append(w.b, bit(r.scu), bit(r.scp))
		})
	}
	w.text(subVersion, u.version)
	for _, e := range u.extended {
		w.item(subExtended, func() { w.sized([]byte(e.class)); w.b = append(w.b, e.info...) })
	}
	for _, c := range u.common {
		w.item(subCommon, func() { c.encode(w) })
	}
	if id := u.identity; id != nil {
		w.item(subIdentity, func() {
			w.b = append(w.b, id.Type, bit(id.Response))
			w.sized(id.Primary)
			w.sized(id.Secondary)
		})
	}
	if u.answered {
		w.item(subAnswer, func() { w.sized(u.answer) })
	}
}

func (c common) encode(w *itemWriter) {
	w.sized([]byte(c.class))
	w.sized([]byte(c.service))
	at := len(w.b)
	w.u16(0)
	for _, r := range c.related {
		w.sized([]byte(r))
	}
	w.patch(at, len(w.b)-at-2)
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// decode reads user information. Sub-items of unknown type are skipped; of one that stands twice the last counts.
func (u *userInfo) decode(b []byte) *fault {
	it := items(b)
	for it.next() {
		if !u.sub(it.kind, &fields{b: it.value}) {
			return malformed("a sub-item of user information whose lengths do not add up")
		}
	}
	if it.broken {
		return malformed("an item longer than what holds it")
	}
	if u.limited && u.maxPDU != 0 && u.maxPDU < fragmentSize+2 {
		return malformed("a maximum length into which nothing fits")
	}
	return nil
}

// sub reads one sub-item; false if it is not exactly as long as its parts.
func (u *userInfo) sub(kind byte, f *fields) bool {
	switch kind {
	case subMaxPDU:
		u.maxPDU, u.limited = uint32(f.u16())<<16|uint32(f.u16()), true
	case subClass:
		u.class = short64(f.all())
	case subVersion:
		u.version = short64(f.all())
	case subWindow:
		u.window = &window{invoked: f.u16(), performed: f.u16()}
	case subRole:
		u.roles = append(u.roles, role{class: unpad(f.sized()), scu: f.byte() == 1, scp: f.byte() == 1})
	case subExtended:
		u.extended = append(u.extended, extended{class: unpad(f.sized()), info: f.all()})
	case subCommon:
		c := common{class: unpad(f.sized()), service: unpad(f.sized())}
		related := &fields{b: f.sized()}
		for len(related.b) > 0 && !related.bad {
			c.related = append(c.related, unpad(related.sized()))
		}
		f.all() // a later version may have more (PS3.7 table D.3-12)
		f.bad = f.bad || related.bad
		u.common = append(u.common, c)
	case subIdentity:
		u.identity = &Identity{Type: f.byte(), Response: f.byte() == 1, Primary: f.sized(), Secondary: f.sized()}
	case subAnswer:
		u.answer, u.answered = f.sized(), true
	default:
		return true
	}
	return !f.bad && len(f.b) == 0
}

func short64(b []byte) string {
	s := unpad(b)
	return s[:min(len(s), maxName)]
}

// fields takes a sub-item apart. bad stays true once it was too short.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) take(n int) []byte {
	if n > len(f.b) {
		f.b, f.bad = nil, true
		return nil
	}
	v := f.b[:n:n]
	f.b = f.b[n:]
	return v
}

func (f *fields) all() []byte { return f.take(len(f.b)) }

func (f *fields) byte() byte {
	if v := f.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (f *fields) u16() uint16 {
	if v := f.take(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

// sized takes bytes that stand behind their length in 16 bits.
func (f *fields) sized() []byte { return f.take(int(f.u16())) }
