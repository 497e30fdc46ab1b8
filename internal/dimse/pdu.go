package dimse

import (
	"encoding/binary"
	"io"
)

// The types of PDUs (PS3.8 section 9.3.1).
const (
	pduAssociateRQ byte = 1
	pduAssociateAC byte = 2
	pduAssociateRJ byte = 3
	pduData        byte = 4
	pduReleaseRQ   byte = 5
	pduReleaseRP   byte = 6
	pduAbort       byte = 7
)

const (
	headerSize   = 6       // of a PDU: type, a reserved byte, length
	shortSize    = 4       // what follows the header in A-ASSOCIATE-RJ, A-RELEASE-RQ, A-RELEASE-RP and A-ABORT
	fragmentSize = 6       // of a PDV item's head: length, context, control header
	maxAssociate = 1 << 20 // bytes of an A-ASSOCIATE-RQ or -AC after the header
	maxWrite     = 1 << 20 // what a P-DATA-TF of ours holds at most after the header, even if the peer takes more
	noLimit      = 1<<32 - 1
)

// The bits of a PDV's message control header (PS3.8 annex E.2).
const (
	controlCommand byte = 1
	controlLast    byte = 2
)

// pduHeader is the beginning of every PDU.
type pduHeader struct {
	kind   byte
	length uint32
}

// readHeader reads the 6 bytes before a PDU's body. It gives io.EOF if there are none, io.ErrUnexpectedEOF if there are fewer.
func readHeader(r io.Reader, scratch []byte) (pduHeader, error) {
	b := scratch[:headerSize]
	if _, err := io.ReadFull(r, b); err != nil {
		return pduHeader{}, err
	}
	return pduHeader{kind: b[0], length: binary.BigEndian.Uint32(b[2:])}, nil
}

// check holds a PDU's length to what its type allows; limit is what we announced for P-DATA-TF.
func (h pduHeader) check(limit uint32) *fault {
	switch h.kind {
	case pduAssociateRQ, pduAssociateAC:
		if h.length > maxAssociate {
			return faultf(reasonBadValue, CodePDUTooLarge, "read PDU: association request or answer over 1 MiB")
		}
	case pduAssociateRJ, pduReleaseRQ, pduReleaseRP, pduAbort:
		if h.length != shortSize {
			return malformed("its length is not 4")
		}
	case pduData:
		if h.length > limit {
			return faultf(reasonBadValue, CodePDUTooLarge, "read PDU: longer than the limit that was announced")
		}
	default:
		return faultf(reasonUnrecognized, CodeMalformedPDU, "read PDU: unknown type %d", h.kind)
	}
	return nil
}

// control makes one of the PDUs whose body is four bytes: reject, release, abort.
func control(kind, b1, b2, b3 byte) []byte {
	return []byte{kind, 0, 0, 0, 0, shortSize, 0, b1, b2, b3}
}

func encodeReject(r *Rejection) []byte {
	result := byte(1)
	if r.Transient {
		result = 2
	}
	return control(pduAssociateRJ, result, r.Source, r.Reason)
}

// decodeReject reads the four bytes after the header. Values that the standard does not know are kept as they are.
func decodeReject(b []byte) *Rejection {
	return &Rejection{Transient: b[1] == 2, Source: b[2], Reason: b[3]}
}

func encodeAbort(source, reason byte) []byte { return control(pduAbort, 0, source, reason) }

// putHeader writes a PDU's header for a body of n bytes.
func putHeader(b []byte, kind byte, n int) {
	b[0], b[1] = kind, 0
	binary.BigEndian.PutUint32(b[2:], uint32(n))
}

// fragment is the head of a PDV item (PS3.8 section 9.3.5.1): n bytes of value follow.
type fragment struct {
	context byte
	control byte
	n       uint32
}

func (f fragment) command() bool { return f.control&controlCommand != 0 }
func (f fragment) last() bool    { return f.control&controlLast != 0 }

func putFragment(b []byte, f fragment) {
	binary.BigEndian.PutUint32(b, f.n+2)
	b[4], b[5] = f.context, f.control
}

// decodeFragment reads the head of a PDV item of which rest bytes of the PDU are left, the head counted.
func decodeFragment(b []byte, rest uint32) (fragment, *fault) {
	n := binary.BigEndian.Uint32(b)
	if n < 2 || n > rest-4 {
		return fragment{}, malformed("a presentation data value longer than its PDU, or without a control header")
	}
	return fragment{context: b[4], control: b[5], n: n - 2}, nil
}
