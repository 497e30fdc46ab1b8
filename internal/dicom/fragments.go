package dicom

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// fragments finds which fragments each frame has (PS3.5 section A.4): one each if there are as
// many; else as the Extended Offset Table says, or the Basic one; else a frame begins where a
// code stream begins after another has ended.
func (o *opening) fragments() (err error) {
	f := o.f
	if f.decode, err = decoderOf(f.layout.TransferSyntax); err != nil {
		return err
	}
	frames := f.layout.Frames
	switch {
	case len(f.pieces) == frames:
	case frames == 1:
		f.starts = []int{0}
	default:
		if err := o.tables(); err != nil {
			return err
		}
	}
	for i := range frames {
		if n := length(f.frame(i)); n > f.lim.FrameBytes {
			return o.tooLarge("a code stream of over %d bytes", f.lim.FrameBytes)
		}
	}
	return nil
}

// tables settles the starts of several frames of several fragments.
func (o *opening) tables() error {
	offsets, ok := o.attributes[place{tag: tagOffsets}]
	switch {
	case ok:
		return o.byTable(offsets.piece, 8)
	case o.table.length > 0:
		return o.byTable(o.table, 4)
	}
	return o.byStreams()
}

// byTable takes the offsets of the frames from the first fragment's head (PS3.5 section A.4,
// PS3.3 section C.7.6.3.1.8). Each must be that of a fragment, the first one's being 0.
func (o *opening) byTable(table piece, unit int) error {
	f := o.f
	frames := f.layout.Frames
	wrong := gantry.Errorf(gantry.Illegal, CodeBadOffsetTable, "open frames: the offset table says other places than the fragments have")
	if table.length != int64(frames*unit) {
		return wrong
	}
	b, err := f.read(nil, table.length, table.at)
	if err != nil {
		return err
	}
	base := f.pieces[0].at
	for i := range frames {
		var at uint64
		if unit == 8 {
			at = binary.LittleEndian.Uint64(b[8*i:])
		} else {
			at = uint64(binary.LittleEndian.Uint32(b[4*i:]))
		}
		if at > uint64(f.pieces[len(f.pieces)-1].at) {
			return wrong
		}
		n, ok := slices.BinarySearchFunc(f.pieces, base+int64(at), func(p piece, at int64) int { return int(p.at - at) })
		if !ok || i == 0 && n != 0 || i > 0 && n <= f.starts[i-1] {
			return wrong
		}
		f.starts = append(f.starts, n)
	}
	return nil
}

// byStreams lets a frame begin where a fragment begins with the start of an image and the one
// before ends with its end.
func (o *opening) byStreams() error {
	f := o.f
	ended := true
	var b []byte
	for i, p := range f.pieces {
		var err error
		if b, err = f.read(b, min(p.length, 12), p.at); err != nil {
			return err
		}
		if ended && begins(b) {
			f.starts = append(f.starts, i)
		}
		if b, err = f.read(b, min(p.length, 16), p.at+max(p.length-16, 0)); err != nil {
			return err
		}
		ended = bytes.HasSuffix(bytes.TrimRight(b, "\x00"), []byte{0xff, 0xd9})
	}
	if len(f.starts) != f.layout.Frames {
		return gantry.Errorf(gantry.Illegal, CodePixelSize, "open frames: %d fragments without an offset table are %d code streams, not %d frames",
			len(f.pieces), len(f.starts), f.layout.Frames)
	}
	return nil
}

// begins tells whether a fragment begins a stream of JPEG, JPEG-LS or JPEG 2000.
func begins(b []byte) bool {
	return bytes.HasPrefix(b, []byte{0xff, 0xd8, 0xff}) || bytes.HasPrefix(b, []byte{0xff, 0x4f, 0xff, 0x51}) ||
		bytes.HasPrefix(b, []byte("\x00\x00\x00\x0cjP  "))
}

// frame gives the fragments of frame i.
func (f *Frames) frame(i int) []piece {
	switch {
	case f.starts == nil:
		return f.pieces[i : i+1]
	case i+1 < len(f.starts):
		return f.pieces[f.starts[i]:f.starts[i+1]]
	}
	return f.pieces[f.starts[i]:]
}

func length(pieces []piece) (n int64) {
	for _, p := range pieces {
		n += p.length
	}
	return n
}

// stream reads the code stream of frame i.
func (f *Frames) stream(i int, buf []byte) ([]byte, error) {
	pieces := f.frame(i)
	buf = grown(buf, int(length(pieces)))
	at := 0
	for _, p := range pieces {
		if n, err := f.at.ReadAt(buf[at:at+int(p.length)], p.at); int64(n) < p.length {
			return nil, fmt.Errorf("read frame %d at byte %d: %w", i, p.at, err)
		}
		at += int(p.length)
	}
	return buf, nil
}
