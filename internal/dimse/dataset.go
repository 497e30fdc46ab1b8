package dimse

import (
	"bytes"
	"io"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// CodeMalformedDataset means that an identifier, or the information of an action or an event, breaks the rules of PS3.5 or
// lacks what it must have.
const CodeMalformedDataset gantry.Code = "malformed_dataset"

// What a data set that is held may be. Those that are streamed have no such limits.
const (
	maxDataset  = 1 << 20 // bytes as encoded
	maxElements = 10_000  // with those in items; as many items
	maxDepth    = 8       // of sequences within each other
)

// Dataset is a small data set: what identifiers, requests and events are made of. Values are in the order of their tags when it
// is written; one that was read has them as they came.
type Dataset []Element

// Element is one data element. A sequence has Items.
type Element struct {
	Group, Number uint16
	VR            string // two letters; empty where the transfer syntax is implicit and the tag is not known
	Value         []byte // padded, as it is on the wire, in the data set's own character set
	Items         []Dataset
}

func (e *Element) tag() uint32 { return uint32(e.Group)<<16 | uint32(e.Number) }

// Get gives an element's value as text without padding, in the data set's own character set; empty if it is not there.
func (d Dataset) Get(group, number uint16) string {
	if e := d.find(group, number); e != nil {
		return string(bytes.Trim(e.Value, " \x00"))
	}
	return ""
}

func (d Dataset) find(group, number uint16) *Element {
	for i := range d {
		if d[i].Group == group && d[i].Number == number {
			return &d[i]
		}
	}
	return nil
}

// Text makes an element of a string value, padded as its VR asks (PS3.5 section 6.2). An empty value asks for it in an identifier.
func Text(group, number uint16, vr, value string) Element {
	e := Element{Group: group, Number: number, VR: vr, Value: []byte(value)}
	if len(value)%2 == 1 {
		padding := byte(' ')
		if vr == "UI" {
			padding = 0
		}
		e.Value = append(e.Value, padding)
	}
	return e
}

// sequence makes an element with items.
func sequence(group, number uint16, items ...Dataset) Element {
	return Element{Group: group, Number: number, VR: "SQ", Items: items}
}

// readDataset reads a data set to its end and decodes it. Errors: those of decodeDataset and of r.
func readDataset(r io.Reader, transfer string) (Dataset, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxDataset+1))
	if err != nil {
		return nil, err
	}
	return decodeDataset(b, transfer)
}

// heldSyntax tells whether data sets of a transfer syntax can be held.
func heldSyntax(transfer string) bool { return transfer == ImplicitLE || transfer == ExplicitLE }

// longVR tells whether a VR has a length of 32 bits in explicit VR little endian (PS3.5 section 7.1.2); ok is false for no VR.
func longVR(vr string) (long, ok bool) {
	switch vr {
	case "OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV":
		return true, true
	case "AE", "AS", "AT", "CS", "DA", "DS", "DT", "FL", "FD", "IS", "LO", "LT", "PN", "SH", "SL", "SS", "ST", "TM", "UI", "UL", "US":
		return false, true
	}
	return false, false
}

// implicitVR is the VR of a tag that has a part in queries and storage commitment (PS3.6); empty for others.
func implicitVR(tag uint32) string { return implicitVRs[tag] }

var implicitVRs = map[uint32]string{
	0x00080005: "CS", 0x00080016: "UI", 0x00080018: "UI", 0x00080020: "DA", 0x00080021: "DA", 0x00080030: "TM", 0x00080050: "SH",
	0x00080052: "CS", 0x00080054: "AE", 0x00080056: "CS", 0x00080060: "CS", 0x00080061: "CS", 0x00080062: "UI", 0x00080080: "LO",
	0x00080090: "PN", 0x00081030: "LO", 0x0008103e: "LO", 0x00081110: "SQ", 0x00081111: "SQ", 0x00081115: "SQ", 0x00081150: "UI",
	0x00081155: "UI", 0x00081190: "UR", 0x00081195: "UI", 0x00081197: "US", 0x00081198: "SQ", 0x00081199: "SQ", 0x00100010: "PN",
	0x00100020: "LO", 0x00100021: "LO", 0x00100030: "DA", 0x00100040: "CS", 0x00180015: "CS", 0x0020000d: "UI", 0x0020000e: "UI",
	0x00200010: "SH", 0x00200011: "IS", 0x00200013: "IS", 0x00201200: "IS", 0x00201202: "IS", 0x00201204: "IS", 0x00201206: "IS",
	0x00201208: "IS", 0x00201209: "IS", 0x00280008: "IS", 0x00280010: "US", 0x00280011: "US", 0x00880130: "SH", 0x00880140: "UI",
}

func badDataset(format string, args ...any) error {
	return gantry.Errorf(gantry.BadResponse, CodeMalformedDataset, format, args...)
}
