package dicom

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// FrameLimits bounds what the frames of one file may ask of us. A field that is 0 or less takes
// its default.
type FrameLimits struct {
	Frames        int    // frames of one file
	FrameBytes    int64  // one frame: its bytes in the file, and its decoded values
	TotalBytes    int64  // the decoded values of all frames
	InflatedBytes int64  // a deflated data set, which is held in memory
	Scan          Limits // of the scan
}

// DefaultFrameLimits are the limits of the product when a pipeline says nothing.
func DefaultFrameLimits() FrameLimits {
	return FrameLimits{Frames: 1 << 20, FrameBytes: 256 << 20, TotalBytes: 64 << 30, InflatedBytes: 256 << 20, Scan: DefaultLimits()}
}

func (l FrameLimits) orDefault() FrameLimits {
	d := DefaultFrameLimits()
	d = FrameLimits{Frames: above0(l.Frames, d.Frames), FrameBytes: above0(l.FrameBytes, d.FrameBytes), TotalBytes: above0(l.TotalBytes, d.TotalBytes),
		InflatedBytes: above0(l.InflatedBytes, d.InflatedBytes), Scan: l.Scan.orDefault()}
	d.Scan.MaxInflated = min(d.Scan.MaxInflated, d.InflatedBytes)
	return d
}

// Frames gives the frames of one file, in any order. It may be used by several goroutines.
type Frames struct {
	at      io.ReaderAt // what offsets speak of: the file, or its inflated data set
	lim     FrameLimits
	layout  Layout
	decode  decoder // nil: native
	native  native
	pieces  []piece // the fragments
	starts  []int   // the first fragment of each frame; nil: one each
	shows   shows
	palette *palette
	scratch sync.Pool               // of *scratch
	shades  atomic.Pointer[shading] // the last one made; most frames of a file share it
}

// scratch is the memory of one Render.
type scratch struct {
	stream, values, picture, packed []byte
	pack                            packer
}

// OpenFrames finds the frames of a DICOM file of size bytes that passed the scan. It goes through
// the file once more and keeps where the frames are and how they are shown; of the pixels it reads
// no more than the heads of code streams. at must stay readable as long as Frames is used.
//
// Errors are Illegal *gantry.Error: what Scan refuses; no_pixel_data; too_large for what is over
// lim; unsupported_transfer_syntax; unsupported_format for samples of another kind than Layout can
// say; bad_value for attributes that contradict each other; bad_offset_table and
// pixel_size_mismatch for fragments that cannot be told apart into frames. at's own errors are
// passed on.
func OpenFrames(at io.ReaderAt, size int64, lim FrameLimits) (*Frames, error) {
	f := &Frames{at: at, lim: lim.orDefault()}
	f.scratch.New = func() any { return new(scratch) }
	o := opening{f: f, attributes: attributes{}}
	if err := o.scan(at, size); err != nil {
		return nil, err
	}
	if err := o.layout(); err != nil {
		return nil, err
	}
	if o.s.ts.deflated {
		if err := f.inflate(at, size); err != nil {
			return nil, err
		}
	}
	if o.s.info.Encapsulated {
		if err := o.fragments(); err != nil {
			return nil, err
		}
	} else if err := o.native(); err != nil {
		return nil, err
	}
	if err := o.look(); err != nil {
		return nil, err
	}
	return f, nil
}

// Len is the number of frames, at least 1.
func (f *Frames) Len() int { return f.layout.Frames }

// Layout says how the frames are stored.
func (f *Frames) Layout() Layout { return f.layout }

// Picture is the decoded values of one frame as they are stored, without bits that are not theirs.
type Picture struct {
	Rows, Columns int
	Samples       int    // of each pixel: 1 or 3
	Bytes         int    // of each value: 1, 2, 4 or 8
	Signed        bool   // values are two's complement of all their bytes
	Float         bool   // values are IEEE 754
	BitsStored    int    // of each value that count, 1 to 8 times Bytes
	Photometric   string // of the values: YBR_FULL where 4:2:2 was filled up, else as in the file or its code stream
	Values        []byte // row by row, the samples of a pixel side by side, little endian
}

// Picture decodes frame i, counted from 0, and reads only its bytes. The picture is the caller's.
// Errors: Illegal truncated, malformed, length_out_of_bounds, pixel_size_mismatch or
// unsupported_format for a code stream that cannot be decoded; Permanent bad_value for a frame
// that is not there; ctx's error; the file's own.
func (f *Frames) Picture(ctx context.Context, i int) (*Picture, error) {
	return f.picture(ctx, i, new(scratch))
}

// picture decodes into memory of s, which the picture then shares.
func (f *Frames) picture(ctx context.Context, i int, s *scratch) (*Picture, error) {
	if i < 0 || i >= f.layout.Frames {
		return nil, gantry.Errorf(gantry.Permanent, CodeBadValue, "decode frame: %d of %d", i, f.layout.Frames)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l := &f.layout
	p := &Picture{Rows: l.Rows, Columns: l.Columns, Samples: l.Samples, Bytes: l.bytes(), Signed: l.Signed,
		Float: l.Float, BitsStored: l.BitsStored, Photometric: l.Photometric}
	if f.decode == nil {
		if err := f.nativeFrame(i, s, p); err != nil {
			return nil, err
		}
	} else if err := f.codedFrame(ctx, i, s, p); err != nil {
		return nil, err
	}
	p.trim(l.HighBit)
	return p, nil
}

// codedFrame decodes the code stream of a frame.
func (f *Frames) codedFrame(ctx context.Context, i int, s *scratch, p *Picture) error {
	var err error
	if s.stream, err = f.stream(i, s.stream); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	got, err := f.decode(s.values[:0], s.stream, &f.layout, f.lim)
	if err != nil {
		return fmt.Errorf("decode frame %d: %w", i, err)
	}
	if err := got.fit(p); err != nil {
		return fmt.Errorf("decode frame %d: %w", i, err)
	}
	s.values = p.Values
	return nil
}

// read fills buf, grown as needed, with n bytes from off. The scan saw that they are there.
func (f *Frames) read(buf []byte, n, off int64) ([]byte, error) {
	buf = grown(buf, int(n))
	if got, err := f.at.ReadAt(buf, off); got < len(buf) {
		return nil, fmt.Errorf("read pixels at byte %d: %w", off, err)
	}
	return buf, nil
}

// grown is buf with n bytes, of any content.
func grown(buf []byte, n int) []byte {
	if cap(buf) < n {
		return make([]byte, n)
	}
	return buf[:n]
}
