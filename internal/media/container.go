package media

import (
	"bytes"
	"io"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// maxBoxes bounds the boxes of a file that are looked at.
const maxBoxes = 1 << 17

// CheckVideo checks that a video file of the given kind (gantry.MediaMP4, MediaMKV, MediaAVI) of size
// bytes is whole by its outermost structure, before a decoder sees it: the boxes of an MP4 or
// QuickTime file end where the file does and an index is among them (ISO/IEC 14496-12 section 4.2), the
// RIFF list of an AVI, or the segment of a Matroska file (RFC 8794), is not longer than the file. A
// verdict is an Illegal *gantry.Error: truncated, malformed, too_large or unsupported_format; any other
// error is r's.
func CheckVideo(kind string, r io.ReaderAt, size int64) error {
	switch kind {
	case gantry.MediaMP4:
		return checkMP4(r, size)
	case gantry.MediaAVI:
		var h [12]byte
		if err := readAt(r, h[:], 0); err != nil {
			return err
		}
		if int64(le.Uint32(h[4:]))+8 > size {
			return illegal(gantry.CodeTruncated, "an AVI of %d bytes, %d declared", size, le.Uint32(h[4:]))
		}
		return nil
	case gantry.MediaMKV:
		return checkMKV(r, size)
	}
	return illegal(gantry.CodeUnsupportedFormat, "no kind of video that is known")
}

func checkMP4(r io.ReaderAt, size int64) error {
	index := false
	for at, n := int64(0), 0; at < size; n++ {
		if n == maxBoxes {
			return illegal(gantry.CodeTooLarge, "over %d boxes", maxBoxes)
		}
		var h [16]byte
		if err := readAt(r, h[:8], at); err != nil {
			return err
		}
		length, head := int64(be.Uint32(h[:])), int64(8)
		switch length {
		case 0:
			length = size - at // to the end
		case 1:
			if err := readAt(r, h[8:], at+8); err != nil {
				return err
			}
			length, head = int64(be.Uint64(h[8:])), 16
		}
		switch {
		case length < head:
			return illegal(gantry.CodeMalformed, "a box of %d bytes", length)
		case length > size-at:
			return illegal(gantry.CodeTruncated, "a box crosses the end of the file")
		}
		index = index || string(h[4:8]) == "moov"
		at += length
	}
	if !index {
		return illegal(gantry.CodeTruncated, "no index")
	}
	return nil
}

// vint reads an EBML number of at most 8 bytes (RFC 8794 section 4) and its length; 0 if there is
// none. keep leaves the length marker in, as identifiers do. A size of all ones is unknown: -1.
func vint(b []byte, keep bool) (v int64, n int) {
	if len(b) == 0 || b[0] == 0 {
		return 0, 0
	}
	n = 1
	for mask := byte(0x80); b[0]&mask == 0; mask >>= 1 {
		n++
	}
	if len(b) < n {
		return 0, 0
	}
	first := int64(b[0])
	if !keep {
		first &= 1<<(8-n) - 1
	}
	v = first
	for _, c := range b[1:n] {
		v = v<<8 | int64(c)
	}
	if !keep && v == 1<<(7*n)-1 {
		return -1, n
	}
	return v, n
}

// docType finds the DocType of an EBML header in the first bytes of a file.
func docType(head []byte) string {
	size, n := vint(head[min(4, len(head)):], false)
	if n == 0 || size < 0 || size > int64(len(head)) {
		return ""
	}
	body := head[4+n:]
	body = body[:min(int(size), len(body))]
	for len(body) > 0 {
		id, n := vint(body, true)
		if n == 0 {
			return ""
		}
		length, m := vint(body[n:], false)
		if m == 0 || length < 0 || length > int64(len(body)-n-m) {
			return ""
		}
		value := body[n+m:][:length]
		if id == 0x4282 {
			return string(bytes.TrimRight(value, "\x00"))
		}
		body = body[n+m+int(length):]
	}
	return ""
}

func checkMKV(r io.ReaderAt, size int64) error {
	head := make([]byte, min(size, HeadSize))
	if err := readAt(r, head, 0); err != nil {
		return err
	}
	if len(head) < 5 {
		return illegal(gantry.CodeTruncated, "ends inside the EBML header")
	}
	length, n := vint(head[4:], false)
	at := int64(4+n) + length
	if n == 0 || length < 0 {
		return illegal(gantry.CodeMalformed, "an EBML header that makes no sense")
	}
	if at >= size || at+12 > int64(len(head)) {
		return illegal(gantry.CodeTruncated, "ends before the segment")
	}
	id, n := vint(head[at:], true)
	length, m := vint(head[at+int64(n):], false)
	if id != 0x18538067 || m == 0 {
		return illegal(gantry.CodeMalformed, "no segment after the EBML header")
	}
	if length > size-at-int64(n+m) {
		return illegal(gantry.CodeTruncated, "the segment crosses the end of the file")
	}
	return nil
}
