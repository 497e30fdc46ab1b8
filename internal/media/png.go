package media

import (
	"bytes"
	"hash/crc32"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Sizes of the parts of a PNG (PNG third edition, sections 5.2, 5.3, 11.2).
const (
	pngHead     = 8 + 8 + 13 + 4 // signature and the IHDR chunk
	pngMaxChunk = 1<<31 - 1
	pngMaxSide  = 1<<16 - 1
)

// CheckPNG checks the signature and the header, the first 33 bytes of a PNG: sides of 1 to 65,535
// and a depth that goes with the colour type. Its errors are those of Verify.
func CheckPNG(head []byte) error {
	if n := min(len(head), len(pngSignature)); string(head[:n]) != pngSignature[:n] {
		return illegal(gantry.CodeMalformed, "no PNG signature")
	}
	if len(head) < pngHead {
		return illegal(gantry.CodeTruncated, "ends inside the PNG header")
	}
	ihdr := head[8:pngHead]
	if !bytes.Equal(ihdr[:8], []byte("\x00\x00\x00\x0dIHDR")) {
		return illegal(gantry.CodeMalformed, "the first PNG chunk is not IHDR")
	}
	if crc32.ChecksumIEEE(ihdr[4:21]) != be.Uint32(ihdr[21:]) {
		return illegal(CodeChecksumMismatch, "wrong CRC-32 of the PNG header")
	}
	width, height := be.Uint32(ihdr[8:]), be.Uint32(ihdr[12:])
	if width == 0 || height == 0 || width > pngMaxSide || height > pngMaxSide {
		return illegal(CodeBadValue, "a PNG of %d x %d", width, height)
	}
	depth, colour := ihdr[16], ihdr[17]
	if !pngDepth(depth, colour) {
		return illegal(gantry.CodeMalformed, "PNG colour type %d with %d bits", colour, depth)
	}
	if ihdr[18] != 0 || ihdr[19] != 0 || ihdr[20] > 1 {
		return illegal(gantry.CodeMalformed, "unknown PNG compression, filter or interlace method")
	}
	return nil
}

// pngDepth tells whether a bit depth goes with a colour type (section 11.2.1, table 11.1).
func pngDepth(depth, colour byte) bool {
	switch colour {
	case 0:
		return depth == 1 || depth == 2 || depth == 4 || depth == 8 || depth == 16
	case 3:
		return depth == 1 || depth == 2 || depth == 4 || depth == 8
	case 2, 4, 6:
		return depth == 8 || depth == 16
	}
	return false
}

// pngStructure follows the chunks of a PNG. The pixels are not decoded.
type pngStructure struct {
	field  [pngHead]byte // a field that may arrive in pieces
	have   int
	need   int
	then   func(*pngStructure) error // what to do once the field is complete
	skip   int64                     // bytes of chunk data before the next field
	crc    uint32
	name   [4]byte
	colour byte
	depth  byte

	palette, data, dataOver, done bool
}

func newPNG() *pngStructure {
	p := new(pngStructure)
	p.want(pngHead, (*pngStructure).header)
	return p
}

func (p *pngStructure) ended() bool { return p.done }

// cut is the verdict on an end before IEND.
func (p *pngStructure) cut() error {
	if p.need == pngHead {
		return CheckPNG(p.field[:p.have])
	}
	return illegal(gantry.CodeTruncated, "ends inside a chunk, or before IEND")
}

func (p *pngStructure) want(n int, then func(*pngStructure) error) {
	p.have, p.need, p.then = 0, n, then
}

// feed takes the next bytes of the file and gives those behind IEND back.
func (p *pngStructure) feed(b []byte) (rest []byte, err error) {
	for len(b) > 0 && !p.done {
		if p.skip > 0 {
			n := int(min(p.skip, int64(len(b))))
			p.crc = crc32.Update(p.crc, crc32.IEEETable, b[:n])
			p.skip -= int64(n)
			b = b[n:]
			continue
		}
		n := copy(p.field[p.have:p.need], b)
		p.have += n
		b = b[n:]
		if p.have < p.need {
			return nil, nil
		}
		if err := p.then(p); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (p *pngStructure) header() error {
	if err := CheckPNG(p.field[:]); err != nil {
		return err
	}
	p.depth, p.colour = p.field[24], p.field[25]
	p.want(8, (*pngStructure).chunk)
	return nil
}

// chunk begins a chunk: its length and type are read.
func (p *pngStructure) chunk() error {
	size := be.Uint32(p.field[:])
	p.name = [4]byte(p.field[4:])
	for _, c := range p.name {
		if c |= 0x20; c < 'a' || c > 'z' {
			return illegal(gantry.CodeMalformed, "a PNG chunk type that is none")
		}
	}
	if size > pngMaxChunk {
		return illegal(CodeLengthOutOfBounds, "a PNG chunk of %d bytes", size)
	}
	if err := p.order(int(size)); err != nil {
		return err
	}
	p.skip = int64(size)
	p.crc = crc32.ChecksumIEEE(p.name[:])
	p.want(4, (*pngStructure).checksum)
	return nil
}

// order checks the chunks that an image cannot be read without (section 5.6). Of others only the
// frame is checked.
func (p *pngStructure) order(size int) error {
	name := string(p.name[:])
	if p.data && name != "IDAT" {
		p.dataOver = true
	}
	ok := true
	switch name {
	case "PLTE":
		most := 3 << 8
		if p.colour == 3 {
			most = 3 << p.depth
		}
		ok = !p.palette && !p.data && p.colour != 0 && p.colour != 4 && size > 0 && size%3 == 0 && size <= most
		p.palette = true
	case "IDAT":
		ok = !p.dataOver && (p.palette || p.colour != 3)
		p.data = true
	case "IEND":
		ok = p.data && size == 0
	default:
		ok = p.name[0]&0x20 != 0 // nobody may ignore a critical chunk that he does not know
	}
	if !ok {
		return illegal(gantry.CodeMalformed, "a PNG chunk out of place, or of a wrong size")
	}
	return nil
}

func (p *pngStructure) checksum() error {
	if be.Uint32(p.field[:]) != p.crc {
		return illegal(CodeChecksumMismatch, "wrong CRC-32 of a PNG chunk")
	}
	p.done = string(p.name[:]) == "IEND"
	p.want(8, (*pngStructure).chunk)
	return nil
}
