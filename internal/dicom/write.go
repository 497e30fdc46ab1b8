package dicom

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	library "github.com/suyashkumar/dicom"
	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// SOP classes that WriteImage makes.
const (
	ClassCT               = "1.2.840.10008.5.1.4.1.1.2"
	ClassSecondaryCapture = "1.2.840.10008.5.1.4.1.1.7"
)

// implementationUID names gantry in the file meta information of what it writes.
const implementationUID = "2.25.76683766776530815108235131587827429264"

// Image is a single 16-bit greyscale frame to write as DICOM.
type Image struct {
	SOPClass         string // ClassCT or ClassSecondaryCapture
	SOPInstance      string // UIDs, made by the caller
	StudyInstance    string
	SeriesInstance   string
	FrameOfReference string // CT only

	PatientName, PatientID string // UTF-8
	StudyDescription       string
	SeriesDescription      string
	BodyPart               string // a defined term of PS3.16 annex L, or empty
	StudyDate, StudyTime   string // YYYYMMDD and HHMMSS, or empty
	SeriesNumber           int
	InstanceNumber         int

	Rows, Columns int
	Samples       []uint16 // row by row; two's complement if Signed
	Signed        bool

	RescaleSlope, RescaleIntercept float64    // CT only
	WindowCenter, WindowWidth      float64    // width 0: no window
	Spacing                        [2]float64 // mm between rows and between columns
	SliceThickness                 float64    // mm, CT only
	Position                       [3]float64 // mm of the first sample in the patient, CT only; rows run to the left, columns to the back
}

// WriteImage writes img as a Part 10 file in explicit little endian and UTF-8. The same image gives
// the same bytes. It refuses an image that is not consistent with a Permanent error, code
// bad_value or bad_uid; other errors are w's own. CT attributes follow PS3.3 section A.3, those of
// secondary capture section A.8.
func WriteImage(w io.Writer, img Image) error {
	if err := img.check(); err != nil {
		return err
	}
	var set library.Dataset
	for _, a := range img.attributes() {
		e, err := library.NewElement(a.tag, a.value)
		if err != nil {
			return fmt.Errorf("write image: %v: %w", a.tag, err)
		}
		set.Elements = append(set.Elements, e)
	}
	slices.SortFunc(set.Elements, func(a, b *library.Element) int { return a.Tag.Compare(b.Tag) })
	if err := library.Write(w, set); err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	return nil
}

func (m *Image) check() error {
	if m.SOPClass != ClassCT && m.SOPClass != ClassSecondaryCapture {
		return gantry.Errorf(gantry.Permanent, CodeBadValue, "write image: a SOP class that is not made here")
	}
	uids := []string{m.SOPInstance, m.StudyInstance, m.SeriesInstance}
	if m.SOPClass == ClassCT {
		uids = append(uids, m.FrameOfReference)
	}
	for i, u := range uids {
		if !ValidUID(u) {
			return gantry.Errorf(gantry.Permanent, CodeBadUID, "write image: UID %d of %d is none", i+1, len(uids))
		}
	}
	if m.Rows < 1 || m.Rows > 65535 || m.Columns < 1 || m.Columns > 65535 || len(m.Samples) != m.Rows*m.Columns {
		return gantry.Errorf(gantry.Permanent, CodeBadValue, "write image: %d samples for %d x %d", len(m.Samples), m.Columns, m.Rows)
	}
	for _, x := range append(m.Position[:], m.RescaleSlope, m.RescaleIntercept, m.WindowCenter, m.WindowWidth,
		m.Spacing[0], m.Spacing[1], m.SliceThickness) {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return gantry.Errorf(gantry.Permanent, CodeBadValue, "write image: a number that is none")
		}
	}
	for _, t := range []string{m.PatientName, m.PatientID, m.StudyDescription, m.SeriesDescription, m.BodyPart, m.StudyDate, m.StudyTime} {
		if len(t) > 64 || strings.ContainsFunc(t, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }) {
			return gantry.Errorf(gantry.Permanent, CodeBadValue, "write image: a text that is too long or holds control characters")
		}
	}
	return nil
}

type attribute struct {
	tag   tag.Tag
	value any
}

func (m *Image) attributes() []attribute {
	a := []attribute{
		{tag.FileMetaInformationVersion, []byte{0, 1}},
		{tag.MediaStorageSOPClassUID, text(m.SOPClass)},
		{tag.MediaStorageSOPInstanceUID, text(m.SOPInstance)},
		{tag.TransferSyntaxUID, text(syntaxExplicit)},
		{tag.ImplementationClassUID, text(implementationUID)},
		{tag.ImplementationVersionName, text("GANTRY")},
		{tag.SpecificCharacterSet, text("ISO_IR 192")},
		{tag.SOPClassUID, text(m.SOPClass)},
		{tag.SOPInstanceUID, text(m.SOPInstance)},
		{tag.StudyDate, text(m.StudyDate)},
		{tag.StudyTime, text(m.StudyTime)},
		{tag.AccessionNumber, text("")},
		{tag.ReferringPhysicianName, text("")},
		{tag.StudyDescription, text(m.StudyDescription)},
		{tag.SeriesDescription, text(m.SeriesDescription)},
		{tag.PatientName, text(m.PatientName)},
		{tag.PatientID, text(m.PatientID)},
		{tag.PatientBirthDate, text("")},
		{tag.PatientSex, text("")},
		{tag.StudyInstanceUID, text(m.StudyInstance)},
		{tag.SeriesInstanceUID, text(m.SeriesInstance)},
		{tag.StudyID, text("")},
		{tag.SeriesNumber, whole(m.SeriesNumber)},
		{tag.InstanceNumber, whole(m.InstanceNumber)},
		{tag.Manufacturer, text("gantry")},
	}
	if m.BodyPart != "" {
		a = append(a, attribute{tag.BodyPartExamined, text(m.BodyPart)})
	}
	if m.SOPClass == ClassCT {
		a = append(a, m.ct()...)
	} else {
		a = append(a, attribute{tag.Modality, text("OT")}, attribute{tag.ConversionType, text("WSD")},
			attribute{tag.PatientOrientation, text("")}, attribute{tag.ImageType, text("DERIVED", "SECONDARY")})
	}
	return append(a, m.pixels()...)
}

func (m *Image) ct() []attribute {
	return []attribute{
		{tag.ImageType, text("DERIVED", "SECONDARY", "AXIAL")},
		{tag.Modality, text("CT")},
		{tag.KVP, text("")},
		{tag.SliceThickness, decimals(m.SliceThickness)},
		{tag.AcquisitionNumber, text("")},
		{tag.PatientPosition, text("HFS")},
		{tag.FrameOfReferenceUID, text(m.FrameOfReference)},
		{tag.PositionReferenceIndicator, text("")},
		{tag.ImagePositionPatient, decimals(m.Position[:]...)},
		{tag.ImageOrientationPatient, decimals(1, 0, 0, 0, 1, 0)},
		{tag.RescaleIntercept, decimals(m.RescaleIntercept)},
		{tag.RescaleSlope, decimals(m.RescaleSlope)},
		{tag.RescaleType, text("HU")},
	}
}

func (m *Image) pixels() []attribute {
	raw := make([]byte, 0, 2*len(m.Samples))
	for _, s := range m.Samples {
		raw = binary.LittleEndian.AppendUint16(raw, s)
	}
	sign := 0
	if m.Signed {
		sign = 1
	}
	a := []attribute{
		{tag.SamplesPerPixel, []int{1}},
		{tag.PhotometricInterpretation, text("MONOCHROME2")},
		{tag.Rows, []int{m.Rows}},
		{tag.Columns, []int{m.Columns}},
		{tag.BitsAllocated, []int{16}},
		{tag.BitsStored, []int{16}},
		{tag.HighBit, []int{15}},
		{tag.PixelRepresentation, []int{sign}},
		{tag.PixelData, library.PixelDataInfo{IntentionallyUnprocessed: true, UnprocessedValueData: raw}},
	}
	if m.Spacing != [2]float64{} {
		a = append(a, attribute{tag.PixelSpacing, decimals(m.Spacing[:]...)})
	}
	if m.WindowWidth > 0 {
		a = append(a, attribute{tag.WindowCenter, decimals(m.WindowCenter)}, attribute{tag.WindowWidth, decimals(m.WindowWidth)})
	}
	return a
}

func text(s ...string) []string { return s }

func whole(n int) []string { return []string{strconv.Itoa(n)} }

// decimals writes numbers as DS, which has at most 16 characters (PS3.5 section 6.2).
func decimals(n ...float64) []string {
	out := make([]string, len(n))
	for i, x := range n {
		out[i] = strconv.FormatFloat(x, 'g', -1, 64)
		for p := 15; len(out[i]) > 16; p-- {
			out[i] = strconv.FormatFloat(x, 'g', p, 64)
		}
	}
	return out
}
