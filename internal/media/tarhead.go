package media

import (
	"bytes"
	"strings"
)

// tarBlock is the unit of a tar: a header, or a piece of a file, takes whole ones.
const tarBlock = 512

// Types of tar headers (POSIX.1-2017 pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar
// Format").
const (
	tarV7       = 0
	tarFile     = '0'
	tarLink     = '1'
	tarFolder   = '5'
	tarFIFO     = '6'
	tarContig   = '7' // a file, laid out in one piece
	tarPAX      = 'x'
	tarSolaris  = 'X' // the same before it was standard
	tarGlobal   = 'g'
	tarLongName = 'L'
	tarLongLink = 'K'
	tarSparse   = 'S'
	tarVolume   = 'V'
)

// tarNumber reads a numeric field: octal digits between spaces and NULs, or, with the upper bit
// set, a big-endian number (GNU, star). negative is a number that cannot be a size; ok is false for
// what is no number.
func tarNumber(field []byte) (v int64, ok bool) {
	if field[0]&0x80 != 0 {
		if field[0]&0x40 != 0 {
			return -1, true
		}
		v = int64(field[0] & 0x3F)
		for _, c := range field[1:] {
			if v >= 1<<54 {
				return -1, true // over what any file has
			}
			v = v<<8 | int64(c)
		}
		return v, true
	}
	digits := bytes.Trim(field, " \x00")
	for _, c := range digits {
		if c < '0' || c > '7' {
			return 0, false
		}
		v = v<<3 | int64(c-'0')
	}
	return v, true
}

// isTar tells whether a block is a tar header: its checksum is right, and its size a number. Headers
// from before ustar have no other mark.
func isTar(h []byte) bool {
	want, ok := tarNumber(h[148:156])
	_, sized := tarNumber(h[124:136])
	if !ok || !sized || h[0] == 0 && want == 8*' ' {
		return false
	}
	var unsigned, signed int64
	for i, c := range h[:tarBlock] {
		if i >= 148 && i < 156 {
			c = ' '
		}
		unsigned += int64(c)
		signed += int64(int8(c)) // some old writers summed so
	}
	return want == unsigned || want == signed
}

// tarText is a field up to its NUL.
func tarText(field []byte) string {
	if i := bytes.IndexByte(field, 0); i >= 0 {
		field = field[:i]
	}
	return string(field)
}

// tarName is the name in a header. Only ustar has a prefix; GNU tar keeps other things there.
func tarName(h []byte) string {
	name := tarText(h[:100])
	if string(h[257:263]) != "ustar\x00" {
		return name
	}
	prefix := h[345:500]
	if string(h[508:512]) == "tar\x00" { // star
		prefix = h[345:476]
	}
	if p := tarText(prefix); p != "" {
		return p + "/" + name
	}
	return name
}

// paxRecords are what extended headers say of the next entry, or of all that follow.
type paxRecords struct {
	path    string
	hasPath bool
	size    string
	sparse  bool
}

// parsePAX reads records of the form "length key=value\n". ok is false for anything else.
func parsePAX(data string) (p paxRecords, ok bool) {
	for data != "" {
		space := strings.IndexByte(data, ' ')
		if space < 1 || space > 8 {
			return p, false
		}
		n := 0
		for _, c := range []byte(data[:space]) {
			if c < '0' || c > '9' {
				return p, false
			}
			n = n*10 + int(c-'0')
		}
		if n <= space+1 || n > len(data) || data[n-1] != '\n' {
			return p, false
		}
		key, value, found := strings.Cut(data[space+1:n-1], "=")
		if !found || key == "" {
			return p, false
		}
		switch {
		case key == "path", key == "GNU.sparse.name":
			p.path, p.hasPath = value, value != ""
		case key == "size":
			p.size = value
		}
		p.sparse = p.sparse || strings.HasPrefix(key, "GNU.sparse.") || key == "SCHILY.realsize"
		data = data[n:]
	}
	return p, true
}

// decimal reads the size in a PAX record; -1 if it cannot be one.
func decimal(s string) int64 {
	if len(s) > 18 {
		return -1
	}
	v := int64(0)
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return -1
		}
		v = v*10 + int64(c-'0')
	}
	return v
}
