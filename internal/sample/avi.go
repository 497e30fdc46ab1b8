package sample

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/jpeg"
)

// A film is slightly blue, so that it has colours as videos do.
const (
	filmBlue = 132 // Cb
	filmRed  = 125 // Cr
)

// AVI is a video of grey pictures of one size, tinted, at rate frames per second: Motion JPEG in
// RIFF AVI with an index (Microsoft, AVI RIFF File Reference). It refuses no pictures, pictures of
// several sizes, and a rate that is not from 1 to 1000; other errors are those of image/jpeg.
func AVI(frames []*image.Gray, rate int) ([]byte, error) {
	if len(frames) == 0 || rate < 1 || rate > 1000 {
		return nil, fmt.Errorf("%d frames, %d a second", len(frames), rate)
	}
	size := frames[0].Rect.Size()
	var pictures [][]byte
	largest := 0
	for i, m := range frames {
		if m.Rect.Size() != size {
			return nil, fmt.Errorf("frame %d: of another size", i+1)
		}
		var b bytes.Buffer
		if err := jpeg.Encode(&b, tinted(m), &jpeg.Options{Quality: 90}); err != nil {
			return nil, fmt.Errorf("frame %d: %w", i+1, err)
		}
		pictures = append(pictures, b.Bytes())
		largest = max(largest, b.Len())
	}
	movi, index := []byte("movi"), []byte{}
	for _, p := range pictures {
		index = append(index, "00dc"...)
		index = words(index, 0x10, len(movi), len(p)) // a key frame, its place from movi on, its bytes
		movi = append(movi, chunk("00dc", p)...)
	}
	head := list("hdrl",
		chunk("avih", words(nil, 1_000_000/rate, largest*rate, 0, 0x10, len(frames), 0, 1, largest, size.X, size.Y, 0, 0, 0, 0)),
		list("strl", chunk("strh", streamHeader(len(frames), rate, largest, size)),
			chunk("strf", append(append(words(nil, 40, size.X, size.Y, 24<<16|1), "MJPG"...), words(nil, 3*size.X*size.Y, 0, 0, 0, 0)...))))
	return chunk("RIFF", bytes.Join([][]byte{[]byte("AVI "), head, chunk("LIST", movi), chunk("idx1", index)}, nil)), nil
}

// streamHeader is a stream of pictures whose rate is rate to 1.
func streamHeader(frames, rate, largest int, size image.Point) []byte {
	b := append([]byte("vidsMJPG"), words(nil, 0, 0, 0, 1, rate, 0, frames, largest, -1, 0)...)
	return words(b, 0, size.Y<<16|size.X) // the frame's rectangle
}

// chunk is a RIFF chunk, padded to an even length.
func chunk(name string, data []byte) []byte {
	b := words([]byte(name), len(data))
	b = append(b, data...)
	return append(b, make([]byte, len(data)%2)...)
}

func list(name string, chunks ...[]byte) []byte {
	return chunk("LIST", append([]byte(name), bytes.Join(chunks, nil)...))
}

// words appends numbers of four bytes.
func words(b []byte, n ...int) []byte {
	for _, x := range n {
		b = binary.LittleEndian.AppendUint32(b, uint32(x))
	}
	return b
}

// tinted gives a grey picture the film's colour.
func tinted(m *image.Gray) *image.YCbCr {
	out := image.NewYCbCr(m.Rect, image.YCbCrSubsampleRatio420)
	for y := range m.Rect.Dy() {
		copy(out.Y[y*out.YStride:], m.Pix[y*m.Stride:][:m.Rect.Dx()])
	}
	for i := range out.Cb {
		out.Cb[i], out.Cr[i] = filmBlue, filmRed
	}
	return out
}
