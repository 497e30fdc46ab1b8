package dimse

import (
	"bytes"
	"encoding/binary"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// CodeMalformedCommand means that a command set breaks the rules of PS3.7, so that nothing on the association can be trusted.
const CodeMalformedCommand gantry.Code = "malformed_command"

// maxCommand bounds a command set in bytes. Usual are some 200.
const maxCommand = 64 << 10

// The command fields (PS3.7 annex E.1). A response has the bit fieldResponse as well.
const (
	fieldStore    uint16 = 0x0001
	fieldFind     uint16 = 0x0020
	fieldEcho     uint16 = 0x0030
	fieldReport   uint16 = 0x0100
	fieldAction   uint16 = 0x0130
	fieldCancel   uint16 = 0x0FFF
	fieldResponse uint16 = 0x8000
)

// Data set types (PS3.7 annex E.1): none, and one of the values that mean that there is one.
const (
	dataNone    uint16 = 0x0101
	dataPresent uint16 = 0x0001
)

// Element numbers of group 0000 (PS3.7 annex E.1).
const (
	elLength            = 0x0000
	elAffectedClass     = 0x0002
	elRequestedClass    = 0x0003
	elField             = 0x0100
	elMessageID         = 0x0110
	elRespondedTo       = 0x0120
	elPriority          = 0x0700
	elDataType          = 0x0800
	elStatus            = 0x0900
	elComment           = 0x0902
	elAffectedInstance  = 0x1000
	elRequestedInstance = 0x1001
	elEvent             = 0x1002
	elAction            = 0x1008
	elMoveAE            = 0x1030
	elMoveID            = 0x1031
)

// command is a command set.
type command struct {
	field           uint16
	id              uint16 // of a request
	respondedTo     uint16 // of a response and of C-CANCEL-RQ
	class, instance string // affected or requested, as the field asks
	priority        uint16
	data            bool
	status          Status
	comment         string
	event, action   uint16
	moveAE          string
	moveID          uint16
	badUID          bool // class or instance was there and is no UID; it is left empty then
}

func (c *command) response() bool { return c.field&fieldResponse != 0 }

// operation is the command field without the bit that makes it a response.
func (c *command) operation() uint16 { return c.field &^ fieldResponse }

// hasData tells from a command set whether a data set follows it.
func hasData(set []byte) (bool, error) {
	c, err := decodeCommand(set)
	if err != nil {
		return false, err
	}
	return c.data, nil
}

// decodeCommand reads a command set: implicit VR little endian, group 0000 only, in the order of the tags (PS3.7 section 6.3.1).
// Elements that it does not know are skipped. The group length is not believed: where a command ends, its last fragment says.
// Errors: BadResponse malformed_command.
func decodeCommand(set []byte) (*command, error) {
	if len(set) > maxCommand {
		return nil, badCommand("command set of over %d bytes", maxCommand)
	}
	var c command
	seen := map[uint16]bool{}
	last := -1
	for len(set) > 0 {
		if len(set) < 8 {
			return nil, badCommand("command set ends within an element")
		}
		group, number := binary.LittleEndian.Uint16(set), binary.LittleEndian.Uint16(set[2:])
		length := binary.LittleEndian.Uint32(set[4:])
		switch {
		case group != 0:
			return nil, badCommand("element of another group in a command set")
		case int(number) <= last:
			return nil, badCommand("elements of a command set are out of order")
		case uint64(length) > uint64(len(set)-8):
			return nil, badCommand("element of a command set is longer than what remains")
		}
		value := set[8 : 8+length]
		set, last = set[8+length:], int(number)
		seen[number] = true
		if err := c.take(number, value); err != nil {
			return nil, err
		}
	}
	return &c, c.complete(seen)
}

// take keeps the value of an element that is known.
func (c *command) take(number uint16, value []byte) error {
	switch number {
	case elLength:
		if len(value) != 4 {
			return badCommand("group length is not of 4 bytes")
		}
	case elAffectedClass, elRequestedClass:
		c.uid(&c.class, value)
	case elAffectedInstance, elRequestedInstance:
		c.uid(&c.instance, value)
	case elComment:
		c.comment = trim(value, 64)
	case elMoveAE:
		c.moveAE = trim(value, 16)
	case elDataType:
		var n uint16
		err := short(&n, value)
		c.data = n != dataNone
		return err
	default:
		if to := c.number(number); to != nil {
			return short(to, value)
		}
	}
	return nil
}

// number is where an element with a 16-bit number is kept; nil if it is none.
func (c *command) number(number uint16) *uint16 {
	switch number {
	case elField:
		return &c.field
	case elMessageID:
		return &c.id
	case elRespondedTo:
		return &c.respondedTo
	case elPriority:
		return &c.priority
	case elStatus:
		return (*uint16)(&c.status)
	case elEvent:
		return &c.event
	case elAction:
		return &c.action
	case elMoveID:
		return &c.moveID
	}
	return nil
}

// complete tells whether all is there that the command cannot do without.
func (c *command) complete(seen map[uint16]bool) error {
	need := []uint16{elField, elDataType, elMessageID}
	switch {
	case c.response():
		need = []uint16{elField, elDataType, elRespondedTo, elStatus}
	case c.field == fieldCancel:
		need = []uint16{elField, elDataType, elRespondedTo}
	}
	for _, number := range need {
		if !seen[number] {
			return badCommand("command set lacks element (0000,%04x)", number)
		}
	}
	return nil
}

func (c *command) uid(to *string, value []byte) {
	if s := trim(value, len(value)); validUID(s) {
		*to = s
	} else if s != "" {
		c.badUID = true
	}
}

// validUID tells whether s has only the characters of a UID and no more than it may (PS3.5 section 9.1).
func validUID(s string) bool {
	if len(s) == 0 || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		if (s[i] < '0' || s[i] > '9') && s[i] != '.' {
			return false
		}
	}
	return true
}

func short(to *uint16, value []byte) error {
	if len(value) != 2 {
		return badCommand("number in a command set is not of 2 bytes")
	}
	*to = binary.LittleEndian.Uint16(value)
	return nil
}

// trim is a value without its padding, cut at most bytes.
func trim(value []byte, most int) string {
	value = bytes.Trim(value, " \x00")
	return string(value[:min(len(value), most)])
}

func badCommand(format string, args ...any) error {
	return gantry.Errorf(gantry.BadResponse, CodeMalformedCommand, format, args...)
}

// encode writes the command set with its group length.
func (c *command) encode() []byte {
	b := make([]byte, 12, 256)
	binary.LittleEndian.PutUint32(b[4:], 4)
	b = c.encodeClass(b)
	b = appendShort(b, elField, c.field)
	if !c.response() && c.field != fieldCancel {
		b = appendShort(b, elMessageID, c.id)
	}
	if c.response() || c.field == fieldCancel {
		b = appendShort(b, elRespondedTo, c.respondedTo)
	}
	if c.field == fieldStore || c.field == fieldFind {
		b = appendShort(b, elPriority, c.priority)
	}
	data := dataNone
	if c.data {
		data = dataPresent
	}
	b = appendShort(b, elDataType, data)
	if c.response() {
		b = appendShort(b, elStatus, uint16(c.status))
		b = appendText(b, elComment, comment(c.comment), ' ')
	}
	b = c.encodeInstance(b)
	binary.LittleEndian.PutUint32(b[8:], uint32(len(b)-12))
	return b
}

func (c *command) encodeClass(b []byte) []byte {
	if c.field == fieldAction {
		return appendText(b, elRequestedClass, c.class, 0)
	}
	return appendText(b, elAffectedClass, c.class, 0)
}

// encodeInstance writes the elements from (0000,1000) on.
func (c *command) encodeInstance(b []byte) []byte {
	number := uint16(elAffectedInstance)
	if c.field == fieldAction {
		number = elRequestedInstance
	}
	b = appendText(b, number, c.instance, 0)
	switch {
	case c.operation() == fieldReport:
		b = appendShort(b, elEvent, c.event)
	case c.operation() == fieldAction:
		b = appendShort(b, elAction, c.action)
	case c.field == fieldStore && c.moveAE != "":
		b = appendText(b, elMoveAE, c.moveAE, ' ')
		b = appendShort(b, elMoveID, c.moveID)
	}
	return b
}

func appendShort(b []byte, number, value uint16) []byte {
	b = append(b, 0, 0, byte(number), byte(number>>8), 2, 0, 0, 0)
	return binary.LittleEndian.AppendUint16(b, value)
}

// appendText writes an element with a text, if there is one.
func appendText(b []byte, number uint16, value string, padding byte) []byte {
	if value == "" {
		return b
	}
	b = append(b, 0, 0, byte(number), byte(number>>8))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(value)+len(value)%2))
	b = append(b, value...)
	if len(value)%2 == 1 {
		b = append(b, padding)
	}
	return b
}

// comment is a text as an Error Comment may hold it: at most 64 printable characters of the default repertoire (PS3.7 annex C).
func comment(s string) string {
	b := []byte(s[:min(len(s), 64)])
	for i, c := range b {
		if c < ' ' || c > '~' || c == '\\' {
			b[i] = '?'
		}
	}
	return string(b)
}
