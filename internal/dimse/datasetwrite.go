package dimse

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Encode writes the data set in implicit or explicit VR little endian, its elements in the order of their tags, sequences and items
// with their lengths. Errors: Illegal malformed_dataset for an element that is there twice, has no VR that explicit VR can say, or
// is too long for it; Illegal too_large as in decodeDataset; Illegal unsupported_format for another transfer syntax.
func (d Dataset) Encode(transfer string) ([]byte, error) {
	if !heldSyntax(transfer) {
		return nil, gantry.Errorf(gantry.Illegal, gantry.CodeUnsupportedFormat, "write data set: not in implicit or explicit VR little endian")
	}
	w := writer{implicit: transfer == ImplicitLE}
	return w.dataset(nil, d, 0)
}

type writer struct {
	implicit bool
	elements int
	nested   int // items
}

// dataset appends a data set that stands within depth sequences.
func (w *writer) dataset(b []byte, d Dataset, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, gantry.Errorf(gantry.Illegal, gantry.CodeTooLarge, "write data set: over %d sequences in one another", maxDepth)
	}
	byTag := func(a, b Element) int { return cmp.Compare(a.tag(), b.tag()) }
	if !slices.IsSortedFunc(d, byTag) {
		d = slices.Clone(d)
		slices.SortFunc(d, byTag)
	}
	var err error
	for i := range d {
		if i > 0 && d[i].tag() == d[i-1].tag() {
			return nil, gantry.Errorf(gantry.Illegal, CodeMalformedDataset, "write data set: element is there twice")
		}
		if b, err = w.element(b, &d[i], depth); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// element appends an element, and sees that the limits that others hold us to are kept.
func (w *writer) element(b []byte, e *Element, depth int) ([]byte, error) {
	w.elements++
	w.nested += len(e.Items)
	if max(w.elements, w.nested) > maxElements {
		return nil, gantry.Errorf(gantry.Illegal, gantry.CodeTooLarge, "write data set: over %d elements or items", maxElements)
	}
	value := e.Value
	if e.VR == "SQ" {
		var err error
		if value, err = w.items(e.Items, depth); err != nil {
			return nil, err
		}
	}
	if len(b)+len(value)+12 > maxDataset {
		return nil, gantry.Errorf(gantry.Illegal, gantry.CodeTooLarge, "write data set: over %d bytes", maxDataset)
	}
	vr := cmp.Or(e.VR, "UN")
	long, ok := longVR(vr)
	switch {
	case !ok, len(value)%2 == 1, e.VR != "SQ" && len(e.Items) > 0:
		return nil, gantry.Errorf(gantry.Illegal, CodeMalformedDataset, "write data set: element without a known VR, not padded, or with items of no sequence")
	case !w.implicit && !long && len(value) > 0xFFFF:
		return nil, gantry.Errorf(gantry.Illegal, CodeMalformedDataset, "write data set: value is too long for its VR")
	}
	return append(w.header(b, e.tag(), vr, long, len(value)), value...), nil
}

func (w *writer) items(items []Dataset, depth int) (b []byte, err error) {
	for _, item := range items {
		start := len(b)
		b = append(b, 0xFE, 0xFF, 0x00, 0xE0, 0, 0, 0, 0)
		if b, err = w.dataset(b, item, depth+1); err != nil {
			return nil, err
		}
		binary.LittleEndian.PutUint32(b[start+4:], uint32(len(b)-start-8))
	}
	return b, nil
}

func (w *writer) header(b []byte, tag uint32, vr string, long bool, length int) []byte {
	b = binary.LittleEndian.AppendUint16(b, uint16(tag>>16))
	b = binary.LittleEndian.AppendUint16(b, uint16(tag))
	switch {
	case w.implicit:
		return binary.LittleEndian.AppendUint32(b, uint32(length))
	case long:
		b = append(b, vr[0], vr[1], 0, 0)
		return binary.LittleEndian.AppendUint32(b, uint32(length))
	}
	b = append(b, vr...)
	return binary.LittleEndian.AppendUint16(b, uint16(length))
}
