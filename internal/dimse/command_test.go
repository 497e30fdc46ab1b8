package dimse

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestCommandEcho holds a C-ECHO-RQ to the bytes that dcmtk sends.
func TestCommandEcho(t *testing.T) {
	want := "00000000" + "04000000" + "38000000" +
		"00000200" + "12000000" + hex.EncodeToString([]byte("1.2.840.10008.1.1\x00")) +
		"00000001" + "02000000" + "3000" +
		"00001001" + "02000000" + "0100" +
		"00000008" + "02000000" + "0101"
	c := command{field: fieldEcho, id: 1, class: Verification}
	if got := hex.EncodeToString(c.encode()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// commands has one of each kind, with all that it may say.
func commands() map[string]command {
	return map[string]command{
		"echo":            {field: fieldEcho, id: 1, class: Verification},
		"echo answered":   {field: fieldEcho | fieldResponse, respondedTo: 1, class: Verification},
		"store":           {field: fieldStore, id: 65535, class: "1.2.3", instance: "1.2.3.4", priority: 2, data: true},
		"store for move":  {field: fieldStore, id: 2, class: "1.2.3", instance: "1.2.3.4", data: true, moveAE: "MOVER", moveID: 77},
		"store refused":   {field: fieldStore | fieldResponse, respondedTo: 2, class: "1.2.3", instance: "1.2.3.4", status: StatusOutOfResources, comment: "disk is full"},
		"find":            {field: fieldFind, id: 3, class: StudyRootFind, data: true},
		"find pending":    {field: fieldFind | fieldResponse, respondedTo: 3, class: StudyRootFind, status: StatusPending, data: true},
		"cancel":          {field: fieldCancel, respondedTo: 3},
		"action":          {field: fieldAction, id: 4, class: StorageCommitment, instance: StorageCommitmentInstance, action: 1, data: true},
		"action answered": {field: fieldAction | fieldResponse, respondedTo: 4, class: StorageCommitment, instance: StorageCommitmentInstance, action: 1},
		"report":          {field: fieldReport, id: 5, class: StorageCommitment, instance: StorageCommitmentInstance, event: 2, data: true},
		"report answered": {field: fieldReport | fieldResponse, respondedTo: 5, class: StorageCommitment, instance: StorageCommitmentInstance, event: 2, status: StatusNoSuchEvent},
	}
}

func TestCommandRoundTrip(t *testing.T) {
	for name, want := range commands() {
		t.Run(name, func(t *testing.T) {
			b := want.encode()
			if n := binary.LittleEndian.Uint32(b[8:]); int(n) != len(b)-12 {
				t.Errorf("group length %d of %d bytes", n, len(b)-12)
			}
			got, err := decodeCommand(b)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, *got, cmp.AllowUnexported(command{})); d != "" {
				t.Error(d)
			}
			if data, err := hasData(b); data != want.data || err != nil {
				t.Errorf("hasData: %v, %v", data, err)
			}
		})
	}
}

// TestCommandRequested puts the UIDs of an N-ACTION-RQ into the elements of what is requested, and those of its response into those of
// what is affected (PS3.7 tables 10.3-7 and 10.3-8).
func TestCommandRequested(t *testing.T) {
	request, response := commands()["action"], commands()["action answered"]
	for _, c := range []struct {
		set      []byte
		has, not []byte
	}{
		{request.encode(), []byte{0, 0, 3, 0}, []byte{0, 0, 2, 0, 22}},
		{request.encode(), []byte{0, 0, 0x01, 0x10}, []byte{0, 0, 0x00, 0x10}},
		{response.encode(), []byte{0, 0, 2, 0}, []byte{0, 0, 3, 0, 22}},
		{response.encode(), []byte{0, 0, 0x00, 0x10}, []byte{0, 0, 0x01, 0x10}},
	} {
		if !bytes.Contains(c.set, c.has) || bytes.Contains(c.set, c.not) {
			t.Errorf("% x has no % x, or has % x", c.set, c.has, c.not)
		}
	}
}

// element is one element of a command set.
func element(group, number uint16, value ...byte) []byte {
	b := binary.LittleEndian.AppendUint16(nil, group)
	b = binary.LittleEndian.AppendUint16(b, number)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(value)))
	return append(b, value...)
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// TestCommandTolerates reads what peers send that is not as it should be, but cannot be misunderstood.
func TestCommandTolerates(t *testing.T) {
	field, id, none := element(0, elField, 0x30, 0), element(0, elMessageID, 7, 0), element(0, elDataType, 1, 1)
	for name, set := range map[string][]byte{
		"no group length":        join(field, id, none),
		"a wrong group length":   join(element(0, elLength, 1, 2, 3, 4), field, id, none),
		"an unknown element":     join(element(0, 1, 1), field, id, none),
		"a UID padded by spaces": join(element(0, elAffectedClass, []byte("1.2.840.10008.1.1 ")...), field, id, none),
		"an empty UID":           join(element(0, elAffectedClass), field, id, none),
	} {
		c, err := decodeCommand(set)
		if err != nil || c.field != fieldEcho || c.id != 7 || c.data || c.badUID {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}

// TestCommandBadUID leaves out what is no UID; the rest of the command stands.
func TestCommandBadUID(t *testing.T) {
	for _, uid := range []string{"../../etc/passwd", "1.2\x003", "1.2.3\n", strings.Repeat("1", 65), "1.2 3", "é1"} {
		store := join(element(0, elAffectedClass, []byte("1.2")...), element(0, elField, 1, 0), element(0, elMessageID, 7, 0), element(0, elDataType, 0, 0),
			element(0, elAffectedInstance, []byte(uid)...))
		c, err := decodeCommand(store)
		if err != nil || !c.badUID || c.instance != "" || c.class != "1.2" || !c.data {
			t.Errorf("%q: %+v, %v", uid, c, err)
		}
	}
}

func TestCommandRefuses(t *testing.T) {
	field, id, none := element(0, elField, 0x30, 0), element(0, elMessageID, 7, 0), element(0, elDataType, 1, 1)
	good := join(field, id, none)
	answered := join(element(0, elField, 0x30, 0x80), element(0, elRespondedTo, 7, 0), none, element(0, elStatus, 0, 0))
	if _, err := decodeCommand(good); err != nil {
		t.Fatal(err)
	}
	if _, err := decodeCommand(answered); err != nil {
		t.Fatal(err)
	}
	for name, set := range map[string][]byte{
		"nothing":                     {},
		"half an element":             good[:len(good)-1],
		"half a header":               join(good, []byte{0, 0, 0}),
		"another group":               join(good, element(8, 0x16, 1, 1)),
		"the wrong order":             join(id, field, none),
		"one element twice":           join(field, field, id, none),
		"a length of 4 GB":            join(good, []byte{0, 0, 0x00, 0x09, 0xFF, 0xFF, 0xFF, 0xFF}),
		"a number of 4 bytes":         join(field, element(0, elMessageID, 7, 0, 0, 0), none),
		"a data set type of nothing":  join(field, id, element(0, elDataType)),
		"a group length of 2 bytes":   join(element(0, elLength, 1, 2), good),
		"no field":                    join(id, none),
		"no message ID":               join(field, none),
		"no data set type":            join(field, id),
		"no status":                   answered[:len(answered)-10],
		"no message ID responded to":  join(element(0, elField, 0x30, 0x80), none, element(0, elStatus, 0, 0)),
		"a cancel of nothing":         join(element(0, elField, 0xFF, 0x0F), id, none),
		"more than a command may be":  join(good, element(0, 0x5000, make([]byte, maxCommand)...)),
		"64k elements of zero length": bytes.Repeat(element(0, 1), 8192),
	} {
		_, err := decodeCommand(set)
		if gantry.KindOf(err) != gantry.BadResponse || gantry.CodeOf(err) != CodeMalformedCommand {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := hasData(set); err == nil {
			t.Errorf("%s: hasData took it", name)
		}
	}
}

// TestCommandComment keeps a comment within what its element may hold.
func TestCommandComment(t *testing.T) {
	c := command{field: fieldStore | fieldResponse, comment: "line\nof\\\xff" + strings.Repeat("x", 100)}
	got, err := decodeCommand(c.encode())
	if err != nil || got.comment != "line?of??"+strings.Repeat("x", 55) {
		t.Errorf("%q, %v", got.comment, err)
	}
}

// FuzzCommand reads what may be no command set; what is one says the same when it is written and read again.
func FuzzCommand(f *testing.F) {
	for _, c := range commands() {
		f.Add(c.encode())
	}
	f.Add(bytes.Repeat(element(0, 1), 100))
	f.Fuzz(func(t *testing.T, set []byte) {
		c, err := decodeCommand(set)
		if err != nil {
			return
		}
		if len(c.class) > 64 || len(c.instance) > 64 || len(c.comment) > 64 || len(c.moveAE) > 16 {
			t.Fatalf("too long: %+v", c)
		}
		again, err := decodeCommand(c.encode())
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		if again.field != c.field || again.class != c.class || again.instance != c.instance || again.data != c.data {
			t.Errorf("got %+v, want %+v", again, c)
		}
	})
}
