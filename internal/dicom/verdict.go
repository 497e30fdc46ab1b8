package dicom

import (
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// directory tells whether the file says of itself that it is a DICOMDIR.
func (s *scanner) directory() bool { return s.held[slotMetaClass].text() == classDirectory }

// judge is the verdict on a file whose structure is sound.
func (s *scanner) judge() error {
	if err := s.judgeMeta(); err != nil {
		return err
	}
	in := s.info
	in.Modality, in.Photometric = s.held[slotModality].text(), s.held[slotPhotometric].text()
	if s.directory() {
		in.SOPClass, in.SOPInstance = classDirectory, s.held[slotMetaInstance].text()
		s.warn(CodeDirectory)
		return nil
	}
	if err := s.judgeUIDs(); err != nil {
		return err
	}
	return s.judgePixels()
}

func (s *scanner) judgeUIDs() error {
	in := s.info
	for _, u := range []struct {
		slot int
		tag  uint32
		to   *string
		must bool
	}{
		{slotClass, tagClass, &in.SOPClass, true},
		{slotInstance, tagInstance, &in.SOPInstance, true},
		{slotStudy, tagStudy, &in.StudyInstance, false},
		{slotSeries, tagSeries, &in.SeriesInstance, false},
	} {
		h := s.held[u.slot]
		t := h.text()
		switch {
		case h.present && !h.whole:
			return refuse(CodeBadUID, u.tag, h.at, "over %d bytes", heldMax)
		case t == "" && u.must:
			return gantry.Errorf(gantry.Illegal, CodeMissingUID, "(%04x,%04x) is missing", u.tag>>16, u.tag&0xffff)
		case t == "":
			s.warn(CodeMissingUID)
		case !ValidUID(t):
			return refuse(CodeBadUID, u.tag, h.at, "not a UID")
		}
		*u.to = t
	}
	if m := s.held[slotMetaInstance].text(); m != "" && m != in.SOPInstance {
		s.warn(CodeUIDMismatch)
	}
	return nil
}

func (s *scanner) judgePixels() error {
	if s.code.at == 0 {
		if imageClass(s.info.SOPClass) || s.held[slotRows].present {
			return gantry.Errorf(gantry.Illegal, CodeNoPixelData, "an image without (7fe0,0010)")
		}
		s.warn(CodeNoPixelData)
		return nil
	}
	if err := s.geometry(); err != nil {
		return err
	}
	if s.info.Encapsulated {
		return s.judgeFragments()
	}
	return s.judgeNative()
}

// geometry fills the image's numbers (PS3.3 section C.7.6.3).
func (s *scanner) geometry() (err error) {
	in := s.info
	for _, n := range []struct {
		slot int
		tag  uint32
		to   *int
	}{
		{slotSamples, tagSamples, &in.SamplesPerPixel},
		{slotRows, tagRows, &in.Rows},
		{slotColumns, tagColumns, &in.Columns},
		{slotBits, tagBits, &in.BitsAllocated},
	} {
		if *n.to, err = s.number(n.slot, n.tag); err != nil {
			return err
		}
	}
	if b := in.BitsAllocated; b > 64 || b != 1 && b%8 != 0 {
		return refuse(CodeBadValue, tagBits, s.held[slotBits].at, "neither 1 nor whole bytes up to 64 bits")
	}
	in.Frames, err = s.frames()
	return err
}

func (s *scanner) judgeNative() error {
	in := s.info
	need, ok := nativeSize(in.Rows, in.Columns, in.SamplesPerPixel, in.BitsAllocated, in.Frames, in.Photometric)
	switch {
	case !ok || in.PixelLength < need:
		return refuse(CodePixelSize, s.code.tag, s.code.at, "fewer bytes than the image has")
	case in.PixelLength > need+need%2:
		s.warn(CodePixelSize)
	}
	return nil
}

func (s *scanner) judgeFragments() error {
	in, c := s.info, &s.code
	switch {
	case in.Fragments == 0:
		return refuse(CodePixelSize, c.tag, c.at, "no fragments")
	case s.ts.codec != videoCodec && in.Fragments < in.Frames:
		return refuse(CodePixelSize, c.tag, c.at, "fewer fragments than frames")
	case c.vary:
		return refuse(CodePixelSize, c.tag, c.at, "code streams of several sizes")
	}
	switch s.ts.codec {
	case jpegCodec, j2kCodec:
		if c.width != uint32(in.Columns) || c.height != uint32(in.Rows) {
			return refuse(CodePixelSize, c.tag, c.at, "the code stream has another size than the image")
		}
	case rleCodec:
		if int(c.segments) != in.SamplesPerPixel*((in.BitsAllocated+7)/8) {
			return refuse(CodePixelSize, c.tag, c.at, "RLE segments for another number of samples")
		}
	}
	return nil
}
