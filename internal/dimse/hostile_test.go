package dimse

import (
	"crypto/sha256"
	"encoding/binary"
	"net"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestAbortAtEveryPDU has a peer abort after each PDU of a session; and go away, with and without closing both ways, after each byte.
func TestAbortAtEveryPDU(t *testing.T) {
	h := newShelf()
	s := serverOf(h)
	s.Timeouts = brief
	up := serve(t, s, time.Second)
	all := session(t, noise(100))
	for n := 1; n < len(all); n++ {
		r := rawTo(t, up.address)
		r.say(all[:n]...)
		r.say(encodeAbort(abortUser, reasonNone))
		r.expectEnd()
		if err := <-h.ends; gantry.CodeOf(err) != CodeAborted || gantry.KindOf(err) != gantry.Transient {
			t.Errorf("aborted after %d PDUs: %v", n, err)
		}
	}
	r := rawTo(t, up.address)
	r.say(encodeAbort(abortUser, reasonNone))
	r.expectEnd()
	if _, ok := h.sum("1.2.3"); !ok {
		t.Error("the instance that came whole was not taken")
	}
	works(t, up.address)
	<-h.ends
}

func TestEndAtEveryByte(t *testing.T) {
	h := newShelf()
	s := serverOf(h)
	s.Timeouts = brief
	up := serve(t, s, time.Second)
	all := slices.Concat(session(t, noise(100))...)
	whole := len(all) - 10
	rq := len(request(t))
	for n := 0; n < len(all); n += 7 {
		r := rawTo(t, up.address)
		r.say(all[:n])
		if n%2 == 0 {
			_ = r.Conn.(*net.TCPConn).CloseWrite()
			r.expectEnd()
		}
		_ = r.Close()
		if n < rq {
			continue
		}
		err := <-h.ends
		if code := gantry.CodeOf(err); code != CodeConnectionClosed && code != CodeConnectionLost {
			t.Errorf("closed after %d bytes of %d: %v", n, len(all), err)
		}
		if _, ok := h.sum("1.2.3"); ok && n < whole {
			t.Fatalf("an instance of which %d bytes of %d came was taken", n, whole)
		}
	}
	works(t, up.address)
	<-h.ends
}

// TestFragmentsOfAnySize sends a message in fragments of one byte and of none, command and data in one PDU, byte by byte.
func TestFragmentsOfAnySize(t *testing.T) {
	h := newShelf()
	up := serve(t, serverOf(h), time.Second)
	data := noise(300)
	cmd := storeCommand("1.2.9")
	shapes := map[string][]byte{
		"together": pdata(pdv(3, controlCommand|controlLast, cmd), pdv(3, controlLast, data)),
		"empty":    pdata(pdv(3, controlCommand, nil), pdv(3, controlCommand|controlLast, cmd), pdv(3, 0, nil), pdv(3, 0, data), pdv(3, controlLast, nil)),
		"odd":      pdata(pdv(3, controlCommand, cmd[:7]), pdv(3, controlCommand|controlLast, cmd[7:]), pdv(3, 0, data[:1]), pdv(3, controlLast, data[1:])),
	}
	var single []byte
	for i := range cmd {
		single = append(single, pdata(pdv(3, controlCommand|controlLast*bit(i == len(cmd)-1), cmd[i:i+1]))...)
	}
	for i := range data {
		single = append(single, pdata(pdv(3, controlLast*bit(i == len(data)-1), data[i:i+1]))...)
	}
	shapes["one byte each"] = single
	for name, b := range shapes {
		for _, slow := range []bool{false, true} {
			h.clear()
			r := greeted(t, up.address)
			if slow {
				for i := range b {
					r.say(b[i : i+1])
				}
			} else {
				r.say(b)
			}
			if s := r.status(); s != StatusSuccess {
				t.Errorf("%s: status %x", name, s)
			}
			if got, _ := h.sum("1.2.9"); got != sha256.Sum256(data) {
				t.Errorf("%s: other data came", name)
			}
			r.say(control(pduReleaseRQ, 0, 0, 0))
			r.expect(pduReleaseRP)
			_ = r.Close()
			if err := <-h.ends; err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestBreaches sends what the protocol does not allow on an association; the peer is told why it is aborted.
func TestBreaches(t *testing.T) {
	h := newShelf()
	s := serverOf(h)
	s.Timeouts = brief
	up := serve(t, s, time.Second)
	huge := func(kind byte) []byte { return []byte{kind, 0, 0xFF, 0xFF, 0xFF, 0xFF} }
	longPDV := pdata(pdv(1, controlCommand, echoCommand()))
	binary.BigEndian.PutUint32(longPDV[headerSize:], 0xFFFFFFFF)
	noControl := pdata(pdv(1, controlCommand, echoCommand()))
	binary.BigEndian.PutUint32(noControl[headerSize:], 1)
	storing := pdata(pdv(3, controlCommand|controlLast, storeCommand("1.2.3")))
	for name, c := range map[string]struct {
		say    []byte
		reason byte
		code   gantry.Code
	}{
		"request again":          {request(t), reasonUnexpected, CodeUnexpectedPDU},
		"acceptance":             {append(huge(pduAssociateAC)[:2], 0, 0, 0, 0), reasonUnexpected, CodeUnexpectedPDU},
		"rejection":              {encodeReject(rejectLimit()), reasonUnexpected, CodeUnexpectedPDU},
		"answer to no release":   {control(pduReleaseRP, 0, 0, 0), reasonUnexpected, CodeUnexpectedPDU},
		"release within command": {append(pdata(pdv(1, controlCommand, echoCommand()[:4])), control(pduReleaseRQ, 0, 0, 0)...), reasonUnexpected, CodeUnexpectedPDU},
		"release within data":    {append(slices.Clone(storing), control(pduReleaseRQ, 0, 0, 0)...), reasonUnexpected, CodeUnexpectedPDU},
		"type 0":                 {control(0, 0, 0, 0), reasonUnrecognized, CodeMalformedPDU},
		"type 8":                 {control(8, 0, 0, 0), reasonUnrecognized, CodeMalformedPDU},
		"type 255":               {control(255, 0, 0, 0), reasonUnrecognized, CodeMalformedPDU},
		"4 GB of data":           {huge(pduData), reasonBadValue, CodePDUTooLarge},
		"4 GB of release":        {huge(pduReleaseRQ), reasonBadValue, CodeMalformedPDU},
		"4 GB of abort":          {huge(pduAbort), reasonBadValue, CodeMalformedPDU},
		"4 GB of request":        {huge(pduAssociateRQ), reasonBadValue, CodePDUTooLarge},
		"a byte over the limit":  {[]byte{pduData, 0, 0, 2, 0, 1}, reasonBadValue, CodePDUTooLarge},
		"no data":                {pdata(), reasonBadValue, CodeMalformedPDU},
		"4 GB of PDV":            {longPDV, reasonBadValue, CodeMalformedPDU},
		"no control header":      {noControl, reasonBadValue, CodeMalformedPDU},
		"a rest of 5 bytes":      {pdata(pdv(1, controlCommand, echoCommand()[:8]), make([]byte, 5)), reasonBadValue, CodeMalformedPDU},
		"unknown context":        {pdata(pdv(9, controlCommand|controlLast, echoCommand())), reasonBadValue, CodeNoContext},
		"even context":           {pdata(pdv(2, controlCommand|controlLast, echoCommand())), reasonBadValue, CodeNoContext},
		"data first":             {pdata(pdv(1, controlLast, noise(10))), reasonUnexpectedPart, CodeUnexpectedPDU},
		"command in two":         {pdata(pdv(1, controlCommand, echoCommand()[:8]), pdv(3, controlCommand, echoCommand()[8:])), reasonUnexpectedPart, CodeUnexpectedPDU},
		"command within data":    {append(slices.Clone(storing), pdata(pdv(3, controlCommand|controlLast, echoCommand()))...), reasonUnexpectedPart, CodeUnexpectedPDU},
		"data elsewhere":         {append(slices.Clone(storing), pdata(pdv(1, controlLast, noise(10)))...), reasonUnexpectedPart, CodeUnexpectedPDU},
		"command over 64 KiB":    {pdata(pdv(1, controlCommand, make([]byte, 40<<10)), pdv(1, controlCommand, make([]byte, 40<<10))), reasonBadValue, CodeSetTooLarge},
		"no command":             {pdata(pdv(1, controlCommand|controlLast, noise(64))), reasonBadValue, CodeMalformedCommand},
	} {
		r := greeted(t, up.address)
		r.t = nest(t, name)
		r.say(c.say)
		r.expectAbort(abortProvider, c.reason)
		if err := <-h.ends; gantry.CodeOf(err) != c.code || gantry.KindOf(err) != gantry.BadResponse {
			t.Errorf("%s: ended with %v", name, err)
		}
	}
	works(t, up.address)
	<-h.ends
}

// named is a test whose errors begin with a name.
type named struct {
	testing.TB
	name string
}

func nest(t testing.TB, name string) testing.TB { return named{t, name} }

func (n named) Errorf(format string, args ...any) {
	n.TB.Helper()
	n.TB.Errorf(n.name+": "+format, args...)
}

// TestBreachesBeforeAnAssociation sends what is no request. As table 9-10 has it (AA-1), the abort's source is the service's user.
func TestBreachesBeforeAnAssociation(t *testing.T) {
	s := serverOf(newShelf())
	s.Timeouts = brief
	up := serve(t, s, time.Second)
	contexts := request(t)
	for i := 0; len(contexts) < maxAssociate; i++ {
		contexts = append(contexts, 0x20, 0, 0, 16, byte(2*i+1), 0, 0, 0, 0x30, 0, 0, 0, 0x40, 0, 0, 4, '1', '.', '2', 0)
	}
	putHeader(contexts, pduAssociateRQ, len(contexts)-headerSize)
	cases := map[string][]byte{
		"data":         pdata(pdv(1, controlCommand|controlLast, echoCommand())),
		"acceptance":   func() []byte { b := request(t); b[0] = pduAssociateAC; return b }(),
		"rejection":    encodeReject(rejectLimit()),
		"release":      control(pduReleaseRQ, 0, 0, 0),
		"released":     control(pduReleaseRP, 0, 0, 0),
		"HTTP":         []byte("GET / HTTP/1.1\r\n\r\n"),
		"TLS":          {0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3},
		"4 GB":         {pduAssociateRQ, 0, 0xFF, 0xFF, 0xFF, 0xFF},
		"1 MiB + 1":    {pduAssociateRQ, 0, 0, 0x10, 0, 1},
		"short":        {pduAssociateRQ, 0, 0, 0, 0, 0},
		"64k contexts": contexts,
	}
	before := heap()
	for name, b := range cases {
		r := rawTo(t, up.address)
		r.t = nest(t, name)
		r.say(b)
		r.expectAbort(abortUser, reasonNone)
	}
	if grown := heap() - before; grown > 32<<20 {
		t.Errorf("%d bytes are held", grown)
	}
	works(t, up.address)
}

// heap is how many bytes are in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
