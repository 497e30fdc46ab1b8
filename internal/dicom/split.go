package dicom

import (
	"bytes"
	"errors"
	"io"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Object is what is said of a data set that leaves its file: which instance it is, and how it is encoded.
type Object struct {
	Class    string // SOP Class UID
	Instance string // SOP Instance UID
	Transfer string // transfer syntax UID
	At       int64  // where the data set begins in the file
}

// maxSplit bounds what Split reads to find the UIDs: the file meta information and the first elements of the data set, in bytes.
const maxSplit = 1 << 20

// Split takes the data set out of a Part 10 file (PS3.10 section 7.1) as its exact bytes, in whatever transfer syntax it is: what
// is gone are the preamble and the file meta information. The UIDs are those of the data set itself, which a receiver compares;
// the transfer syntax is the file meta information's. data reads on from r, of which at most 1 MiB are held. The rest of the file is not
// looked at: whoever needs its verdict asks Scan.
//
// Errors are Illegal *gantry.Error: not_dicom, truncated, missing_transfer_syntax, unsupported_transfer_syntax, missing_uid,
// bad_uid, too_large where the UIDs do not stand within the first 1 MiB, and others of the elements before them; or r's own.
func Split(r io.Reader) (o Object, data io.Reader, err error) {
	var head bytes.Buffer
	s := newScanner(io.TeeReader(io.LimitReader(r, maxSplit), &head), -1, DefaultLimits())
	defer s.raw.free()
	s.raw.hash = nil
	s.stop = tagInstance + 1
	err = s.run()
	switch {
	case err != nil && gantry.CodeOf(err) == gantry.CodeTruncated && head.Len() == maxSplit:
		return o, nil, gantry.Errorf(gantry.Illegal, gantry.CodeTooLarge, "its UIDs do not stand within the first %d bytes", maxSplit)
	case err != nil:
		return o, nil, err
	}
	o.Transfer, o.At = s.info.TransferSyntax, s.body
	if o.Class, err = s.uid(slotClass, tagClass); err != nil {
		return Object{}, nil, err
	}
	if o.Instance, err = s.uid(slotInstance, tagInstance); err != nil {
		return Object{}, nil, err
	}
	rest := head.Bytes()[s.body:]
	if s.raw.err != nil && !errors.Is(s.raw.err, io.EOF) {
		return o, io.MultiReader(bytes.NewReader(rest), spent{s.raw.err}), nil // it is not read again
	}
	return o, io.MultiReader(bytes.NewReader(rest), r), nil
}

// uid is a value that must be there and be a UID.
func (s *scanner) uid(slot int, tag uint32) (string, error) {
	h := s.held[slot]
	switch t := h.text(); {
	case t == "":
		return "", gantry.Errorf(gantry.Illegal, CodeMissingUID, "(%04x,%04x) is missing", tag>>16, tag&0xffff)
	case !h.whole || !ValidUID(t):
		return "", refuse(CodeBadUID, tag, h.at, "not a UID")
	default:
		return t, nil
	}
}

// spent is a reader that has failed.
type spent struct{ err error }

func (f spent) Read([]byte) (int, error) { return 0, f.err }
