package http

import (
	"io"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Codes of JSON answers that are none. All are BadResponse.
const (
	CodeBadJSON      gantry.Code = "bad_json"
	CodeJSONTooDeep  gantry.Code = "json_too_deep"
	CodeJSONTooLarge gantry.Code = "json_too_large"
)

const (
	maxJSONDepth = 512
	maxJSONSize  = 64 << 20 // bytes
)

// jsonReader passes bytes on and checks meanwhile that they are one JSON text in UTF-8 (RFC 8259).
// It holds nothing of the text. One that is wrong ends in an error instead of io.EOF.
type jsonReader struct {
	r    io.Reader
	text jsonText
	size int64
	err  error
}

func newJSONReader(r io.Reader) *jsonReader { return &jsonReader{r: r} }

// Read reads the text.
func (j *jsonReader) Read(p []byte) (int, error) {
	if j.err != nil {
		return 0, j.err
	}
	n, err := j.r.Read(p)
	j.size += int64(n)
	switch {
	case j.size > maxJSONSize:
		j.err = gantry.Errorf(gantry.BadResponse, CodeJSONTooLarge, "read answer: JSON over %d bytes", maxJSONSize)
	case !j.text.write(p[:n]) && j.text.depth > maxJSONDepth:
		j.err = gantry.Errorf(gantry.BadResponse, CodeJSONTooDeep, "read answer: JSON nested deeper than %d", maxJSONDepth)
	case j.text.state == jsonWrong, err == io.EOF && !j.text.complete():
		j.err = gantry.Errorf(gantry.BadResponse, CodeBadJSON, "read answer: it is no JSON")
	default:
		j.err = err
		return n, err
	}
	return 0, j.err
}

// ended is nil if a whole text was read to its end.
func (j *jsonReader) ended() error { return unended(j.err) }

// jsonState says what may come next.
type jsonState uint8

const (
	jsonValue     jsonState = iota
	jsonFirstItem           // a value or ]
	jsonFirstKey            // a key or }
	jsonKey
	jsonColon
	jsonAfter // a value ended
	jsonString
	jsonEscape
	jsonHex     // of \u
	jsonUTF8    // the rest of a character
	jsonLiteral // the rest of true, false, null
	jsonMinus
	jsonZero // a number that begins with 0
	jsonInt
	jsonPoint
	jsonFraction
	jsonE
	jsonESign
	jsonExponent
	jsonWrong
)

// jsonText is an automaton over the bytes of a text. What it remembers does not grow: which of the
// open brackets are objects is a bit for each.
type jsonText struct {
	state   jsonState
	depth   int
	objects [maxJSONDepth / 64]uint64
	key     bool   // the string is a key
	left    int    // of jsonHex and jsonUTF8
	low     byte   // the least that the next byte of a character may be
	high    byte   // the most
	literal string // what is left of it
}

// write takes more bytes. It is false once the text is wrong.
func (t *jsonText) write(p []byte) bool {
	for _, c := range p {
		if t.state == jsonString && c >= ' ' && c < 0x80 && c != '"' && c != '\\' {
			continue
		}
		if t.state = t.step(c); t.state == jsonWrong {
			return false
		}
	}
	return t.state != jsonWrong
}

// complete tells whether the text may end here.
func (t *jsonText) complete() bool {
	if t.depth > 0 {
		return false
	}
	switch t.state {
	case jsonAfter, jsonZero, jsonInt, jsonFraction, jsonExponent:
		return true
	}
	return false
}

// step gives the state after c.
func (t *jsonText) step(c byte) jsonState {
	switch {
	case t.state >= jsonMinus && t.state <= jsonExponent:
		return t.number(c)
	case t.state >= jsonString:
		return t.inside(c)
	case c == ' ' || c == '\t' || c == '\n' || c == '\r':
		return t.state
	}
	switch t.state {
	case jsonFirstItem:
		if c == ']' {
			return t.close(false)
		}
		return t.begin(c)
	case jsonFirstKey, jsonKey:
		if c == '}' && t.state == jsonFirstKey {
			return t.close(true)
		}
		t.key = true
		return when(c == '"', jsonString)
	case jsonColon:
		return when(c == ':', jsonValue)
	case jsonAfter:
		return t.after(c)
	}
	return t.begin(c)
}

func when(ok bool, s jsonState) jsonState {
	if ok {
		return s
	}
	return jsonWrong
}

// begin takes the first byte of a value.
func (t *jsonText) begin(c byte) jsonState {
	switch c {
	case '{':
		return t.open(true)
	case '[':
		return t.open(false)
	case '"':
		t.key = false
		return jsonString
	case 't':
		t.literal = "rue"
	case 'f':
		t.literal = "alse"
	case 'n':
		t.literal = "ull"
	case '-':
		return jsonMinus
	case '0':
		return jsonZero
	default:
		return when(c >= '1' && c <= '9', jsonInt)
	}
	return jsonLiteral
}

// open goes a level down. Below the last one the text is wrong, and depth tells why.
func (t *jsonText) open(object bool) jsonState {
	if t.depth++; t.depth > maxJSONDepth {
		return jsonWrong
	}
	word, bit := &t.objects[(t.depth-1)/64], uint64(1)<<((t.depth-1)%64)
	if object {
		*word |= bit
		return jsonFirstKey
	}
	*word &^= bit
	return jsonFirstItem
}

func (t *jsonText) close(object bool) jsonState {
	if t.depth == 0 || t.inObject() != object {
		return jsonWrong
	}
	t.depth--
	return jsonAfter
}

func (t *jsonText) inObject() bool {
	return t.objects[(t.depth-1)/64]>>((t.depth-1)%64)&1 == 1
}

// after takes a byte between two values.
func (t *jsonText) after(c byte) jsonState {
	switch {
	case c == ']' || c == '}':
		return t.close(c == '}')
	case c != ',' || t.depth == 0:
		return jsonWrong
	case t.inObject():
		return jsonKey
	}
	return jsonValue
}

// inside takes a byte of a string or a literal.
func (t *jsonText) inside(c byte) jsonState {
	switch t.state {
	case jsonString:
		return t.inString(c)
	case jsonEscape:
		switch c {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			return jsonString
		}
		t.left = 4
		return when(c == 'u', jsonHex)
	case jsonHex:
		if !(c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f') {
			return jsonWrong
		}
		t.left--
	case jsonUTF8:
		if c < t.low || c > t.high {
			return jsonWrong
		}
		t.low, t.high = 0x80, 0xbf
		t.left--
	case jsonLiteral:
		if c != t.literal[0] {
			return jsonWrong
		}
		if t.literal = t.literal[1:]; t.literal == "" {
			return jsonAfter
		}
		return jsonLiteral
	default:
		return jsonWrong
	}
	if t.left == 0 {
		return jsonString
	}
	return t.state
}

// inString takes a byte of a string that begins a character (RFC 3629 section 4 for the bounds of
// the byte after it).
func (t *jsonText) inString(c byte) jsonState {
	t.low, t.high = 0x80, 0xbf
	switch {
	case c == '"' && t.key:
		return jsonColon
	case c == '"':
		return jsonAfter
	case c == '\\':
		return jsonEscape
	case c < 0x80:
		return when(c >= ' ', jsonString)
	case c >= 0xc2 && c <= 0xdf:
		t.left = 1
	case c >= 0xe0 && c <= 0xef:
		t.left = 2
	case c >= 0xf0 && c <= 0xf4:
		t.left = 3
	default:
		return jsonWrong
	}
	switch c {
	case 0xe0:
		t.low = 0xa0
	case 0xed:
		t.high = 0x9f
	case 0xf0:
		t.low = 0x90
	case 0xf4:
		t.high = 0x8f
	}
	return jsonUTF8
}

// number takes a byte of a number or the one after it.
func (t *jsonText) number(c byte) jsonState {
	digit, e := c >= '0' && c <= '9', c == 'e' || c == 'E'
	switch s := t.state; {
	case s == jsonMinus && c == '0':
		return jsonZero
	case s == jsonMinus:
		return when(digit, jsonInt)
	case s == jsonPoint:
		return when(digit, jsonFraction)
	case s == jsonE && (c == '+' || c == '-'):
		return jsonESign
	case s == jsonE, s == jsonESign:
		return when(digit, jsonExponent)
	case digit && s != jsonZero:
		return s
	case c == '.' && (s == jsonZero || s == jsonInt):
		return jsonPoint
	case e && s != jsonExponent:
		return jsonE
	}
	t.state = jsonAfter
	return t.step(c)
}
