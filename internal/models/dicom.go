package models

import (
	"bytes"
	"math"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// fromDICOM makes display values of a grey frame: rescaled, windowed by its first window or, for
// want of one, over the values that it has, and inverted for MONOCHROME1 (PS3.4 section N.2). It
// is 8 bits deep if the file stores at most 8, else 16.
func (p *picture) fromDICOM(body []byte, maxPixels int) error {
	in, err := dicom.Scan(bytes.NewReader(body), int64(len(body)), dicom.DefaultLimits())
	if err != nil {
		return err
	}
	if in.Rows > 0 && in.Columns > maxPixels/in.Rows {
		return gantry.Errorf(gantry.Illegal, gantry.CodeTooLarge, "dicom: over %d pixels", maxPixels)
	}
	px, err := dicom.Frame(bytes.NewReader(body), int64(len(body)))
	if err != nil {
		return err
	}
	p.top = 0xff
	if px.BitsStored > 8 {
		p.top = 0xffff
	}
	p.size(px.Columns, px.Rows)
	table := displayTable(px, p.top)
	for i, v := range px.Samples {
		p.grey[i] = table[v]
	}
	return nil
}

// displayTable has the display value of every sample that BitsStored bits can be.
func displayTable(px *dicom.Pixels, top uint16) []uint16 {
	all := *px
	all.Samples = make([]uint16, 1<<px.BitsStored)
	for i := range all.Samples {
		all.Samples[i] = uint16(i)
	}
	low, span := extent(px, &all)
	if px.Window && px.WindowWidth >= 1 {
		low, span = px.WindowCenter-0.5-(px.WindowWidth-1)/2, px.WindowWidth-1
	}
	table := make([]uint16, len(all.Samples))
	for i := range table {
		table[i] = display(all.Value(i), low, span, top)
		if px.Photometric == "MONOCHROME1" {
			table[i] = top - table[i]
		}
	}
	return table
}

// display is the linear window of PS3.3 section C.11.2.1.2.1 that begins above low and is span
// wide: 0 up to low, top above low + span.
func display(x, low, span float64, top uint16) uint16 {
	switch {
	case !(x > low): // also what is no number, from a slope beyond all bounds
		return 0
	case x >= low+span:
		return top
	}
	return uint16(math.Round((x - low) / span * float64(top)))
}

// extent is the smallest rescaled value of the image and how far above it the largest is.
func extent(px, all *dicom.Pixels) (low, span float64) {
	used := make([]bool, len(all.Samples))
	for _, v := range px.Samples {
		used[v] = true
	}
	low, high := math.Inf(1), math.Inf(-1)
	for i, u := range used {
		if u {
			low, high = min(low, all.Value(i)), max(high, all.Value(i))
		}
	}
	return low, high - low
}
