package dicom

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// CodeMismatchedFrames means that the answers to the frames of one object do not go together.
const CodeMismatchedFrames gantry.Code = "mismatched_frames"

// SOP classes of derived images with several frames (PS3.3 sections A.8.3 to A.8.5).
const (
	ClassGreyByteCapture  = "1.2.840.10008.5.1.4.1.1.7.2"
	ClassGreyWordCapture  = "1.2.840.10008.5.1.4.1.1.7.3"
	ClassTrueColorCapture = "1.2.840.10008.5.1.4.1.1.7.4"
)

// Joining describes an object to make of answers to the frames of another.
type Joining struct {
	Source io.ReaderAt // the file that the frames came from; Scan accepted it
	Size   int64       // its bytes

	UID, SeriesUID string           // of the result, as ResultUID makes them
	SeriesNumber   int              // of the result's series
	Frames         int              // of the result: as many as the source has
	Missing        func(i int) bool // frames without an answer, from 0, which become black; nil: none
	Sent           gantry.Rendering // the form in which the frames went out
	Window         Window           // through which they went
	Lossy          bool             // some answers are JPEG
	Limits         FrameLimits      // of the source
	Pipeline       string           // these three name what was done to the frames: printable
	Version        string           // ASCII without backslash, up to 64 characters
	Processor      string
}

// Join writes the answers to the frames of one object as an object of as many frames, native and
// in the source's order: explicit little endian, or implicit where the source is, since its
// elements are copied as they are. pictures gives the answer to a frame, one after another from 0;
// only frames that are not missing are asked for. No more than one picture is held, beside the
// source's data set without its pixels. The same answers give the same bytes.
//
// Where the answers are values of the source, of its size, the result has the source's class and
// its elements, functional groups as well, with its bits, sign, rescaling and windows: answers in
// PNG or arrays of integers to frames sent through the stored window; arrays of float32 or int16 to
// frames sent as NPY, taken back through the rescaling of the frame, to the nearest stored value;
// and colour of 8 bits in RGB. Anything else becomes a secondary capture, grey of 8 or 16 bits or
// colour of 8, with the patient and study of the source and without its rescaling (PS3.3 section
// A.8). Both get an Image Type of DERIVED\SECONDARY, the source's reference, an item of
// Contributing Equipment and a description that tells the missing frames.
//
// Errors: Illegal mismatched_frames for a picture that differs from those before it or whose values
// the result cannot hold, too_large for over 4 GiB of pixels, and those of OpenFrames; Permanent
// bad_value or bad_uid for a Joining that is wrong and unsupported_format for pictures that no
// result can be made of; those of pictures and w; ctx's.
func Join(ctx context.Context, w io.Writer, j Joining, pictures func(i int) (*Picture, error)) error {
	if err := j.check(); err != nil {
		return err
	}
	src, err := OpenFrames(j.Source, j.Size, j.Limits)
	if err != nil {
		return err
	}
	rw, err := newRewriter(j.Source, j.Size, j.Limits.Scan)
	if err != nil {
		return err
	}
	s := &joiner{j: &j, src: src, rw: rw, pictures: pictures}
	if err := s.start(ctx); err != nil {
		return err
	}
	s.describe()
	out := bufio.NewWriterSize(w, 64<<10)
	if err := s.writeHead(out); err != nil {
		return fmt.Errorf("join frames: %w", err)
	}
	if err := s.writeFrames(ctx, out); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("join frames: %w", err)
	}
	return nil
}

func (j *Joining) check() error {
	switch {
	case !ValidUID(j.UID) || !ValidUID(j.SeriesUID):
		return gantry.Errorf(gantry.Permanent, CodeBadUID, "join frames: a result without UIDs")
	case j.Frames < 1:
		return gantry.Errorf(gantry.Permanent, CodeBadValue, "join frames: %d frames", j.Frames)
	}
	for _, name := range []string{j.Pipeline, j.Version, j.Processor} {
		if len(name) > 64 || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r > '~' || r == '\\' }) {
			return gantry.Errorf(gantry.Permanent, CodeBadValue, "join frames: a name that is too long or not printable ASCII")
		}
	}
	return nil
}

func (j *Joining) missing(i int) bool { return j.Missing != nil && j.Missing(i) }

// joiner is the state of one Join.
type joiner struct {
	j        *Joining
	src      *Frames
	rw       *rewriter
	pictures func(i int) (*Picture, error)
	form     *form
	first    int // the first frame that is there, and its picture
	picture  *Picture
}

// start takes the form of the result from the first picture.
func (s *joiner) start(ctx context.Context) (err error) {
	l := s.src.Layout()
	if s.j.Frames != l.Frames {
		return gantry.Errorf(gantry.Permanent, CodeBadValue, "join frames: %d frames of %d", s.j.Frames, l.Frames)
	}
	for s.first < s.j.Frames && s.j.missing(s.first) {
		s.first++
	}
	if s.first == s.j.Frames {
		return gantry.Errorf(gantry.Permanent, CodeBadValue, "join frames: none was answered")
	}
	if s.picture, err = s.pictures(s.first); err != nil {
		return fmt.Errorf("join frame %d: %w", s.first+1, err)
	}
	if s.form, err = s.formOf(ctx, s.picture); err != nil {
		return err
	}
	if s.length() > math.MaxUint32-2 {
		return gantry.Errorf(gantry.Illegal, gantry.CodeTooLarge, "join frames: over 4 GiB of pixels")
	}
	return nil
}

// length is the number of bytes of all frames, without padding.
func (s *joiner) length() int64 {
	n := int64(s.j.Frames) * int64(s.form.size())
	if s.form.single {
		return (n + 7) / 8
	}
	return n
}

// writeHead writes all in front of the first frame.
func (s *joiner) writeHead(w io.Writer) error {
	if err := writeMeta(w, s.rw.text(tagClass), s.j.UID, s.rw.syntax()); err != nil {
		return err
	}
	if err := s.rw.write(w); err != nil {
		return err
	}
	n := uint32(s.length())
	n += n % 2
	head := appendLong(nil, tagPixelData, vrOW, n)
	switch {
	case s.rw.implicit:
		head = binary.LittleEndian.AppendUint32(appendTag(nil, tagPixelData), n)
	case s.form.bytes == 1:
		head = appendLong(nil, tagPixelData, vrOB, n)
	}
	_, err := w.Write(head)
	return err
}

// writeFrames writes the frames, black ones in the gaps.
func (s *joiner) writeFrames(ctx context.Context, w io.Writer) error {
	frame := make([]byte, s.form.size())
	var packed bitPacker
	for i := range s.j.Frames {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.frame(frame, i); err != nil {
			return fmt.Errorf("join frame %d: %w", i+1, err)
		}
		out := frame
		if s.form.single {
			out = packed.add(frame)
		}
		if _, err := w.Write(out); err != nil {
			return fmt.Errorf("join frames: %w", err)
		}
	}
	tail := packed.rest()
	if s.length()%2 == 1 {
		tail = append(tail, 0)
	}
	if _, err := w.Write(tail); err != nil {
		return fmt.Errorf("join frames: %w", err)
	}
	return nil
}

// frame makes frame i.
func (s *joiner) frame(dst []byte, i int) (err error) {
	if s.j.missing(i) {
		s.form.black(dst)
		return nil
	}
	p := s.picture
	s.picture = nil
	if i != s.first {
		if p, err = s.pictures(i); err != nil {
			return err
		}
	}
	return s.form.put(dst, p, s.src.shows.of(i))
}

// writeMeta writes the preamble and the file meta information (PS3.10 section 7.1).
func writeMeta(w io.Writer, class, instance, syntax string) error {
	var b []byte
	b = appendHead(b, false, 0x00020001, vrOB, []byte{0, 1})
	for _, e := range []struct {
		tag  uint32
		vr   vr
		text string
	}{
		{tagMetaClass, vrUI, class}, {tagMetaInstance, vrUI, instance}, {tagMetaSyntax, vrUI, syntax},
		{0x00020012, vrUI, implementationUID}, {0x00020013, vrSH, "GANTRY"},
	} {
		b = appendHead(b, false, e.tag, e.vr, padded(e.vr, []byte(e.text)))
	}
	out := append(make([]byte, preambleSize), "DICM"...)
	out = appendHead(out, false, tagMetaLength, vrUL, binary.LittleEndian.AppendUint32(nil, uint32(len(b))))
	_, err := w.Write(append(out, b...))
	return err
}
