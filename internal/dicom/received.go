package dicom

import (
	"encoding/binary"
	"io"
	"strings"
)

// ImplementationUID names gantry in the file meta information of what it writes, and in associations (PS3.7 section D.3.3.2).
const ImplementationUID = implementationUID

// ImplementationVersion is gantry's implementation version name.
const ImplementationVersion = "GANTRY"

// tagPixels is the first of the pixel data elements: Tags looks no further.
const tagPixels = 0x7fe00000

// KnownSyntax tells whether Scan can judge objects of a transfer syntax, so that they can be kept.
func KnownSyntax(uid string) bool {
	_, ok := syntaxOf(uid)
	return ok
}

// Skipper is a reader that goes past bytes without giving them. Skip goes past n bytes; if it gets past fewer, the error says why, io.EOF
// at the end.
type Skipper interface {
	io.Reader
	Skip(n int64) (int64, error)
}

// ScanTags is Scan, and Tags where Scan accepts the file, in one pass over r. The tags are nil where they cannot be read,
// which is no refusal. It takes no digest, so a Skipper need not give what nothing is to be learnt from.
func ScanTags(r io.Reader, size int64, l Limits) (*Info, map[string]string, error) {
	c := &collector{}
	s := newScanner(r, size, l)
	s.raw.hash = nil
	s.raw.past, _ = r.(Skipper)
	s.visit = func(e element, value []byte) {
		if e.tag < tagPixels && !c.full {
			c.add(e, value, s.ts.big)
		}
	}
	info, err := s.judged(size)
	if err != nil || c.full {
		return info, nil, err
	}
	tags, err := c.parse(s.ts.big, s.held[slotCharset].text())
	if err != nil {
		return info, nil, nil
	}
	tags[keywordSyntax] = s.ts.uid
	return info, tags, nil
}

// FileMeta is what the file meta information says of an object that came over the network (PS3.10 section 7.1). An AE title
// that is none by PS3.5 section 6.2 is left out.
type FileMeta struct {
	Class, Instance, Syntax string // valid UIDs
	Sender                  string // AE title of who sent it, for (0002,0016) and (0002,0017)
	Receiver                string // AE title that it was sent to, (0002,0018)
}

// Append appends the preamble and the file meta information. The data set follows as it came.
func (m FileMeta) Append(out []byte) []byte {
	b := appendHead(nil, false, 0x00020001, vrOB, []byte{0, 1})
	for _, e := range []struct {
		tag  uint32
		vr   vr
		text string
	}{
		{tagMetaClass, vrUI, m.Class}, {tagMetaInstance, vrUI, m.Instance}, {tagMetaSyntax, vrUI, m.Syntax},
		{0x00020012, vrUI, implementationUID}, {0x00020013, vrSH, ImplementationVersion},
		{0x00020016, vrAE, m.Sender}, {0x00020017, vrAE, m.Sender}, {0x00020018, vrAE, m.Receiver},
	} {
		if e.vr == vrAE && !ValidAE(e.text) {
			continue
		}
		b = appendHead(b, false, e.tag, e.vr, padded(e.vr, []byte(e.text)))
	}
	out = append(append(out, make([]byte, preambleSize)...), "DICM"...)
	out = appendHead(out, false, tagMetaLength, vrUL, binary.LittleEndian.AppendUint32(nil, uint32(len(b))))
	return append(out, b...)
}

// ValidAE tells whether s is an application entity title: 1 to 16 printable ASCII characters but the backslash, not blanks
// alone, and none around it (PS3.5 section 6.2).
func ValidAE(s string) bool {
	return s != "" && len(s) <= 16 && strings.Trim(s, " ") == s && !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c > '~' || c == '\\' })
}
