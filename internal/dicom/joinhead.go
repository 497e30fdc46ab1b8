package dicom

import (
	"fmt"
	"strconv"
	"strings"
)

// The elements that only a result changes.
const (
	tagImageType    = 0x00080008
	tagSeriesText   = 0x0008103e
	tagDerivation   = 0x00082111
	tagSourceImages = 0x00082112
	tagBodyPart     = 0x00180015
	tagFrameTime    = 0x00181063
	tagFrameTimes   = 0x00181065
	tagPageNumbers  = 0x00182001
	tagEquipment    = 0x0018a001
	tagLaterality   = 0x00200060
	tagIncrement    = 0x00280009
	tagBurnedIn     = 0x00280301
	tagLossyRatio   = 0x00282112
	tagLossyMethod  = 0x00282114
)

const (
	maxLongText = 64   // characters of an LO
	maxText     = 1024 // characters of an ST
)

// describe makes the source's elements those of the result.
func (s *joiner) describe() {
	rw := s.rw
	from := reference{rw.text(tagClass), rw.text(tagInstance), rw.text(tagSeries)}
	if s.form.kept {
		s.describeKept()
	} else {
		s.describeDerived()
	}
	rw.setText(tagImageType, vrCS, derivedType(rw.text(tagImageType), s.form.kept && enhanced(from.class)))
	rw.setText(tagInstance, vrUI, s.j.UID)
	rw.setText(tagSeries, vrUI, s.j.SeriesUID)
	rw.setText(0x00200011, vrIS, strconv.Itoa(s.j.SeriesNumber))
	rw.setText(0x00200013, vrIS, "1")
	name := "AI: " + s.j.Pipeline + " " + s.j.Version
	rw.setText(tagSeriesText, vrLO, strings.TrimRight(name[:min(len(name), maxLongText)], " "))
	if s.j.Frames > 1 || rw.has(tagFrames) {
		rw.setText(tagFrames, vrIS, strconv.Itoa(s.j.Frames))
	}
	s.derivation()
	s.refer(from)
	s.equipment()
	s.lossy()
}

// derivedType replaces the first two values of an Image Type (PS3.3 section C.7.6.1.1.2), or only
// the first.
func derivedType(was string, keepSecond bool) string {
	values := strings.Split(was, `\`)
	out := []string{"DERIVED", "SECONDARY"}
	if keepSecond && len(values) > 1 {
		out[1] = values[1]
	}
	return strings.Join(append(out, values[min(2, len(values)):]...), `\`)
}

// describeKept takes away what speaks of the source's own pixels, instance or series.
func (s *joiner) describeKept() {
	rw, l := s.rw, s.src.Layout()
	rw.remove(0x00080012, 0x00080013, 0x00080014, // creation of the instance
		0x00080021, 0x00080031, 0x0008103f, // date, time and code of the series
		tagSourceImages, 0x00280106, 0x00280107, 0x00280108, 0x00280109, // least and largest value
		0x00880200, 0x4ffe0001) // icon, digital signatures
	for group := uint32(0x60000000); group <= 0x601e0000; group += 0x20000 {
		if !rw.has(group | 0x3000) { // an overlay in the unused bits of the pixels
			rw.keep(func(tag uint32) bool { return tag&0xffff0000 != group })
		}
	}
	if s.form.photometric != l.Photometric {
		rw.setText(tagPhotometric, vrCS, s.form.photometric)
	}
	if l.Samples == 3 {
		rw.setShort(tagPlanar, 0)
	}
	if rw.has(0x00189004) {
		rw.setText(0x00189004, vrCS, "RESEARCH") // Content Qualification
	}
}

// describeDerived keeps patient and study and describes a secondary capture of several frames
// (PS3.3 sections A.8.3 to A.8.5, C.8.6.1 and C.8.6.3).
func (s *joiner) describeDerived() {
	rw, f := s.rw, s.form
	rw.keep(ofStudy)
	for _, e := range []struct {
		tag  uint32
		vr   vr
		text string
	}{
		{tagClass, vrUI, f.class()}, {0x00080064, vrCS, "WSD"}, {0x00080070, vrLO, "gantry"},
		{0x00081090, vrLO, "gantry"}, {0x00181020, vrLO, s.j.Version}, {0x00200020, vrCS, ""},
		{tagPhotometric, vrCS, f.photometric},
	} {
		rw.setText(e.tag, e.vr, e.text)
	}
	for tag, n := range map[uint32]int{tagSamples: f.samples, tagRows: f.rows, tagColumns: f.columns, tagBits: 8 * f.bytes,
		tagBitsStored: f.bits, tagHighBit: f.bits - 1, tagSigned: 0} {
		rw.setShort(tag, n)
	}
	rw.setText(tagFrames, vrIS, strconv.Itoa(s.j.Frames))
	if !rw.has(tagBurnedIn) {
		rw.setText(tagBurnedIn, vrCS, "YES") // nobody knows what a model drew
	}
	if !rw.has(tagLaterality) && !single(rw.text(tagBodyPart)) {
		rw.setText(tagLaterality, vrCS, "") // the part may be one of a pair
	}
	if f.samples == 3 {
		rw.setShort(tagPlanar, 0)
	} else {
		rw.setText(0x20500020, vrCS, "IDENTITY") // Presentation LUT Shape
		rw.setText(tagIntercept, vrDS, "0")
		rw.setText(tagSlope, vrDS, "1")
		rw.setText(0x00281054, vrLO, "US") // Rescale Type
	}
	s.increments()
}

// single tells whether a Body Part Examined has no side (PS3.16 annex L). Laterality has to be there, if need
// be empty, for all others and must not be for these (type 2C, PS3.3 section C.7.3.1).
func single(part string) bool {
	switch part {
	case "ABDOMEN", "ABDOMENPELVIS", "AORTA", "BACK", "BLADDER", "BRAIN", "CEREBELLUM", "CERVIX", "CHEST", "COCCYX", "COLON",
		"CSPINE", "CTSPINE", "DUODENUM", "FACE", "GALLBLADDER", "HEAD", "HEART", "ILEUM", "ILIUM", "JAW", "LARYNX", "LIVER", "LSPINE",
		"MAXILLA", "MEDIASTINUM", "MOUTH", "NECK", "NOSE", "PANCREAS", "PELVIS", "PENIS", "PHARYNX", "PROSTATE", "RECTUM",
		"SCALP", "SKULL", "SPINE", "SPLEEN", "SSPINE", "STERNUM", "STOMACH", "THYMUS", "THYROID", "TLSPINE", "TONGUE", "TRACHEA",
		"TSPINE", "URETER", "URETHRA", "UTERUS", "VAGINA", "VULVA", "WHOLEBODY":
		return true
	}
	return false
}

// increments says by what the frames of a derived image follow each other: the source's times, or
// their numbers.
func (s *joiner) increments() {
	rw := s.rw
	_, to := rw.parts(tagIncrement)
	for _, tag := range []uint32{tagFrameTime, tagFrameTimes} {
		if string(to) == string(appendTag(nil, tag)) && rw.has(tag) {
			return
		}
	}
	rw.remove(tagIncrement, tagFrameTime, tagFrameTimes)
	if s.j.Frames == 1 {
		return
	}
	pages := make([]string, s.j.Frames)
	for i := range pages {
		pages[i] = strconv.Itoa(i + 1)
	}
	if text := strings.Join(pages, `\`); len(text) < 1<<16-1 {
		rw.setText(tagPageNumbers, vrIS, text)
		rw.set(tagIncrement, vrAT, appendTag(nil, tagPageNumbers))
	}
}

// class is the SOP class of a derived image.
func (f *form) class() string {
	switch {
	case f.samples == 3:
		return ClassTrueColorCapture
	case f.bytes == 2:
		return ClassGreyWordCapture
	}
	return ClassGreyByteCapture
}

// ofStudy tells whether a derived image has an element of its source: those of patient and study,
// of time between frames, of contributing equipment and of lossy compression.
func ofStudy(tag uint32) bool {
	switch tag >> 16 {
	case 0x0010, 0x0012: // patient, clinical trial
		return true
	}
	switch tag {
	case tagCharset, 0x00080020, 0x00080030, 0x00080050, 0x00080051, 0x00080090, 0x00080096, 0x00080201,
		0x00081030, 0x00081032, 0x00081048, 0x00081049, 0x00081060, 0x00081062, 0x00081080, 0x00081084, 0x00081110,
		tagModality, tagStudy, 0x00200010, tagBodyPart, tagLaterality,
		0x00082144, 0x00180040, tagFrameTime, tagFrameTimes, 0x00181066, tagIncrement,
		tagDerivation, tagEquipment, tagBurnedIn, tagLossy, tagLossyRatio, tagLossyMethod:
		return true
	}
	return false
}

// derivation tells what the result was made of (PS3.3 section C.7.6.1).
func (s *joiner) derivation() {
	text := "Frames put through pipeline " + s.j.Pipeline + ", version " + s.j.Version + ", processor " + s.j.Processor + ", by gantry"
	if s.j.Lossy {
		text += "; answers lossy compressed as JPEG"
	}
	if m := s.j.gaps(); m != "" {
		text += "; " + m
	}
	if was := s.rw.text(tagDerivation); was != "" && len(was)+2+len(text) <= maxText {
		text = was + "; " + text
	}
	s.rw.setText(tagDerivation, vrST, text)
}

// reference names an instance.
type reference struct{ class, instance, series string }

func (r reference) write(item *itemWriter) {
	item.text(0x00081150, vrUI, r.class)
	item.text(0x00081155, vrUI, r.instance)
}

// refer points to the source, as source image and among the instances of the study that are
// referred to (PS3.3 sections C.7.6.1 and C.12.2).
func (s *joiner) refer(from reference) {
	l, f := s.src.Layout(), s.form
	s.rw.remove(tagSourceImages)
	s.rw.appendItem(tagSourceImages, func(item *itemWriter) {
		from.write(item)
		if f.rows == l.Rows && f.columns == l.Columns {
			item.text(0x0028135a, vrCS, "YES") // Spatial Locations Preserved
		}
		item.code(0x0040a170, "121322", "Source image for image processing operation")
	})
	if from.series == "" {
		return
	}
	s.rw.appendItem(0x00081115, func(item *itemWriter) {
		item.sequence(0x0008114a, from.write)
		item.text(tagSeries, vrUI, from.series)
	})
}

// equipment adds gantry to what contributed (PS3.3 section C.12.1.5).
func (s *joiner) equipment() {
	s.rw.appendItem(tagEquipment, func(item *itemWriter) {
		item.text(0x00080070, vrLO, "gantry")
		item.text(0x00081090, vrLO, "gantry")
		item.text(0x00181020, vrLO, s.j.Version)
		item.text(0x0018a003, vrST, "pipeline "+s.j.Pipeline+", processor "+s.j.Processor)
		item.code(0x0040a170, "109102", "Processing Equipment")
	})
}

// lossy keeps the history of lossy compression, which is never cleared, and adds to it what the
// source's transfer syntax says (PS3.3 section C.7.6.1.1.5).
func (s *joiner) lossy() {
	l := s.src.Layout()
	if !l.Lossy && !s.j.Lossy {
		return
	}
	known := s.rw.text(tagLossy) == "01"
	s.rw.setText(tagLossy, vrCS, "01")
	method := lossyMethod(l.TransferSyntax)
	if known || method == "" {
		return
	}
	coded := int64(0)
	for _, p := range s.src.pieces {
		coded += p.length
	}
	s.rw.setText(tagLossyMethod, vrCS, method)
	s.rw.setText(tagLossyRatio, vrDS, strconv.FormatFloat(float64(l.Frames)*float64(l.size())/float64(max(coded, 1)), 'f', 2, 64))
}

// lossyMethod is the defined term for a lossy transfer syntax.
func lossyMethod(uid string) string {
	if !lossySyntax(uid) {
		return ""
	}
	switch c, _, _ := codecOf(uid); {
	case uid == "1.2.840.10008.1.2.4.81":
		return "ISO_14495_1"
	case uid == "1.2.840.10008.1.2.4.203":
		return "ISO_15444_15"
	case c == jpegCodec:
		return "ISO_10918_1"
	case c == j2kCodec:
		return "ISO_15444_1"
	}
	return ""
}

// gaps lists the missing frames by number, runs as ranges, the end of a long list by its count.
func (j *Joining) gaps() string {
	var list strings.Builder
	left := 0
	for i := 0; i < j.Frames; i++ {
		if !j.missing(i) {
			continue
		}
		from := i
		for i+1 < j.Frames && j.missing(i+1) {
			i++
		}
		switch {
		case list.Len() > 500:
			left += i - from + 1
		case list.Len() > 0:
			fmt.Fprintf(&list, ", %s", span(from, i))
		default:
			list.WriteString(span(from, i))
		}
	}
	if list.Len() == 0 {
		return ""
	}
	if left > 0 {
		fmt.Fprintf(&list, " and %d more", left)
	}
	return "frames " + list.String() + " not answered"
}

// span names the frames from one to another, both counted from 0.
func span(from, to int) string {
	if from == to {
		return strconv.Itoa(from + 1)
	}
	return strconv.Itoa(from+1) + "-" + strconv.Itoa(to+1)
}
