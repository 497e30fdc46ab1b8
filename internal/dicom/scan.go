package dicom

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Reason codes of this package, beside CodeEmpty, CodeTruncated, CodeMalformed and CodeTooLarge
// of the vocabulary. Those from CodeOutOfOrder on are warnings; CodeUnsupportedSyntax,
// CodeMissingUID, CodePixelSize and CodeNoPixelData may be either.
const (
	CodeNotDICOM          gantry.Code = "not_dicom"
	CodeLengthOutOfBounds gantry.Code = "length_out_of_bounds"
	CodeTooDeep           gantry.Code = "too_deep"
	CodeArchiveBomb       gantry.Code = "archive_bomb"
	CodeMissingSyntax     gantry.Code = "missing_transfer_syntax"
	CodeUnsupportedSyntax gantry.Code = "unsupported_transfer_syntax"
	CodeMissingUID        gantry.Code = "missing_uid"
	CodeBadUID            gantry.Code = "bad_uid"
	CodeDuplicateElement  gantry.Code = "duplicate_element"
	CodeBadVR             gantry.Code = "bad_vr"
	CodeBadValue          gantry.Code = "bad_value"
	CodePixelSize         gantry.Code = "pixel_size_mismatch"
	CodeNoPixelData       gantry.Code = "no_pixel_data"

	CodeOutOfOrder         gantry.Code = "out_of_order"
	CodeUIDMismatch        gantry.Code = "uid_mismatch"
	CodeDirectory          gantry.Code = "directory"
	CodeUnknownCharset     gantry.Code = "unknown_charset"
	CodeControlCharacters  gantry.Code = "control_characters"
	CodeExecutablePreamble gantry.Code = "executable_preamble"
	CodeMissingGroupLength gantry.Code = "missing_group_length"
	CodeWrongGroupLength   gantry.Code = "wrong_group_length"
)

// Limits bounds what one file may ask of us. A field that is 0 or less takes its default.
type Limits struct {
	Depth       int   // nested sequences
	MaxElements int64 // elements, items and fragments in all
	MaxInflated int64 // bytes that a deflated data set may come to
	MaxRatio    int64 // inflated to deflated, once 10 MiB have come out
	MaxValue    int64 // bytes of one value that is really there
}

// DefaultLimits are the limits of the product when a pipeline says nothing.
func DefaultLimits() Limits {
	return Limits{Depth: 32, MaxElements: 10_000_000, MaxInflated: 512 << 20, MaxRatio: 100, MaxValue: 2 << 30}
}

func (l Limits) orDefault() Limits {
	d := DefaultLimits()
	return Limits{Depth: above0(l.Depth, d.Depth), MaxElements: above0(l.MaxElements, d.MaxElements), MaxInflated: above0(l.MaxInflated, d.MaxInflated),
		MaxRatio: above0(l.MaxRatio, d.MaxRatio), MaxValue: above0(l.MaxValue, d.MaxValue)}
}

// above0 is a limit that was set, or its default.
func above0[T int | int64](l, otherwise T) T {
	if l > 0 {
		return l
	}
	return otherwise
}

// Info is what Scan learnt. Strings are values of the file, trimmed of padding; they may name
// people's studies and never go into logs.
type Info struct {
	TransferSyntax string
	SOPClass       string
	SOPInstance    string
	StudyInstance  string
	SeriesInstance string
	Modality       string

	Rows, Columns   int
	Frames          int // 1 if the file does not say; 0 without pixel data
	SamplesPerPixel int
	BitsAllocated   int
	Photometric     string
	ModalityLUT     bool // samples become values by a table, not by rescaling

	PixelOffset  int64 // of the value of the pixel data in the file; -1 if there is none or the data set is deflated
	PixelLength  int64 // bytes of a native value, or of all fragments without the offset table
	Encapsulated bool
	Fragments    int // without the offset table
	Offsets      int // entries of the Basic Offset Table

	Warnings []gantry.Code // each once, in the order found
	SHA      gantry.Digest // of the exact bytes read; zero where ScanTags read them
	Size     int64         // bytes read
}

// Scan reads r to its end and judges it; size is the number of bytes to come, -1 if not known.
// A refusal is an Illegal *gantry.Error whose text names a tag and an offset and never a value;
// the Info beside it has SHA and Size, since a refused file is kept as well. An error of r itself
// is passed on as it is, with a nil Info. Memory does not depend on the file but for 4 bytes for
// each element of the open data sets, of which there are at most 65,536 in each.
func Scan(r io.Reader, size int64, l Limits) (*Info, error) {
	return newScanner(r, size, l).judged(size)
}

// judged runs the scanner to the end of the file.
func (s *scanner) judged(size int64) (*Info, error) {
	defer s.raw.free()
	verdict := s.run()
	if err := s.raw.drain(); err != nil {
		return nil, fmt.Errorf("scan at byte %d: %w", s.raw.pos(), err)
	}
	s.info.Size = s.raw.pos()
	if s.raw.hash != nil {
		s.info.SHA = gantry.Digest(s.raw.hash.Sum(nil))
	}
	if verdict == nil && size >= 0 && s.info.Size != size {
		verdict = gantry.Errorf(gantry.Illegal, gantry.CodeTruncated, "%d bytes announced, %d came", size, s.info.Size)
	}
	if verdict != nil {
		return s.info, verdict
	}
	return s.info, nil
}

// scanner is the state of one pass.
type scanner struct {
	raw      *source // the file
	src      *source // what elements come from: the file, or its inflated data set
	lim      Limits
	info     *Info
	ts       syntax
	stack    []frame
	tags     []uint32 // the tags seen in each open data set, one after another
	metaEnds int64    // where the file meta information says that it ends
	elements int64
	disorder int
	escapes  bool // the character set uses code extensions
	held     [slots]held
	code     codestreams
	visit    func(e element, value []byte) // of short values of the outermost data set
	stop     uint32                        // where to stop; 0: at the end
	tops     func(e element)               // at each element of the outermost data set, before order and stop; nil for none
	body     int64                         // where the outermost data set begins in the file
	leaves   func(e element) error         // before each value of any data set that is neither sequence nor pixels; nil for none
	spans    func(e element, table bool)   // before each run of bytes of the image's pixel data, and before its offset table
}

func newScanner(r io.Reader, size int64, l Limits) *scanner {
	raw := newSource(r, size, sha256.New())
	return &scanner{
		raw: raw, src: raw, lim: l.orDefault(),
		info:  &Info{PixelOffset: -1},
		stack: make([]frame, 0, 8), tags: make([]uint32, 0, 256),
	}
}

// run gives the verdict: nil, a refusal, or the reader's own error.
func (s *scanner) run() error {
	if err := s.readMeta(); err != nil {
		return s.blame(err)
	}
	s.body = s.raw.pos()
	if s.ts.deflated {
		s.inflate()
	}
	s.stack = append(s.stack[:0], s.root(s.ts.implicit, s.ts.big))
	s.tags = s.tags[:0]
	if err := s.walk(); err != nil {
		return s.blame(err)
	}
	if s.stop != 0 {
		return nil
	}
	if s.ts.deflated {
		if err := s.endOfInflated(); err != nil {
			return s.blame(err)
		}
	}
	return s.judge()
}

// root is the outermost data set; it ends with its source.
func (s *scanner) root(implicit, big bool) frame {
	end := int64(math.MaxInt64)
	if s.src.size >= 0 {
		end = s.src.size
	}
	return frame{end: end, implicit: implicit, big: big, dataset: true, open: true}
}

// blame turns a bare end of the bytes into a refusal; other errors stay as they are.
func (s *scanner) blame(err error) error {
	if errors.Is(err, errShort) {
		return gantry.Errorf(gantry.Illegal, gantry.CodeTruncated, "the object ends at byte %d inside an element", s.src.pos())
	}
	return err
}

func (s *scanner) warn(c gantry.Code) {
	for _, w := range s.info.Warnings {
		if w == c {
			return
		}
	}
	s.info.Warnings = append(s.info.Warnings, c)
}

// refuse is a verdict on one element.
func refuse(code gantry.Code, tag uint32, at int64, format string, args ...any) error {
	return gantry.Errorf(gantry.Illegal, code, "(%04x,%04x) at byte %d: %s", tag>>16, tag&0xffff, at, fmt.Sprintf(format, args...))
}
