package media

import (
	"bytes"
	"fmt"
	"image"
	"image/draw"
	"image/jpeg"
	"image/png"
	"io"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// VideoFrame is a picture with the time at which it is shown, from the first one's.
type VideoFrame struct {
	Picture io.Reader
	Media   string        // gantry.MediaPNG or gantry.MediaJPEG
	At      time.Duration // kept to the microsecond
}

// minStep is the shortest time from one frame of an MP4 to the next: over a tick of the coarsest scale that
// it is given, so that no two fall together.
const minStep = 40 * time.Microsecond

// maxTime is the latest time of a frame.
const maxTime = 1000 * time.Hour

// GapPicture is the PNG that stands where a frame is missing: black with a white cross from corner to
// corner, one channel of 8 bits. The same sides, in pixels, give the same bytes; sides below 1 or over
// 8,192 count as these.
func GapPicture(width, height int) []byte {
	width, height = min(max(width, 1), videoMaxSide), min(max(height, 1), videoMaxSide)
	m := image.NewGray(image.Rect(0, 0, width, height))
	right, bottom := width-1, height-1
	near := max(width, height) * max(1, min(width, height)/64)
	for i := range m.Pix {
		x, y := i%width, i/width
		falling, rising := x*bottom-y*right, (right-x)*bottom-y*right
		if max(falling, -falling) <= near || max(rising, -rising) <= near {
			m.Pix[i] = 255
		}
	}
	return encodePNG(m, png.DefaultCompression)
}

// encodePNG encodes what cannot fail to be encoded: a picture with sides, into memory.
func encodePNG(m image.Image, level png.CompressionLevel) []byte {
	var b bytes.Buffer
	_ = (&png.Encoder{CompressionLevel: level}).Encode(&b, m)
	return b.Bytes()
}

// pictureReader reads the pictures of a video one after the other and checks each before it gives it.
type pictureReader struct {
	frames        func(i int) (VideoFrame, bool, error)
	lossless      bool // keep all bits; else the times must be minStep apart
	n             int  // pictures so far
	width, height uint32
	deep          bool // 16 bits a channel in the first one, to be kept
	last          time.Duration
	b             bytes.Buffer
}

// next gives the next picture as a PNG, which is valid until the next call, or false behind the last.
func (p *pictureReader) next() (picture []byte, at time.Duration, ok bool, err error) {
	f, ok, err := p.frames(p.n)
	if err != nil || !ok {
		return nil, 0, false, err
	}
	if picture, err = p.take(f); err != nil {
		return nil, 0, false, fmt.Errorf("picture %d: %w", p.n, err)
	}
	p.n++
	return picture, f.At, true, nil
}

func (p *pictureReader) take(f VideoFrame) ([]byte, error) {
	step := minStep
	if p.lossless {
		step = 0
	}
	switch {
	case p.n == 0 && f.At != 0:
		return nil, illegal(CodeBadValue, "the first one is at %v, not at 0", f.At)
	case p.n > 0 && (f.At < p.last+step || f.At > maxTime):
		return nil, illegal(CodeBadValue, "at %v, the one before at %v", f.At, p.last)
	case structureOf(f.Media) == nil:
		return nil, illegal(gantry.CodeUnsupportedFormat, "neither PNG nor JPEG")
	}
	p.last = f.At
	p.b.Reset()
	if _, err := io.Copy(&limited{w: &p.b, left: pictureMax}, Verify(f.Media, f.Picture)); err != nil {
		return nil, err
	}
	if f.Media == gantry.MediaJPEG {
		return p.takeJPEG()
	}
	ihdr := p.b.Bytes()[16:25]
	deep := p.lossless && ihdr[8] == 16
	if err := p.same(be.Uint32(ihdr), be.Uint32(ihdr[4:]), deep); err != nil {
		return nil, err
	}
	if p.deep && !deep {
		return p.widen()
	}
	return p.b.Bytes(), nil
}

// widen makes 16 bits a channel of less: ffmpeg would not do so exactly.
func (p *pictureReader) widen() ([]byte, error) {
	m, err := png.Decode(bytes.NewReader(p.b.Bytes()))
	if err != nil {
		return nil, illegal(gantry.CodeMalformed, "a PNG that cannot be decoded")
	}
	wide := image.NewNRGBA64(m.Bounds())
	draw.Draw(wide, wide.Rect, m, m.Bounds().Min, draw.Src)
	return encodePNG(wide, png.NoCompression), nil
}

// takeJPEG decodes a JPEG, since one track holds pictures of one kind: PNGs that stand in its place are
// not compressed.
func (p *pictureReader) takeJPEG() ([]byte, error) {
	c, err := jpeg.DecodeConfig(bytes.NewReader(p.b.Bytes()))
	if err != nil {
		return nil, jpegError(err)
	}
	if err := p.same(uint32(c.Width), uint32(c.Height), false); err != nil {
		return nil, err
	}
	m, err := jpeg.Decode(bytes.NewReader(p.b.Bytes()))
	if err != nil {
		return nil, jpegError(err)
	}
	if _, grey := m.(*image.Gray); !grey {
		flat := image.NewRGBA(m.Bounds())
		draw.Draw(flat, flat.Rect, m, m.Bounds().Min, draw.Src)
		m = flat
	}
	return encodePNG(m, png.NoCompression), nil
}

func jpegError(err error) error {
	if _, ok := err.(jpeg.UnsupportedError); ok {
		return illegal(gantry.CodeUnsupportedFormat, "a JPEG of a kind that is not decoded")
	}
	return illegal(gantry.CodeMalformed, "a JPEG that cannot be decoded")
}

// same takes the first picture's size and depth for those of all.
func (p *pictureReader) same(width, height uint32, deep bool) error {
	if width > videoMaxSide || height > videoMaxSide || uint64(width)*uint64(height) > videoMaxPixels {
		return illegal(gantry.CodeTooLarge, "%d x %d", width, height)
	}
	if p.n == 0 {
		p.width, p.height, p.deep = width, height, deep
	}
	if width != p.width || height != p.height {
		return illegal(CodeBadValue, "of another size than the first")
	}
	if deep && !p.deep {
		return illegal(CodeBadValue, "of 16 bits, the first of less")
	}
	return nil
}
