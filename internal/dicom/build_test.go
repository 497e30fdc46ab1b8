package dicom

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"maps"
	"slices"
)

// val is a value with its VR.
type val struct {
	vr string
	b  []byte
}

func str(vr, s string) val { return val{vr, []byte(s)} }

func short(n uint16) val { return val{"US", []byte{byte(n), byte(n >> 8)}} }

// spec describes a file. The zero spec is a sound 4 x 4 image of 16 bits in explicit little endian.
type spec struct {
	ts       string // syntaxExplicit if empty; "-" leaves it out
	meta     string // SOP instance of the file meta, goodUID if empty
	class    string // SOP class of the file meta
	preamble string
	set      map[uint32]val    // added or changed elements
	drop     []uint32          // elements left out
	raw      map[uint32][]byte // elements as they are
	tail     []byte            // behind the data set
	length   int               // added to the true group length
	noLength bool
}

const goodUID = "2.25.7001"

// base is the sound image.
func base() map[uint32]val {
	px := make([]byte, 32)
	for i := range 16 {
		binary.LittleEndian.PutUint16(px[2*i:], uint16(1000*i))
	}
	return map[uint32]val{
		tagClass: str("UI", ClassSecondaryCapture), tagInstance: str("UI", goodUID),
		tagModality: str("CS", "OT"), 0x00100010: str("PN", "Adams^Amy"), 0x00100020: str("LO", "ID-1"),
		tagStudy: str("UI", "2.25.7002"), tagSeries: str("UI", "2.25.7003"),
		tagSamples: short(1), tagPhotometric: str("CS", "MONOCHROME2"), tagRows: short(4), tagColumns: short(4),
		tagBits: short(16), 0x00280101: short(16), 0x00280102: short(15), 0x00280103: short(0),
		tagPixelData: {"OW", px},
	}
}

// el encodes one element; length overrides the true one.
func el(big, implicit bool, tag uint32, v val, length ...uint32) []byte {
	b := v.b
	if len(b)%2 == 1 && v.vr != "OB" {
		pad := byte(' ')
		if v.vr == "UI" {
			pad = 0
		}
		b = append(slices.Clone(b), pad)
	}
	n := uint32(len(b))
	if len(length) > 0 {
		n = length[0]
	}
	var o binary.AppendByteOrder = binary.LittleEndian
	if big {
		o = binary.BigEndian
		if v.vr == "US" || v.vr == "OW" {
			b = swapped(b)
		}
	}
	out := o.AppendUint16(o.AppendUint16(nil, uint16(tag>>16)), uint16(tag))
	if implicit {
		return append(o.AppendUint32(out, n), b...)
	}
	out = append(out, v.vr...)
	if _, long := (vr(v.vr[0])<<8 | vr(v.vr[1])).known(); long {
		out = o.AppendUint32(append(out, 0, 0), n)
	} else {
		out = o.AppendUint16(out, uint16(n))
	}
	return append(out, b...)
}

// ex is el in explicit little endian.
func ex(tag uint32, v val, length ...uint32) []byte { return el(false, false, tag, v, length...) }

// it is an item with its length, or of undefined length with its delimiter.
func it(open bool, body ...[]byte) []byte {
	b := slices.Concat(body...)
	if open {
		return slices.Concat(head(tagItem, undefined), b, head(tagItemEnd, 0))
	}
	return append(head(tagItem, uint32(len(b))), b...)
}

// sq is a sequence, likewise.
func sq(open bool, tag uint32, items ...[]byte) []byte {
	b := slices.Concat(items...)
	if open {
		return slices.Concat(ex(tag, val{"SQ", nil}, undefined), b, head(tagSeqEnd, 0))
	}
	return ex(tag, val{"SQ", b})
}

func head(tag, length uint32) []byte {
	o := binary.LittleEndian
	return o.AppendUint32(o.AppendUint16(o.AppendUint16(nil, uint16(tag>>16)), uint16(tag)), length)
}

// nest is levels sequences, one in another.
func nest(levels int, open bool) []byte {
	var b []byte
	if !open {
		for range levels {
			b = sq(false, 0x0040a730, it(false, b))
		}
		return b
	}
	up := append(ex(0x0040a730, val{"SQ", nil}, undefined), head(tagItem, undefined)...)
	down := append(head(tagItemEnd, 0), head(tagSeqEnd, 0)...)
	return append(bytes.Repeat(up, levels), bytes.Repeat(down, levels)...)
}

// encap is encapsulated pixel data: an offset table and fragments.
func encap(table []byte, fragments ...[]byte) []byte {
	out := append(ex(tagPixelData, val{"OB", nil}, undefined), it(false, table)...)
	for _, f := range fragments {
		out = append(out, it(false, f)...)
	}
	return append(out, head(tagSeqEnd, 0)...)
}

func jpegStream(w, h uint16, sof byte) []byte {
	return slices.Concat([]byte("\xff\xd8\xff\xe0\x00\x04ab\xff"), // fill byte before the frame header
		[]byte{0xff, sof, 0, 11, 8, byte(h >> 8), byte(h), byte(w >> 8), byte(w), 1, 1, 0x11, 0},
		[]byte("\xff\xda\x00\x02data\xff\xd9\x00"))
}

func j2kStream(w, h uint32) []byte {
	o := binary.BigEndian
	b := []byte{0xff, 0x4f, 0xff, 0x51, 0, 41, 0, 0}
	for _, n := range []uint32{w + 3, h + 5, 3, 5} {
		b = o.AppendUint32(b, n)
	}
	return append(b, make([]byte, 30)...)
}

func rleStream(segments int, at ...uint32) []byte {
	o := binary.LittleEndian
	b := o.AppendUint32(nil, uint32(segments))
	for i := range 15 {
		n := uint32(0)
		if i < len(at) {
			n = at[i]
		}
		b = o.AppendUint32(b, n)
	}
	return append(b, 0, 1, 2, 3, 4, 5, 6, 7)
}

// bytes builds the file.
func (s spec) bytes() []byte {
	ts := s.ts
	if ts == "" {
		ts = syntaxExplicit
	}
	return slices.Concat(s.header(ts), s.body(ts), s.tail)
}

func (s spec) header(ts string) []byte {
	uid, class := s.meta, s.class
	if uid == "" {
		uid = goodUID
	}
	if class == "" {
		class = ClassSecondaryCapture
	}
	meta := slices.Concat(ex(0x00020001, val{"OB", []byte{0, 1}}), ex(tagMetaClass, str("UI", class)), ex(tagMetaInstance, str("UI", uid)))
	if ts != "-" {
		meta = append(meta, ex(tagMetaSyntax, str("UI", ts))...)
	}
	if !s.noLength {
		n := binary.LittleEndian.AppendUint32(nil, uint32(len(meta)+s.length))
		meta = append(ex(tagMetaLength, val{"UL", n}), meta...)
	}
	out := make([]byte, preambleSize, preambleSize+4+len(meta))
	copy(out, s.preamble)
	return append(append(out, "DICM"...), meta...)
}

func (s spec) body(ts string) []byte {
	set := base()
	maps.Copy(set, s.set)
	for _, t := range s.drop {
		delete(set, t)
	}
	parts := map[uint32][]byte{}
	for t, v := range set {
		parts[t] = el(ts == syntaxBig, ts == syntaxImplicit, t, v)
	}
	maps.Copy(parts, s.raw)
	var out []byte
	for _, t := range slices.Sorted(maps.Keys(parts)) {
		out = append(out, parts[t]...)
	}
	if ts != syntaxDeflated {
		return out
	}
	return deflated(out)
}

func deflated(b []byte) []byte {
	var z bytes.Buffer
	w, err := flate.NewWriter(&z, flate.BestCompression)
	if err != nil {
		panic(err)
	}
	w.Write(b)
	w.Close()
	return z.Bytes()
}

// swapped turns the byte order of 16-bit words.
func swapped(b []byte) []byte {
	out := slices.Clone(b)
	for i := 0; i+1 < len(out); i += 2 {
		out[i], out[i+1] = out[i+1], out[i]
	}
	return out
}

const (
	tsJPEG = "1.2.840.10008.1.2.4.50"
	tsLS   = "1.2.840.10008.1.2.4.80"
	tsJ2K  = "1.2.840.10008.1.2.4.90"
	tsRLE  = "1.2.840.10008.1.2.5"
	tsMPEG = "1.2.840.10008.1.2.4.102"
	tsXL   = "1.2.840.10008.1.2.4.110"
)

// eight makes the image one of 8 bits.
func eight() map[uint32]val {
	return map[uint32]val{tagBits: short(8), 0x00280101: short(8), 0x00280102: short(7)}
}

// goods are sound files of every encoding and layout that the scanner knows.
func goods() map[string]spec {
	pixels := func(ts string, px []byte) spec {
		return spec{ts: ts, set: eight(), drop: []uint32{tagPixelData}, raw: map[uint32][]byte{tagPixelData: px}}
	}
	icon := sq(true, 0x00880200, it(false, ex(tagRows, short(1)), ex(tagPixelData, val{"OB", []byte{1, 2}})))
	un := slices.Concat(ex(0x00091010, val{"UN", nil}, undefined),
		it(true, el(false, true, 0x00081140, val{"SQ", it(false)}), el(false, true, 0x00100010, str("PN", "X^Y"))), head(tagSeqEnd, 0))
	return map[string]spec{
		"explicit": {}, "implicit": {ts: syntaxImplicit}, "big": {ts: syntaxBig}, "deflated": {ts: syntaxDeflated},
		"jpeg":        pixels(tsJPEG, encap(nil, jpegStream(4, 4, 0xc0))),
		"jpeg in two": pixels(tsJPEG, encap([]byte{0, 0, 0, 0}, jpegStream(4, 4, 0xc0), []byte("more"))),
		"jpeg-ls":     pixels(tsLS, encap(nil, jpegStream(4, 4, 0xf7))),
		"j2k":         pixels(tsJ2K, encap(nil, j2kStream(4, 4))),
		"jp2":         pixels(tsJ2K, encap(nil, append([]byte("\x00\x00\x00\x0cjP  \r\n\x87\n"), j2kStream(4, 4)...))),
		"rle":         pixels(tsRLE, encap(nil, rleStream(1, 64))),
		"mpeg":        {ts: tsMPEG, set: map[uint32]val{tagFrames: str("IS", "9")}, raw: map[uint32][]byte{tagPixelData: encap(nil, []byte("stream"))}},
		"nested": {raw: map[uint32][]byte{0x00880200: icon, 0x00091010: un,
			0x0040a730: slices.Concat(sq(false, 0x0040a730, it(false, nest(3, true)), it(true, nest(2, false))))}},
		"deep": {raw: map[uint32][]byte{0x0040a730: nest(32, true)}},
		"64 bit": {set: map[uint32]val{0x00091001: {"OV", make([]byte, 8)}, 0x00091002: {"SV", make([]byte, 8)},
			0x00091003: {"UV", make([]byte, 8)}, 0x00091004: {"OD", make([]byte, 8)}, 0x00091005: {"OF", make([]byte, 8)}, 0x00091006: {"OL", make([]byte, 8)}}},
		"padding": {tail: ex(0xfffcfffc, val{"OB", []byte{0, 0}})},
		"float": {set: map[uint32]val{tagFloatPixels: {"OF", make([]byte, 64)}, tagBits: short(32)},
			drop: []uint32{tagPixelData}},
	}
}
