package dimse

import (
	"encoding/binary"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Tags of group FFFE (PS3.5 section 7.5).
const (
	tagItem        = 0xFFFEE000
	tagItemEnd     = 0xFFFEE00D
	tagSequenceEnd = 0xFFFEE0DD
)

const undefined = 0xFFFFFFFF

// decodeDataset reads a data set in implicit or explicit VR little endian. The values are parts of b. A sequence is one that has
// the VR, or an undefined length; in implicit VR also one whose tag is known. Errors: BadResponse malformed_dataset, or too_large
// for a data set of over 1 MiB, 10,000 elements or items, or 8 sequences in one another; Illegal unsupported_format for another transfer syntax.
func decodeDataset(b []byte, transfer string) (Dataset, error) {
	if !heldSyntax(transfer) {
		return nil, gantry.Errorf(gantry.Illegal, gantry.CodeUnsupportedFormat, "read data set: not in implicit or explicit VR little endian")
	}
	if len(b) > maxDataset {
		return nil, gantry.Errorf(gantry.BadResponse, gantry.CodeTooLarge, "read data set: over %d bytes", maxDataset)
	}
	p := parser{b: b, open: []level{{end: len(b), limit: len(b), implicit: transfer == ImplicitLE}}}
	for {
		top := &p.open[len(p.open)-1]
		switch {
		case p.at == top.end && len(p.open) == 1:
			return top.set, nil
		case p.at == top.end:
			p.close()
			continue
		}
		if err := p.next(top); err != nil {
			return nil, err
		}
	}
}

// parser reads a data set without recursion.
type parser struct {
	b        []byte
	at       int
	elements int
	items    int
	open     []level // by turns data sets and sequences, the outermost first
}

// level is a data set or a sequence that has begun.
type level struct {
	isSequence bool
	implicit   bool
	end        int     // where it ends; -1: at its delimiter
	limit      int     // where what it stands in ends at the latest
	set        Dataset // of a data set
	sequence   Element // of a sequence, with its items so far
}

// header is what stands before a value.
type header struct {
	tag    uint32
	vr     string
	length uint32
}

func (p *parser) next(top *level) error {
	h, err := p.header(top)
	if err != nil {
		return err
	}
	if h.length != undefined && uint64(h.length) > uint64(top.limit-p.at) {
		return badDataset("read data set: element is longer than what remains")
	}
	switch {
	case h.tag == tagItemEnd && !top.isSequence, h.tag == tagSequenceEnd && top.isSequence:
		if top.end != -1 || h.length != 0 {
			return badDataset("read data set: delimiter where none belongs")
		}
		p.close()
		return nil
	case top.isSequence != (h.tag == tagItem), h.tag>>16 == 0xFFFE && h.tag != tagItem:
		return badDataset("read data set: item where none belongs, or none where one does")
	case p.tooMany(top.isSequence):
		return gantry.Errorf(gantry.BadResponse, gantry.CodeTooLarge, "read data set: over %d elements or items", maxElements)
	case top.isSequence:
		return p.begin(level{implicit: top.implicit}, h.length, top.limit)
	case h.vr == "SQ", h.length == undefined:
		return p.sequence(top, h)
	}
	top.set = append(top.set, Element{Group: uint16(h.tag >> 16), Number: uint16(h.tag), VR: h.vr, Value: p.b[p.at : p.at+int(h.length)]})
	p.at += int(h.length)
	return nil
}

// tooMany counts an item or an element. The ends of both cost nothing.
func (p *parser) tooMany(item bool) bool {
	if item {
		p.items++
	} else {
		p.elements++
	}
	return max(p.items, p.elements) > maxElements
}

// sequence begins one. Within UN of undefined length all is implicit (PS3.5 section 6.2.2).
func (p *parser) sequence(top *level, h header) error {
	if h.vr != "SQ" && h.vr != "UN" && h.vr != "" {
		return badDataset("read data set: undefined length of a value that is no sequence")
	}
	if len(p.open)/2 >= maxDepth {
		return gantry.Errorf(gantry.BadResponse, gantry.CodeTooLarge, "read data set: over %d sequences in one another", maxDepth)
	}
	e := Element{Group: uint16(h.tag >> 16), Number: uint16(h.tag), VR: "SQ"}
	return p.begin(level{isSequence: true, implicit: top.implicit || h.vr == "UN", sequence: e}, h.length, top.limit)
}

// begin opens a level whose header says length.
func (p *parser) begin(l level, length uint32, limit int) error {
	l.end, l.limit = -1, limit
	if length != undefined {
		l.end = p.at + int(length)
		l.limit = l.end
	}
	p.open = append(p.open, l)
	return nil
}

// close gives what has ended to what it stands in.
func (p *parser) close() {
	done := p.open[len(p.open)-1]
	p.open = p.open[:len(p.open)-1]
	top := &p.open[len(p.open)-1]
	if done.isSequence {
		top.set = append(top.set, done.sequence)
	} else {
		top.sequence.Items = append(top.sequence.Items, done.set)
	}
}

// header reads a tag, a VR where there is one, and a length.
func (p *parser) header(top *level) (h header, err error) {
	rest := p.b[p.at:top.limit]
	if len(rest) < 8 {
		return h, badDataset("read data set: it ends within an element")
	}
	h.tag = uint32(binary.LittleEndian.Uint16(rest))<<16 | uint32(binary.LittleEndian.Uint16(rest[2:]))
	if top.implicit || h.tag>>16 == 0xFFFE {
		h.length = binary.LittleEndian.Uint32(rest[4:])
		if h.tag>>16 != 0xFFFE {
			h.vr = implicitVR(h.tag)
		}
		if h.length == undefined && h.vr != "" {
			h.vr = "SQ"
		}
		p.at += 8
		return h, nil
	}
	h.vr = string(rest[4:6])
	long, ok := longVR(h.vr)
	switch {
	case !ok:
		return h, badDataset("read data set: element without a known VR")
	case !long:
		h.length = uint32(binary.LittleEndian.Uint16(rest[6:]))
		p.at += 8
		return h, nil
	case len(rest) < 12:
		return h, badDataset("read data set: it ends within an element")
	}
	h.length = binary.LittleEndian.Uint32(rest[8:])
	p.at += 12
	return h, nil
}
