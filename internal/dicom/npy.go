package dicom

import (
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// maxNPYHead bounds the header of an array; one of a picture has some 100 bytes.
const maxNPYHead = 4096

// npyHead is the header of a NumPy array (NEP 1).
type npyHead struct {
	descr   string
	fortran bool
	shape   []int
	values  int // where they begin
}

// pictureOfNPY takes an array of format 1, 2 or 3 in C order: rows and columns, with one or three
// samples behind them or a 1 in front of them, of <f4, |u1, <u2 or <i2.
func pictureOfNPY(b []byte, lim FrameLimits) (*Picture, error) {
	h, err := readNPYHead(b)
	if err != nil {
		return nil, err
	}
	p := &Picture{Photometric: monochrome2}
	switch h.descr {
	case "<f4":
		p.Bytes, p.Float, p.Signed = 4, true, true
	case "|u1", "<u1":
		p.Bytes = 1
	case "<u2":
		p.Bytes = 2
	case "<i2":
		p.Bytes, p.Signed = 2, true
	default:
		return nil, unreadable("an array of other than float32, uint8, uint16 or int16 in little endian")
	}
	if h.fortran {
		return nil, unreadable("an array in Fortran order")
	}
	p.BitsStored = 8 * p.Bytes
	if err := p.shape(h.shape); err != nil {
		return nil, err
	}
	if err := p.bounded(lim); err != nil {
		return nil, err
	}
	p.Values = b[h.values:]
	switch want := p.Rows * p.Columns * p.Samples * p.Bytes; {
	case len(p.Values) < want:
		return nil, gantry.Errorf(gantry.Illegal, gantry.CodeTruncated, "read array: it ends before its last value")
	case len(p.Values) > want:
		return nil, brokenNPY("bytes behind the last value")
	}
	return p, nil
}

// shape takes the sizes of an array.
func (p *Picture) shape(n []int) error {
	p.Samples = 1
	switch {
	case len(n) == 2:
	case len(n) == 3 && (n[2] == 1 || n[2] == 3):
		p.Samples = n[2]
	case len(n) == 3 && n[0] == 1:
		n = n[1:]
	default:
		return unreadable("an array that is no picture of one or three samples")
	}
	p.Rows, p.Columns = n[0], n[1]
	if p.Samples == 3 {
		p.Photometric = "RGB"
	}
	return nil
}

func brokenNPY(what string) error {
	return gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "read array: %s", what)
}

// readNPYHead reads the magic, the version and the dictionary.
func readNPYHead(b []byte) (*npyHead, error) {
	if !strings.HasPrefix(string(b[:min(len(b), 6)]), "\x93NUMPY") {
		return nil, brokenNPY("no magic")
	}
	if len(b) < 12 {
		return nil, gantry.Errorf(gantry.Illegal, gantry.CodeTruncated, "read array: it ends in its header")
	}
	at, n := 10, uint32(binary.LittleEndian.Uint16(b[8:]))
	switch b[6] {
	case 1:
	case 2, 3:
		at, n = 12, binary.LittleEndian.Uint32(b[8:])
	default:
		return nil, unreadable("an array of unknown format")
	}
	switch {
	case n > maxNPYHead:
		return nil, gantry.Errorf(gantry.Illegal, gantry.CodeTooLarge, "read array: a header of over %d bytes", maxNPYHead)
	case int(n) > len(b)-at:
		return nil, gantry.Errorf(gantry.Illegal, gantry.CodeTruncated, "read array: it ends in its header")
	}
	h := &npyHead{values: at + int(n)}
	if !h.dictionary(string(b[at:h.values])) {
		return nil, brokenNPY("a header that is not that of an array")
	}
	return h, nil
}

// dictionary reads the literal of a Python dictionary that a header is: the keys descr,
// fortran_order and shape, each once, and no other.
func (h *npyHead) dictionary(s string) bool {
	l := &literal{s}
	seen := map[string]bool{}
	if !l.take("{") {
		return false
	}
	for !l.take("}") {
		key, ok := l.text()
		if !ok || seen[key] || !l.take(":") {
			return false
		}
		seen[key] = true
		switch key {
		case "descr":
			h.descr, ok = l.text()
		case "fortran_order":
			h.fortran = l.take("True")
			ok = h.fortran || l.take("False")
		case "shape":
			h.shape, ok = l.tuple()
		default:
			ok = false
		}
		if !ok {
			return false
		}
		if !l.take(",") && !strings.HasPrefix(l.skip(), "}") {
			return false
		}
	}
	return len(seen) == 3 && l.skip() == ""
}

// literal is what is left of a Python literal.
type literal struct{ s string }

// skip goes past white space.
func (l *literal) skip() string {
	l.s = strings.TrimLeft(l.s, " \t\r\n")
	return l.s
}

// take goes past a token if it comes next.
func (l *literal) take(token string) bool {
	rest, ok := strings.CutPrefix(l.skip(), token)
	if ok {
		l.s = rest
	}
	return ok
}

// text reads a string without escapes.
func (l *literal) text() (string, bool) {
	for _, quote := range []string{"'", `"`} {
		if l.take(quote) {
			text, rest, ok := strings.Cut(l.s, quote)
			l.s = rest
			return text, ok && !strings.Contains(text, `\`)
		}
	}
	return "", false
}

// tuple reads a tuple of up to three whole numbers from 1 on.
func (l *literal) tuple() (out []int, ok bool) {
	if !l.take("(") {
		return nil, false
	}
	for !l.take(")") {
		end := strings.IndexFunc(l.skip(), func(r rune) bool { return r < '0' || r > '9' })
		if end < 1 || end > 9 || len(out) == 3 {
			return nil, false
		}
		n, err := strconv.Atoi(l.s[:end])
		if err != nil || n < 1 {
			return nil, false
		}
		out = append(out, n)
		l.s = l.s[end:]
		if !l.take(",") && !strings.HasPrefix(l.skip(), ")") {
			return nil, false
		}
	}
	return out, true
}
