package dicom

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"

	library "github.com/suyashkumar/dicom"
	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// What one file may put into a map of tags.
const (
	maxTagValue = 16 << 10 // bytes of one value; longer ones are left out
	maxTagBytes = 1 << 20  // bytes of all values
)

// keywordSyntax is the one keyword that comes from the file meta information.
const keywordSyntax = "TransferSyntaxUID"

// Tags reads the standard text and number elements of the outermost data set that stand before
// the pixel data: keyword (PS3.6) to text in UTF-8, several values divided by backslashes. It
// leaves out sequences, private elements, empty values and values over 16 KiB. r is a file that
// Scan accepted, from its start; size as there. Errors are Illegal *gantry.Error, or r's own.
//
// The tag library sees only what the scanner copied for it: a flat, small data set in a known
// encoding. So it cannot read a file in another way than Scan did, nor recurse, nor allocate by
// a length from outside.
func Tags(r io.Reader, size int64) (map[string]string, error) {
	c := &collector{}
	s := newScanner(r, size, DefaultLimits())
	defer s.raw.free()
	s.raw.hash = nil
	s.visit = func(e element, value []byte) { c.add(e, value, s.ts.big) }
	s.stop = 0x7fe00000
	if err := s.run(); err != nil {
		return nil, err
	}
	if c.full {
		return nil, gantry.Errorf(gantry.Illegal, gantry.CodeTooLarge, "tags of over %d bytes", maxTagBytes)
	}
	tags, err := c.parse(s.ts.big, s.held[slotCharset].text())
	if err != nil {
		return nil, err
	}
	tags[keywordSyntax] = s.ts.uid
	return tags, nil
}

// collector keeps the elements that the library is to see.
type collector struct {
	elements []collected
	bytes    int
	full     bool
}

type collected struct {
	tag   uint32
	vr    vr
	value []byte
}

func (c *collector) add(e element, value []byte, big bool) {
	v := e.vr
	if v == vrUN {
		v = dictionaryVR(e.tag)
		if big && v.unit() > 1 { // UN is little endian everywhere
			v = 0
		}
	}
	unit := v.unit()
	if e.tag == tagCharset || e.tag>>16&1 == 1 || e.tag&0xffff == 0 || len(value) == 0 || unit == 0 || len(value)%unit != 0 {
		return
	}
	if c.bytes += len(value); c.bytes > maxTagBytes {
		c.full = true
		return
	}
	c.elements = append(c.elements, collected{e.tag, v, bytes.Clone(value)})
}

// parse hands the elements to the library.
func (c *collector) parse(big bool, charset string) (tags map[string]string, err error) {
	defer func() {
		if p := recover(); p != nil { // its text may hold values
			tags, err = nil, gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "read tags: the library panicked")
		}
	}()
	room := parsing.Get().(*parseRoom)
	defer parsing.Put(room)
	file := c.file(room, big, charset)
	room.in.Reset(bytes.NewReader(file))
	set, err := library.Parse(room.in, int64(len(file)), nil, library.SkipPixelData())
	if err != nil {
		return nil, gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "read tags: the library refused them")
	}
	tags = make(map[string]string, len(set.Elements))
	for _, e := range set.Elements {
		if info, err := tag.Find(e.Tag); err == nil && e.Tag.Group != groupMeta && info.Keyword != "" {
			tags[info.Keyword] = valueText(e.Value)
		}
	}
	return tags, nil
}

// parseRoom is what a file is made in that the library then reads. It keeps nothing of that; its own buffer would be made anew
// for each, were the reader not one already.
type parseRoom struct {
	file bytes.Buffer
	in   *bufio.Reader
}

var parsing = sync.Pool{New: func() any { return &parseRoom{in: bufio.NewReader(nil)} }}

// file is the elements as a Part 10 file, explicit in the byte order in which they came.
func (c *collector) file(room *parseRoom, big bool, charset string) []byte {
	out := &room.file
	out.Reset()
	out.Grow(4096 + c.bytes)
	out.Write(make([]byte, preambleSize))
	out.WriteString("DICM")
	uid := syntaxExplicit + "\x00"
	var order binary.AppendByteOrder = binary.LittleEndian
	if big {
		uid, order = syntaxBig+"\x00", binary.BigEndian
	}
	appendElement(out, binary.LittleEndian, tagMetaLength, vrUL, []byte{byte(8 + len(uid)), 0, 0, 0})
	appendElement(out, binary.LittleEndian, tagMetaSyntax, vrUI, []byte(uid))
	name, decode := libraryTerms(charset)
	if name != "" {
		appendElement(out, order, tagCharset, vrCS, []byte(name))
	}
	for _, e := range c.elements {
		if text, ok := toUTF8(decode, e.value); ok && e.vr.chars() != notText {
			e.value = []byte(text)
		}
		appendElement(out, order, e.tag, e.vr, e.value)
	}
	return out.Bytes()
}

// libraryTerms gives the character set as the library may see it, and the term that we decode
// in its stead. Where neither can, texts are taken as UTF-8.
func libraryTerms(charset string) (name, decode string) {
	terms := charsets(charset)
	if len(terms) == 1 && !libraryCharset(terms[0]) {
		return "", terms[0]
	}
	for _, t := range terms {
		if !libraryCharset(t) {
			return "", ""
		}
	}
	return strings.Join(terms, `\`), ""
}

func appendElement(out *bytes.Buffer, order binary.AppendByteOrder, tag uint32, v vr, value []byte) {
	b := order.AppendUint16(out.AvailableBuffer(), uint16(tag>>16))
	b = order.AppendUint16(b, uint16(tag))
	b = append(b, v.letters()...)
	if _, long := v.known(); long {
		b = order.AppendUint32(append(b, 0, 0), uint32(len(value)))
	} else {
		b = order.AppendUint16(b, uint16(len(value)))
	}
	out.Write(b)
	out.Write(value)
}

// valueText is a value of the library as text.
func valueText(v library.Value) string {
	var parts []string
	switch x := v.GetValue().(type) {
	case []string:
		for _, p := range x {
			parts = append(parts, strings.Trim(p, " \x00"))
		}
	case []int:
		for _, n := range x {
			parts = append(parts, strconv.Itoa(n))
		}
	case []float64:
		for _, n := range x {
			parts = append(parts, fmt.Sprint(n))
		}
	}
	return strings.ToValidUTF8(strings.Join(parts, `\`), "\ufffd")
}
