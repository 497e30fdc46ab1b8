package media

import "github.com/gantry-imaging/gantry/internal/gantry"

// Marker codes of a JPEG (ISO/IEC 10918-1 table B.1).
const (
	jpegTEM  = 0x01
	jpegSOF0 = 0xC0
	jpegDHT  = 0xC4
	jpegRST0 = 0xD0
	jpegRST7 = 0xD7
	jpegSOI  = 0xD8
	jpegEOI  = 0xD9
	jpegSOS  = 0xDA
	jpegDQT  = 0xDB
	jpegDNL  = 0xDC
	jpegDRI  = 0xDD
	jpegDHP  = 0xDE
	jpegEXP  = 0xDF
	jpegJPG0 = 0xF0 // to FD: extensions, JPEG-LS among them
	jpegCOM  = 0xFE
)

// jpegMaxHeader is the longest segment whose content is looked at: a frame of four components.
const jpegMaxHeader = 6 + 3*4

// CheckJPEG checks as much of a JPEG as its first bytes show: the SOI marker, the segments after it
// and, if it is among them, the frame header, with sides of 1 to 65,535. Only fewer than four bytes
// are truncated. Its errors are those of Verify.
func CheckJPEG(head []byte) error {
	if len(head) < 4 {
		return illegal(gantry.CodeTruncated, "ends inside the JPEG header")
	}
	_, err := newJPEG().feed(head)
	return err
}

// Where jpegStructure stands.
const (
	jpegAtStart  = iota
	jpegAtMarker // the next byte is the FF of a marker
	jpegAtCode   // an FF was read: fill bytes, then the code
	jpegAtLength // of a segment
	jpegInside   // a segment
	jpegInScan   // entropy-coded data
	jpegScanFF   // an FF in them: stuffed, a restart, or the next marker
	jpegDone
)

// jpegStructure follows the markers of a JPEG.
type jpegStructure struct {
	at     int
	code   byte
	have   int // bytes of the length, or of the segment, that were seen
	length int // of the segment, without its own two bytes
	body   [jpegMaxHeader]byte

	components []byte // identifiers of the frame's components; nil before the frame header
	lossless   bool
	scans      int
}

func newJPEG() *jpegStructure { return new(jpegStructure) }

func (j *jpegStructure) ended() bool { return j.at == jpegDone }

func (j *jpegStructure) cut() error {
	return illegal(gantry.CodeTruncated, "ends inside a segment or scan, or before EOI")
}

// feed takes the next bytes of the file and gives those behind EOI back.
func (j *jpegStructure) feed(b []byte) (rest []byte, err error) {
	for len(b) > 0 && j.at != jpegDone {
		switch j.at {
		case jpegInScan:
			b = j.scan(b)
		case jpegInside:
			b, err = j.segment(b)
		default:
			err = j.step(b[0])
			b = b[1:]
		}
		if err != nil {
			return nil, err
		}
	}
	return b, nil
}

// scan passes over entropy-coded data up to the next FF.
func (j *jpegStructure) scan(b []byte) []byte {
	for i, c := range b {
		if c == 0xFF {
			j.at = jpegScanFF
			return b[i+1:]
		}
	}
	return nil
}

// segment passes over a segment's content and keeps as much of it as may be looked at.
func (j *jpegStructure) segment(b []byte) ([]byte, error) {
	n := min(j.length-j.have, len(b))
	if j.have < len(j.body) {
		copy(j.body[j.have:], b[:n])
	}
	if j.have += n; j.have < j.length {
		return nil, nil
	}
	j.at = jpegAtMarker
	return b[n:], j.judge()
}

// step takes one byte outside of segments and scans.
func (j *jpegStructure) step(c byte) error {
	switch j.at {
	case jpegAtStart:
		if j.have++; j.have == 1 && c != 0xFF || j.have == 2 && c != jpegSOI {
			return illegal(gantry.CodeMalformed, "no JPEG start of image")
		}
		if j.have == 2 {
			j.at = jpegAtMarker
		}
	case jpegAtMarker:
		if c != 0xFF {
			return illegal(gantry.CodeMalformed, "no JPEG marker where one must be")
		}
		j.at = jpegAtCode
	case jpegAtCode:
		if c != 0xFF { // fill bytes (B.1.1.2)
			return j.marker(c)
		}
	case jpegScanFF:
		switch {
		case c == 0, c >= jpegRST0 && c <= jpegRST7:
			j.at = jpegInScan
		case c != 0xFF:
			return j.marker(c)
		}
	case jpegAtLength:
		j.length = j.length<<8 | int(c)
		if j.have++; j.have == 2 {
			return j.open()
		}
	}
	return nil
}

// marker begins what a marker stands for.
func (j *jpegStructure) marker(c byte) error {
	j.code, j.have, j.length, j.at = c, 0, 0, jpegAtLength
	switch {
	case c == jpegEOI:
		if j.scans == 0 {
			return illegal(gantry.CodeMalformed, "a JPEG without a scan")
		}
		j.at = jpegDone
	case c == jpegTEM:
		j.at = jpegAtMarker
	case c == jpegDHP, c == jpegEXP, c >= jpegJPG0 && c < jpegCOM:
		return illegal(gantry.CodeUnsupportedFormat, "a hierarchical JPEG, or an extension of JPEG")
	case c == jpegSOS && j.components == nil:
		return illegal(gantry.CodeMalformed, "a JPEG scan before the frame header")
	case j.frame() && j.components != nil:
		return illegal(gantry.CodeMalformed, "two JPEG frame headers")
	case c < jpegSOF0, c >= jpegRST0 && c <= jpegSOI, c == 0xC8:
		return illegal(gantry.CodeMalformed, "a JPEG marker out of place, or that is none")
	}
	return nil
}

// frame tells whether the marker is that of a frame header.
func (j *jpegStructure) frame() bool {
	c := j.code
	return c >= jpegSOF0 && c <= 0xCF && c != jpegDHT && c != 0xC8 && c != 0xCC
}

// open begins the content of a segment whose length is read.
func (j *jpegStructure) open() error {
	if j.length < 2 {
		return illegal(CodeLengthOutOfBounds, "a JPEG segment of %d bytes", j.length)
	}
	j.length -= 2
	j.have, j.at = 0, jpegInside
	if j.length > 0 {
		return nil
	}
	j.at = jpegAtMarker
	return j.judge()
}

// judge looks at a complete segment.
func (j *jpegStructure) judge() error {
	switch {
	case j.frame():
		return j.frameHeader()
	case j.code == jpegSOS:
		return j.scanHeader()
	case j.code == jpegDRI && j.length != 2, j.code == jpegDNL && j.length != 2,
		j.code == jpegDQT && j.length < 65, j.code == jpegDHT && j.length < 17:
		return illegal(gantry.CodeMalformed, "a JPEG segment of a wrong size")
	}
	return nil
}

// frameHeader checks a frame header (B.2.2). A height of 0, to be told after the scan, is refused:
// nobody could bound what the picture takes.
func (j *jpegStructure) frameHeader() error {
	b := j.body[:min(j.length, len(j.body))]
	if len(b) < 6 || b[5] == 0 || j.length != 6+3*int(b[5]) {
		return illegal(gantry.CodeMalformed, "a JPEG frame header of a wrong size")
	}
	if b[5] > 4 {
		return illegal(gantry.CodeUnsupportedFormat, "a JPEG of %d components", b[5])
	}
	height, width := be.Uint16(b[1:]), be.Uint16(b[3:])
	if width == 0 || height == 0 {
		return illegal(CodeBadValue, "a JPEG of %d x %d", width, height)
	}
	j.lossless = j.code&3 == 3
	if p := b[0]; p != 8 && (p != 12 || j.code == jpegSOF0) && (!j.lossless || p < 2 || p > 16) {
		return illegal(gantry.CodeMalformed, "a JPEG of %d bits", p)
	}
	j.components = make([]byte, 0, 4)
	for c := b[6:]; len(c) > 0; c = c[3:] {
		h, v := c[1]>>4, c[1]&15
		if h < 1 || h > 4 || v < 1 || v > 4 || c[2] > 3 || j.knows(c[0]) {
			return illegal(gantry.CodeMalformed, "a JPEG component that cannot be")
		}
		j.components = append(j.components, c[0])
	}
	return nil
}

func (j *jpegStructure) knows(id byte) bool {
	for _, c := range j.components {
		if c == id {
			return true
		}
	}
	return false
}

// scanHeader checks a scan header (B.2.3), after which the entropy-coded data begin.
func (j *jpegStructure) scanHeader() error {
	b := j.body[:min(j.length, len(j.body))]
	if len(b) < 1 || b[0] < 1 || b[0] > 4 || j.length != 4+2*int(b[0]) {
		return illegal(gantry.CodeMalformed, "a JPEG scan header of a wrong size")
	}
	for i := range int(b[0]) {
		if !j.knows(b[1+2*i]) {
			return illegal(gantry.CodeMalformed, "a JPEG scan of a component that the frame has not")
		}
	}
	j.scans++
	j.at = jpegInScan
	return nil
}
