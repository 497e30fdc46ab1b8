package dimse

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"
)

// raw is a peer that says what it likes.
type raw struct {
	net.Conn
	t testing.TB
}

func rawTo(t testing.TB, address string) raw { return raw{dial(t, address), t} }

// say sends bytes. A peer that has closed does not hear them: the test sees by what it answers.
func (r raw) say(b ...[]byte) {
	for _, p := range b {
		_, _ = r.Write(p)
	}
}

// hear reads a PDU; kind 0 if the connection ends.
func (r raw) hear() (kind byte, body []byte) {
	_ = r.SetReadDeadline(time.Now().Add(20 * time.Second))
	h, err := readHeader(r, make([]byte, headerSize))
	if err != nil {
		return 0, nil
	}
	body, err = readBody(r, h.length)
	if err != nil {
		return 0, nil
	}
	return h.kind, body
}

// expect reads a PDU of a kind.
func (r raw) expect(kind byte) []byte {
	r.t.Helper()
	k, body := r.hear()
	if k != kind {
		r.t.Errorf("PDU %d came (%x), want %d", k, body, kind)
		return make([]byte, 4)
	}
	return body
}

// expectAbort reads PDUs until an A-ABORT, and the end of the connection after it.
func (r raw) expectAbort(source, reason byte) {
	r.t.Helper()
	for {
		kind, body := r.hear()
		if kind == pduData {
			continue
		}
		if kind != pduAbort || body[2] != source || body[3] != reason {
			r.t.Errorf("PDU %d came (%x), want an abort by %d for %d", kind, body, source, reason)
		}
		break
	}
	_ = r.Close()
}

// expectEnd reads until the connection ends.
func (r raw) expectEnd() {
	r.t.Helper()
	_ = r.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.Copy(io.Discard, r.Conn); err != nil && timeout(err) {
		r.t.Error("the connection stays open")
	}
}

// request is the A-ASSOCIATE-RQ of plain().
func request(t testing.TB, change ...func(*associate)) []byte {
	t.Helper()
	m, err := plain().request()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range change {
		c(m)
	}
	b, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// greeted is a raw peer with an association.
func greeted(t testing.TB, address string, change ...func(*associate)) raw {
	t.Helper()
	r := rawTo(t, address)
	r.say(request(t, change...))
	r.expect(pduAssociateAC)
	return r
}

// pdv makes a presentation data value item.
func pdv(id, control byte, value []byte) []byte {
	b := make([]byte, fragmentSize, fragmentSize+len(value))
	putFragment(b, fragment{context: id, control: control, n: uint32(len(value))})
	return append(b, value...)
}

// pdata makes a P-DATA-TF of PDVs.
func pdata(pdvs ...[]byte) []byte {
	b := make([]byte, headerSize)
	for _, p := range pdvs {
		b = append(b, p...)
	}
	putHeader(b, pduData, len(b)-headerSize)
	return b
}

func echoCommand() []byte { return (&command{field: fieldEcho, id: 7, class: Verification}).encode() }

func storeCommand(instance string) []byte {
	return (&command{field: fieldStore, id: 8, class: ctImage, instance: instance, data: true}).encode()
}

// session is a whole association: echo, a store in three fragments, release.
func session(t testing.TB, data []byte) [][]byte {
	third := len(data) / 3 &^ 1
	return [][]byte{
		request(t),
		pdata(pdv(1, controlCommand|controlLast, echoCommand())),
		pdata(pdv(3, controlCommand|controlLast, storeCommand("1.2.3"))),
		pdata(pdv(3, 0, data[:third])),
		pdata(pdv(3, 0, data[third:2*third])),
		pdata(pdv(3, controlLast, data[2*third:])),
		control(pduReleaseRQ, 0, 0, 0),
	}
}

// status reads a response and gives its status.
func (r raw) status() Status {
	r.t.Helper()
	body := r.expect(pduData)
	if len(body) < fragmentSize || int(binary.BigEndian.Uint32(body))+4 != len(body) || body[5] != controlCommand|controlLast {
		r.t.Errorf("no response in one fragment: %x", body)
		return StatusProcessing
	}
	c, err := decodeCommand(body[fragmentSize:])
	if err != nil || !c.response() {
		r.t.Errorf("no response: %v", err)
		return StatusProcessing
	}
	return c.status
}

// works says that a server still serves.
func works(t testing.TB, address string) {
	t.Helper()
	a, err := Request(t.Context(), dial(t, address), plain())
	if err != nil {
		t.Fatalf("after that: %v", err)
	}
	if r, err := a.Echo(t.Context()); err != nil || r.Status != StatusSuccess {
		t.Errorf("after that: echo %v %v", r, err)
	}
	if err := a.Release(t.Context()); err != nil {
		t.Errorf("after that: release %v", err)
	}
}
