package dicom

import (
	"io"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// maxReferences is how many instances one file may refer to.
const maxReferences = 100_000

const (
	tagReferenced = 0x00081155 // Referenced SOP Instance UID
	pastAll       = 0xffffffff // no element has this tag
)

// refersBy are the sequences whose items name what an object was made from or is about: images, sources, evidence and the
// contents of other objects (PS3.3 section 10.8 and the modules that use its macro).
var refersBy = map[uint32]bool{
	0x00081115: true, // Referenced Series
	0x00081140: true, // Referenced Image
	0x0008114a: true, // Referenced Instance
	0x00081199: true, // Referenced SOP
	0x00082112: true, // Source Image
	0x0040a375: true, // Current Requested Procedure Evidence
	0x0040a385: true, // Pertinent Other Evidence
	0x00420013: true, // Source Instance
	0x30060016: true, // Contour Image
}

// refersElsewhere are sequences within which references are to something else: to procedure steps, requests, studies, patients
// and earlier versions.
var refersElsewhere = map[uint32]bool{
	0x00081110: true, // Referenced Study
	0x00081111: true, // Referenced Performed Procedure Step
	0x00081120: true, // Referenced Patient
	0x0040a360: true, // Predecessor Documents
	0x0040a370: true, // Referenced Request
}

// References gives the UIDs of the SOP instances that a file says it was made from or is about, each once, in the order in
// which they are named. r is a Part 10 file from its start; where it can seek, long values are not read. size as for Scan. It is Illegal
// with the codes of Scan if its structure is not sound, and with too_large if it refers to more than 100,000; an error of r is passed on
// as it is. Whether its values make sense is for Scan to say.
func References(r io.Reader, size int64) ([]string, error) {
	s := newScanner(r, size, DefaultLimits())
	defer s.raw.free()
	s.raw.hash = nil
	s.raw.seek, _ = r.(io.Seeker)
	s.stop = pastAll
	var out []string
	seen := map[string]bool{}
	s.leaves = func(e element) error {
		if e.tag != tagReferenced || e.length > heldMax || !s.refers() {
			return nil
		}
		b, err := s.src.peek(int(e.length))
		if err != nil {
			return err
		}
		uid := held{value: b}.text()
		if !ValidUID(uid) || seen[uid] {
			return nil
		}
		if len(out) >= maxReferences {
			return refuse(gantry.CodeTooLarge, e.tag, e.at, "over %d references", maxReferences)
		}
		seen[uid], out = true, append(out, uid)
		return nil
	}
	if err := s.run(); err != nil {
		return nil, err
	}
	return out, nil
}

// refers tells whether the data set that is open names what the object is about.
func (s *scanner) refers() bool {
	found := false
	for _, f := range s.stack {
		if refersElsewhere[f.tag] {
			return false
		}
		found = found || refersBy[f.tag]
	}
	return found
}

// Head reads a Part 10 file as far as the UIDs of its study, and gives them with the transfer syntax and the modality: what
// Scan would find of these, without the rest of the file. Errors are as those of Scan.
func Head(r io.Reader, size int64) (*Info, error) {
	s := newScanner(r, size, DefaultLimits())
	defer s.raw.free()
	s.raw.hash = nil
	s.stop = tagSeries + 1
	if err := s.run(); err != nil {
		return nil, err
	}
	s.info.Modality = s.held[slotModality].text()
	if err := s.judgeUIDs(); err != nil {
		return nil, err
	}
	return s.info, nil
}
