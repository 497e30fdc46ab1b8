package dicom

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"slices"
)

// ljpeg is a lossless JPEG to write.
type ljpeg struct {
	w, h, components, precision int
	predictor, shift            int
	rows                        int  // between restarts; 0 for none
	split                       bool // a scan for each component
	unary                       bool // codes of up to 16 bits
	samples                     []uint16
}

// noise fills an image: slopes with jumps over the whole range.
func (j ljpeg) noise() ljpeg {
	r := rand.New(rand.NewPCG(uint64(j.precision), uint64(j.predictor)))
	j.samples = make([]uint16, j.w*j.h*j.components)
	for i := range j.samples {
		v := uint16(i * 3)
		if r.IntN(4) == 0 {
			v = uint16(r.Uint32())
		}
		j.samples[i] = v & (1<<j.precision - 1) >> j.shift << j.shift
	}
	return j
}

// table is the lengths of the codes of the categories 0 to 16, in order.
func (j ljpeg) table() (count [16]byte, code, length [categories]uint32) {
	n := func(s int) uint32 {
		switch {
		case j.unary:
			return min(uint32(s)+1, 16)
		case s < 15:
			return 4
		}
		return 5
	}
	next := uint32(0)
	for s := range categories {
		if s > 0 {
			next <<= n(s) - n(s-1)
		}
		code[s], length[s] = next, n(s)
		count[n(s)-1]++
		next++
	}
	return count, code, length
}

// bitWriter writes entropy-coded bits.
type bitWriter struct {
	out []byte
	acc uint32
	n   uint32
}

func (w *bitWriter) put(v, n uint32) {
	for i := range n {
		w.acc = w.acc<<1 | v>>(n-1-i)&1
		if w.n++; w.n == 8 {
			w.out = append(w.out, byte(w.acc))
			if byte(w.acc) == 0xff {
				w.out = append(w.out, 0)
			}
			w.acc, w.n = 0, 0
		}
	}
}

func (w *bitWriter) flush() {
	for w.n != 0 {
		w.put(1, 1)
	}
}

func segmentOf(marker byte, body ...byte) []byte {
	return append([]byte{0xff, marker, byte((len(body) + 2) >> 8), byte(len(body) + 2)}, body...)
}

// bytes encodes the image.
func (j ljpeg) bytes() []byte {
	count, _, _ := j.table()
	sof := []byte{byte(j.precision), byte(j.h >> 8), byte(j.h), byte(j.w >> 8), byte(j.w), byte(j.components)}
	dht := append([]byte{0}, count[:]...)
	for s := range categories {
		dht = append(dht, byte(s))
	}
	for c := range j.components {
		sof = append(sof, byte(c+1), 0x11, 0)
	}
	out := slices.Concat([]byte{0xff, markSOI}, segmentOf(0xe0, 1, 2, 3), segmentOf(markDHT, dht...), segmentOf(markSOF3, sof...))
	if j.rows > 0 {
		out = append(out, segmentOf(markDRI, byte(j.rows*j.w>>8), byte(j.rows*j.w))...)
	}
	var scans [][]int
	for c := range j.components {
		if c == 0 || j.split {
			scans = append(scans, nil)
		}
		scans[len(scans)-1] = append(scans[len(scans)-1], c)
	}
	for _, s := range scans {
		out = append(out, j.scan(s)...)
	}
	return append(out, 0xff, markEOI)
}

func (j ljpeg) scan(components []int) []byte {
	sos := []byte{byte(len(components))}
	for _, c := range components {
		sos = append(sos, byte(c+1), 0)
	}
	w := &bitWriter{out: segmentOf(markSOS, append(sos, byte(j.predictor), 0, byte(j.shift))...)}
	_, code, length := j.table()
	every := j.h
	if j.rows > 0 {
		every = j.rows
	}
	for y := range j.h {
		if y > 0 && y%every == 0 {
			w.flush()
			w.out = append(w.out, 0xff, markRST0+byte((y/every-1)%8))
		}
		for x := range j.w {
			for _, c := range components {
				d := int32(int16(uint16(j.at(x, y, c) - j.predicted(x, y, c, y%every == 0))))
				s := bits.Len32(uint32(max(d, -d)))
				if w.put(code[s], length[s]); s < 16 {
					if d < 0 {
						d--
					}
					w.put(uint32(d)&(1<<s-1), uint32(s))
				}
			}
		}
	}
	w.flush()
	return w.out
}

func (j ljpeg) at(x, y, c int) int32 {
	return int32(j.samples[(y*j.w+x)*j.components+c] >> j.shift)
}

// predicted follows table H.1 word for word.
func (j ljpeg) predicted(x, y, c int, first bool) int32 {
	switch {
	case first && x == 0:
		return 1 << (j.precision - j.shift - 1)
	case first:
		return j.at(x-1, y, c)
	case x == 0:
		return j.at(x, y-1, c)
	}
	ra, rb, rc := j.at(x-1, y, c), j.at(x, y-1, c), j.at(x-1, y-1, c)
	return [...]int32{0, ra, rb, rc, ra + rb - rc, ra + (rb-rc)>>1, rb + (ra-rc)>>1, (ra + rb) >> 1}[j.predictor]
}

// raw is the samples as the decoder gives them.
func (j ljpeg) raw() []byte {
	var out []byte
	for _, s := range j.samples {
		if j.precision > 8 {
			out = binary.LittleEndian.AppendUint16(out, s)
		} else {
			out = append(out, byte(s))
		}
	}
	return out
}
