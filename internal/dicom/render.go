package dicom

import (
	"context"
	"encoding/binary"
	"fmt"
	"image"
	"image/jpeg"
	"io"
	"math"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// jpegQuality of pictures rendered as JPEG.
const jpegQuality = 95

// Render writes frame i, counted from 0.
//
// PNG and JPEG have 8 bits. Grey goes through w: as the file says (its VOI table, else its first
// window; without both up to 8 unsigned bits as they are, single bits as black and white, anything
// else from the least to the largest value of the frame); from the least to the largest; or a window
// of values after rescaling. MONOCHROME1 comes inverted, so that it looks as it should. Colour
// comes in RGB, whatever w says. The stored window is another matter: the PNG has the stored
// values themselves, in 8 or 16 bits, signed ones with 2^(BitsStored-1) added, palette indices and
// YBR as they are; as JPEG it is refused.
//
// NPY (NumPy format 1.0) has the values after rescaling, as float32 in C order: rows, columns,
// and for colour three samples in RGB of 8 bits, or of 16 as they are. w does not count.
//
// Errors: those of Picture; Illegal unsupported_format for a photometric interpretation, or a size
// of values, that cannot be rendered so; Permanent bad_value for a rendering that is none; w's own.
func (f *Frames) Render(ctx context.Context, w io.Writer, i int, as gantry.Rendering, win Window) error {
	s := f.scratch.Get().(*scratch)
	defer f.scratch.Put(s)
	p, err := f.picture(ctx, i, s)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	switch as {
	case gantry.RenderPNG, gantry.RenderJPEG:
	case gantry.RenderNPY:
		return f.writeNPY(w, i, p, s)
	default:
		return gantry.Errorf(gantry.Permanent, CodeBadValue, "render frame: neither png, jpeg nor npy")
	}
	if win.kind == windowStored {
		if as == gantry.RenderJPEG {
			return unreadable("stored values as JPEG, which would change them")
		}
		m, err := p.storedMap(s)
		if err != nil {
			return err
		}
		return s.pack.writePNG(w, m)
	}
	m, err := f.pixmap(i, p, win, s)
	if err != nil {
		return err
	}
	if as == gantry.RenderJPEG {
		return writeJPEG(w, m, s)
	}
	return s.pack.writePNG(w, m)
}

// pixmap is the frame as it is seen, in 8 bits.
func (f *Frames) pixmap(i int, p *Picture, win Window, s *scratch) (*pixmap, error) {
	m := &pixmap{rows: p.Rows, columns: p.Columns, samples: 3, depth: 8}
	n := p.Rows * p.Columns
	switch {
	case p.Samples == 3:
		s.picture = grown(s.picture, 3*n)
		if err := p.rgb(s.picture); err != nil {
			return nil, err
		}
	case f.palette != nil && !p.Float:
		s.picture = grown(s.picture, 3*n)
		f.palette.paint(s.picture, p)
	case p.Photometric == monochrome1 || p.Photometric == monochrome2:
		m.samples = 1
		s.picture = grown(s.picture, n)
		f.greys(s.picture, p, f.shading(i, p, win))
	default:
		return nil, unreadable("a photometric interpretation that is not known")
	}
	m.pix = s.picture
	return m, nil
}

// storedMap has the stored values of a picture, unchanged.
func (p *Picture) storedMap(s *scratch) (*pixmap, error) {
	if p.Float || p.Bytes > 2 {
		return nil, unreadable("stored values of over 16 bits as PNG")
	}
	m := &pixmap{rows: p.Rows, columns: p.Columns, samples: p.Samples, depth: 8 * p.Bytes}
	offset := uint16(0)
	if p.Signed {
		offset = 1 << (p.BitsStored - 1)
	}
	s.picture = grown(s.picture, len(p.Values))
	m.pix = s.picture
	if p.Bytes == 1 {
		for i, v := range p.Values {
			m.pix[i] = v + byte(offset)
		}
		return m, nil
	}
	for i := 0; i+1 < len(m.pix); i += 2 {
		binary.BigEndian.PutUint16(m.pix[i:], binary.LittleEndian.Uint16(p.Values[i:])+offset)
	}
	return m, nil
}

func writeJPEG(w io.Writer, m *pixmap, s *scratch) error {
	area := image.Rect(0, 0, m.columns, m.rows)
	var picture image.Image = &image.Gray{Pix: m.pix, Stride: m.columns, Rect: area}
	if m.samples == 3 {
		s.packed = grown(s.packed, 4*m.columns*m.rows)
		for i := range m.columns * m.rows {
			copy(s.packed[4*i:4*i+3], m.pix[3*i:3*i+3])
			s.packed[4*i+3] = 255
		}
		picture = &image.RGBA{Pix: s.packed, Stride: 4 * m.columns, Rect: area}
	}
	if err := jpeg.Encode(w, picture, &jpeg.Options{Quality: jpegQuality}); err != nil {
		return fmt.Errorf("write jpeg: %w", err)
	}
	return nil
}

// writeNPY writes an array of NumPy format 1.0.
func (f *Frames) writeNPY(w io.Writer, i int, p *Picture, s *scratch) error {
	shape := fmt.Sprintf("(%d, %d)", p.Rows, p.Columns)
	if p.Samples > 1 {
		shape = fmt.Sprintf("(%d, %d, %d)", p.Rows, p.Columns, p.Samples)
		if p.Photometric != "RGB" || p.Bytes == 1 {
			s.picture = grown(s.picture, p.count())
			if err := p.rgb(s.picture); err != nil {
				return err
			}
			p.Values, p.Photometric = s.picture, "RGB"
		}
	}
	head := "{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + ", }"
	pad := 63 - (10+len(head))%64
	out := append([]byte("\x93NUMPY\x01\x00"), 0, 0)
	binary.LittleEndian.PutUint16(out[8:], uint16(len(head)+pad+1))
	out = append(append(out, head...), fmt.Sprintf("%*s\n", pad, "")...)
	if _, err := w.Write(out); err != nil {
		return err
	}
	sh := shade{show: show{slope: 1}}
	if p.Samples == 1 && f.palette == nil {
		sh.show, sh.modality = f.shows.of(i), f.shows.modality
	}
	s.packed = grown(s.packed, 4*p.count())
	for k := range p.count() {
		binary.LittleEndian.PutUint32(s.packed[4*k:], math.Float32bits(float32(sh.value(p.stored(k)))))
	}
	_, err := w.Write(s.packed)
	return err
}
