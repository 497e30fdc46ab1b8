package dimse

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// hexed reads hexadecimal digits with text in quotes between them.
func hexed(t testing.TB, s string) []byte {
	t.Helper()
	var out []byte
	for i, part := range strings.Split(s, "'") {
		if i%2 == 1 {
			out = append(out, part...)
			continue
		}
		b, err := hex.DecodeString(strings.Join(strings.Fields(part), ""))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b...)
	}
	return out
}

// zeros32 are the 32 reserved bytes of PS3.8 table 9-11.
var zeros32 = strings.Repeat("00", 32)

func golden() map[string]struct {
	m   associate
	hex string
} {
	type pair = struct {
		m   associate
		hex string
	}
	return map[string]pair{
		"request": {
			associate{kind: pduAssociateRQ, version: 1, called: "ANY-SCP", calling: "ECHOSCU", application: applicationContext,
				contexts: []presentation{{id: 1, abstract: Verification, transfer: []string{ImplicitLE}}},
				user:     userInfo{maxPDU: 16382, limited: true, class: "1.2.3", version: "V_1"}},
			`01 00 000000 a2  0001 0000 'ANY-SCP         ECHOSCU         ' ` + zeros32 + `
			 10 00 0015 '1.2.840.10008.3.1.1.1'
			 20 00 002e  01 00 00 00  30 00 0011 '1.2.840.10008.1.1'  40 00 0011 '1.2.840.10008.1.2'
			 50 00 0018  51 00 0004 00003ffe  52 00 0005 '1.2.3'  55 00 0003 'V_1'`,
		},
		"answer": {
			associate{kind: pduAssociateAC, version: 1, called: "ANY-SCP", calling: "ECHOSCU", application: applicationContext,
				contexts: []presentation{{id: 1, transfer: []string{ImplicitLE}}, {id: 3, result: resultNoAbstract, transfer: []string{ImplicitLE}}},
				user:     userInfo{limited: true, class: "1.2.3", version: "V", window: &window{5, 1}, answered: true, answer: []byte("yes")}},
			`02 00 000000 ce  0001 0000 'ANY-SCP         ECHOSCU         ' ` + zeros32 + `
			 10 00 0015 '1.2.840.10008.3.1.1.1'
			 21 00 0019  01 00 00 00  40 00 0011 '1.2.840.10008.1.2'
			 21 00 0019  03 00 03 00  40 00 0011 '1.2.840.10008.1.2'
			 50 00 0027  51 00 0004 00000000  52 00 0005 '1.2.3'  53 00 0004 0005 0001  55 00 0001 'V'  59 00 0005 0003 'yes'`,
		},
		"everything": {
			associate{kind: pduAssociateRQ, version: 1, called: "B", calling: "A", application: "1.2",
				contexts: []presentation{{id: 255, abstract: "1.9", transfer: []string{"1.7", "1.8"}}},
				user: userInfo{maxPDU: 1 << 20, limited: true, class: "1", version: "V", window: &window{0, 7},
					roles:    []role{{"1.9", false, true}},
					extended: []extended{{"1.9", []byte{2, 0, 1}}},
					common:   []common{{"1.9", "1.4.2", []string{"1.5", "1.66"}}},
					identity: &Identity{Type: 2, Primary: []byte("who"), Secondary: []byte("pw"), Response: true}}},
			`01 00 000000 be  0001 0000 'B               A               ' ` + zeros32 + `
			 10 00 0003 '1.2'
			 20 00 0019  ff 00 00 00  30 00 0003 '1.9'  40 00 0003 '1.7'  40 00 0003 '1.8'
			 50 00 005d  51 00 0004 00100000  52 00 0001 '1'  53 00 0004 0000 0007  54 00 0007 0003 '1.9' 00 01  55 00 0001 'V'
			 56 00 0008 0003 '1.9' 020001
			 57 00 0019 0003 '1.9' 0005 '1.4.2' 000b 0003 '1.5' 0004 '1.66'
			 58 00 000b 02 01 0003 'who' 0002 'pw'`,
		},
	}
}

// TestGoldenAssociations holds the codec to PDUs written by hand after PS3.8 tables 9-11 to 9-20 and PS3.7 annex D.
func TestGoldenAssociations(t *testing.T) {
	for name, g := range golden() {
		want := hexed(t, g.hex)
		putHeader(want, g.m.kind, len(want)-headerSize)
		b, err := g.m.encode()
		if err != nil || !bytes.Equal(b, want) {
			t.Errorf("%s: %v\n%s, want\n%s", name, err, hex.Dump(b), hex.Dump(want))
		}
		m, f := decodeAssociate(g.m.kind, want[headerSize:])
		if f != nil || !reflect.DeepEqual(*m, g.m) {
			t.Errorf("%s: read %+v, %v", name, m, f)
		}
		for cut := headerSize; cut < len(want); cut++ { // no beginning of one is one, unless it ends between items
			if _, f := decodeAssociate(g.m.kind, want[headerSize:cut]); f != nil && f.reason != reasonBadValue {
				t.Errorf("%s cut at %d: %v", name, cut, f)
			}
		}
	}
}

func TestGoldenShortPDUs(t *testing.T) {
	for _, c := range []struct {
		got  []byte
		want string
	}{
		{encodeReject(&Rejection{Source: 1, Reason: 7}), "03 00 00000004 00 01 01 07"},
		{encodeReject(rejectLimit()), "03 00 00000004 00 02 03 02"},
		{control(pduReleaseRQ, 0, 0, 0), "05 00 00000004 00000000"},
		{control(pduReleaseRP, 0, 0, 0), "06 00 00000004 00000000"},
		{encodeAbort(abortProvider, reasonUnexpected), "07 00 00000004 00 00 02 02"},
	} {
		if !bytes.Equal(c.got, hexed(t, c.want)) {
			t.Errorf("%x, want %s", c.got, c.want)
		}
		h, err := readHeader(bytes.NewReader(c.got), make([]byte, headerSize))
		if err != nil || h.check(0) != nil || h.length != shortSize {
			t.Errorf("%x: %v %v", c.got, h, err)
		}
		h.length = 5
		if h.check(0) == nil {
			t.Errorf("%x with a length of 5 passes", c.got)
		}
	}
}

// TestWildAssociations reads what strict writers would not write but the wild has.
func TestWildAssociations(t *testing.T) {
	head := "0001 0000 ' GANTRY\x00\x00       'c4d6'SIRIX         ' " + zeros32
	context := "20 00 0030 03 ff ff ff 30 00 0012 '1.2.840.10008.1.1'00 40 00 0012 '1.2.840.10008.1.2 '"
	m, f := decodeAssociate(pduAssociateRQ, hexed(t, head+"10 00 0016 '1.2.840.10008.3.1.1.1'00 77 00 0002 abcd"+context+
		"50 00 0022 51 00 0004 00004000 7e 00 0003 010203 52 00 0006 '1.2.3 ' 55 00 0005 'V'fffe 2000"))
	if f != nil {
		t.Fatal(f)
	}
	if m.called != "GANTRY" || m.calling != "\xc4\xd6SIRIX" || m.application != applicationContext || m.user.class != "1.2.3" {
		t.Errorf("read %+v", m)
	}
	if c := m.contexts[0]; c.abstract != Verification || c.transfer[0] != ImplicitLE || c.result != 0 {
		t.Errorf("read %+v", c)
	}
}

// TestHostileAssociations are refused, each for the same reason of A-ABORT: an invalid parameter value.
func TestHostileAssociations(t *testing.T) {
	head := "0001 0000 'GANTRY          TESTER          ' " + zeros32 + "10 00 0015 '1.2.840.10008.3.1.1.1'"
	good := "20 00 0014 01 00 00 00 30 00 0003 '1.2' 40 00 0005 '1.2.3'"
	if _, f := decodeAssociate(pduAssociateRQ, hexed(t, head+good)); f != nil {
		t.Fatalf("what the others are made of: %v", f)
	}
	many := strings.Repeat("40 00 0001 '1'", 257)
	for name, tail := range map[string]string{
		"even ID":                   "20 00 0014 02 00 00 00 30 00 0003 '1.2' 40 00 0005 '1.2.3'",
		"ID twice":                  good + good,
		"no abstract syntax":        "20 00 000d 01 00 00 00 40 00 0005 '1.2.3'",
		"two abstract syntaxes":     "20 00 001b 01 00 00 00 30 00 0003 '1.2' 30 00 0003 '1.2' 40 00 0005 '1.2.3'",
		"no transfer syntax":        "20 00 000b 01 00 00 00 30 00 0003 '1.2'",
		"257 transfer syntaxes":     "20 00 0510 01 00 00 00 30 00 0003 '1.2'" + many,
		"short context":             "20 00 0003 01 00 00",
		"item over the end":         "20 00 0015 01 00 00 00 30 00 0003 '1.2' 40 00 0005 '1.2.3'",
		"sub-item over the end":     "20 00 0014 01 00 00 00 30 00 0003 '1.2' 40 00 0006 '1.2.3'",
		"trailing byte":             good + "00",
		"application context twice": "10 00 0003 '1.2'",
		"user information twice":    "50 00 0000 50 00 0000",
		"maximum length of 3":       "50 00 0007 51 00 0003 000001",
		"maximum length of 5":       "50 00 0009 51 00 0005 0000000100",
		"maximum length of 7 bytes": "50 00 0008 51 00 0004 00000007",
		"window of 3":               "50 00 0007 53 00 0003 000001",
		"role past its end":         "50 00 0009 54 00 0005 0004 'abc'",
		"role with more":            "50 00 000a 54 00 0006 0001 '1' 01 01 01",
		"extended past its end":     "50 00 0006 56 00 0002 ffff",
		"common past its end":       "50 00 000c 57 00 0008 0001 '1' 0001 '1' ffff",
		"related past its end":      "50 00 000e 57 00 000a 0001 '1' 0001 '1' 0002 ffff",
		"identity past its end":     "50 00 000a 58 00 0006 01 00 ffff 0000",
		"identity with more":        "50 00 000b 58 00 0007 01 00 0000 0000 00",
		"answer past its end":       "50 00 0006 59 00 0002 0001",
	} {
		_, f := decodeAssociate(pduAssociateRQ, hexed(t, head+tail))
		if f == nil || f.reason != reasonBadValue || gantry.KindOf(f) != gantry.BadResponse || gantry.CodeOf(f) != CodeMalformedPDU {
			t.Errorf("%s: %v", name, f)
		}
	}
	if _, f := decodeAssociate(pduAssociateAC, hexed(t, head+"21 00 0004 01 00 00 00")); f == nil {
		t.Error("an acceptance without a transfer syntax passes")
	}
	if _, f := decodeAssociate(pduAssociateAC, hexed(t, head+"21 00 0004 01 00 03 00")); f != nil {
		t.Errorf("a refusal without a transfer syntax: %v", f)
	}
}

// TestSixtyFourThousandContexts is a request of all contexts that fit into 1 MiB: it ends at the first ID that stands twice.
func TestSixtyFourThousandContexts(t *testing.T) {
	b := hexed(t, "0001 0000 'GANTRY          TESTER          ' "+zeros32)
	for i := 0; len(b) < maxAssociate-20; i++ {
		b = append(b, hexed(t, "20 00 000c")...)
		b = append(b, byte(2*i+1), 0, 0, 0, 0x30, 0, 0, 0, 0x40, 0, 0, 0)
	}
	allocated := testing.AllocsPerRun(1, func() {
		if _, f := decodeAssociate(pduAssociateRQ, b); f == nil {
			t.Error("it passes")
		}
	})
	if allocated > 1000 {
		t.Errorf("%v allocations", allocated)
	}
}

func TestValuesThatDoNotFit(t *testing.T) {
	long := strings.Repeat("1", 1<<16)
	for name, m := range map[string]associate{
		"title":    {called: "SEVENTEEN LETTERS"},
		"uid":      {application: long},
		"contexts": {contexts: []presentation{{id: 1, abstract: long[:40000], transfer: []string{long[:40000]}}}},
		"identity": {user: userInfo{identity: &Identity{Primary: []byte(long)}}},
	} {
		m.kind = pduAssociateRQ
		if _, err := m.encode(); gantry.KindOf(err) != gantry.Illegal || gantry.CodeOf(err) != CodeBadParams {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzAssociate reads any bytes as an association; what can be read can be written, and is read as the same again.
func FuzzAssociate(f *testing.F) {
	for _, g := range golden() {
		b, _ := g.m.encode()
		f.Add(b[0] == pduAssociateRQ, b[headerSize:])
	}
	f.Fuzz(func(t *testing.T, request bool, b []byte) {
		kind := pduAssociateAC
		if request {
			kind = pduAssociateRQ
		}
		m, bad := decodeAssociate(kind, b)
		if bad != nil {
			return
		}
		if len(m.contexts) > maxContexts {
			t.Fatalf("%d contexts", len(m.contexts))
		}
		again, err := m.encode()
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		same, bad := decodeAssociate(kind, again[headerSize:])
		if bad != nil || !sameAssociation(m, same) {
			t.Fatalf("%v: read\n%+v, again\n%+v", bad, m, same)
		}
	})
}

// sameAssociation compares what was read; nil and empty are the same.
func sameAssociation(x, y *associate) bool {
	bx, ex := x.encode()
	by, ey := y.encode()
	return ex == nil && ey == nil && bytes.Equal(bx, by)
}

// FuzzPDU gives any bytes to an acceptor as what comes after its acceptance, and to a requestor as the answer to its request.
func FuzzPDU(f *testing.F) {
	echo := (&command{field: fieldEcho, id: 1, class: Verification}).encode()
	pdv := append([]byte{0, 0, 0, byte(len(echo) + 2), 1, 3}, echo...)
	data := make([]byte, headerSize)
	putHeader(data, pduData, len(pdv))
	for _, seed := range [][]byte{append(data, pdv...), control(pduReleaseRQ, 0, 0, 0), encodeAbort(0, 0), encodeReject(rejectLimit())} {
		f.Add(seed)
	}
	for _, g := range golden() {
		b, _ := g.m.encode()
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a := offline(b, false)
		a.establish([]Accepted{{ID: 1, Abstract: Verification, Transfer: ImplicitLE, SCU: true}}, 1<<16, 1)
		a.Handle(newShelf())
		a.read()
		if a.link.now() != sta1 && a.link.now() != sta13 {
			t.Fatalf("ended in Sta%d", a.link.now())
		}
		if x, err := Request(t.Context(), &reel{in: bytes.NewReader(b)}, plain()); err == nil {
			<-x.Done()
		}
	})
}

// reel is a connection on which all that comes is there already. What is written is lost.
type reel struct {
	deafConn
	in io.Reader
}

// deafConn takes everything and has no deadlines.
type deafConn struct{}

func (deafConn) Write(p []byte) (int, error)      { return len(p), nil }
func (deafConn) Close() error                     { return nil }
func (deafConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (deafConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (deafConn) SetDeadline(time.Time) error      { return nil }
func (deafConn) SetReadDeadline(time.Time) error  { return nil }
func (deafConn) SetWriteDeadline(time.Time) error { return nil }

func (r *reel) Read(p []byte) (int, error) { return r.in.Read(p) }

// offline is an association on which all that comes is there already.
func offline(b []byte, requestor bool) *Association {
	a := newAssociation(context.Background(), &reel{in: bytes.NewReader(b)}, requestor, brief)
	a.link.machine.state = sta6
	return a
}
