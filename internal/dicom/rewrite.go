package dicom

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// maxRewritten bounds what a rewriter holds: all of a data set but its pixel data.
const maxRewritten = 64 << 20

// groupPixels is where the pixel data of a data set begin.
const groupPixels = 0x7fe00000

// rewriter holds the elements of a received data set in front of its pixel data, each as its exact
// bytes, so that what is not changed stays as it was: texts in their character set, private
// elements, the lengths of sequences. The encoding stays implicit where it was; big endian, which
// is retired, becomes little.
type rewriter struct {
	implicit bool
	elements map[uint32][]byte // with their heads
}

// newRewriter reads a file of size bytes that Scan accepted. Errors are those of Scan, and Illegal
// too_large for over 64 MiB in front of the pixel data.
func newRewriter(at io.ReaderAt, size int64, l Limits) (*rewriter, error) {
	file := io.NewSectionReader(at, 0, size)
	s := newScanner(file, size, l)
	s.raw.hash, s.raw.seek = nil, file
	var tags []uint32
	var starts []int64
	s.stop = groupPixels
	s.tops = func(e element) { tags, starts = append(tags, e.tag), append(starts, e.at) }
	if err := s.run(); err != nil {
		return nil, err
	}
	end := s.src.pos()
	if len(tags) > 0 && tags[len(tags)-1] >= groupPixels {
		end = starts[len(starts)-1]
	}
	var from int64
	if !s.ts.deflated {
		from = s.body
	}
	if end-from > maxRewritten {
		return nil, gantry.Errorf(gantry.Illegal, gantry.CodeTooLarge, "rewrite: over %d bytes in front of the pixel data", maxRewritten)
	}
	data, err := dataset(at, size, s, end-from)
	if err != nil {
		return nil, err
	}
	rw := &rewriter{implicit: s.ts.implicit, elements: make(map[uint32][]byte, len(tags))}
	for i, t := range tags {
		if t >= groupPixels || t&0xffff == 0 { // group lengths are retired, and would be wrong
			continue
		}
		to := end
		if i+1 < len(tags) {
			to = starts[i+1]
		}
		b := data[starts[i]-from : to-from]
		if s.ts.big {
			if err := turn(b); err != nil {
				return nil, err
			}
		}
		rw.elements[t] = b
	}
	return rw, nil
}

// dataset reads the first n bytes of the outermost data set.
func dataset(at io.ReaderAt, size int64, s *scanner, n int64) ([]byte, error) {
	var r io.Reader = io.NewSectionReader(at, s.body, size-s.body)
	if s.ts.deflated {
		r = flate.NewReader(r)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("rewrite: read the data set: %w", err)
	}
	return b, nil
}

// syntax is the native transfer syntax of what write gives.
func (rw *rewriter) syntax() string {
	if rw.implicit {
		return syntaxImplicit
	}
	return syntaxExplicit
}

// set puts an element in its place, or takes that of the one that is there. A value of odd length
// is padded; one too long for its VR is cut off, which no caller lets happen.
func (rw *rewriter) set(tag uint32, v vr, value []byte) {
	rw.elements[tag] = appendHead(nil, rw.implicit, tag, v, padded(v, value))
}

// setText sets an element of text.
func (rw *rewriter) setText(tag uint32, v vr, text string) { rw.set(tag, v, []byte(text)) }

// setShort sets an US element.
func (rw *rewriter) setShort(tag uint32, n int) {
	rw.set(tag, vrUS, binary.LittleEndian.AppendUint16(nil, uint16(n)))
}

// remove takes elements away.
func (rw *rewriter) remove(tags ...uint32) {
	for _, t := range tags {
		delete(rw.elements, t)
	}
}

// keep takes away all elements for which ok is false.
func (rw *rewriter) keep(ok func(tag uint32) bool) {
	maps.DeleteFunc(rw.elements, func(t uint32, _ []byte) bool { return !ok(t) })
}

func (rw *rewriter) has(tag uint32) bool { return rw.elements[tag] != nil }

// parts gives the VR of an element, 0 where the encoding has none, and its value. Of a sequence of
// undefined length it is the items without the delimiter at their end.
func (rw *rewriter) parts(tag uint32) (v vr, value []byte) {
	b := rw.elements[tag]
	if b == nil {
		return 0, nil
	}
	head, n := 8, binary.LittleEndian.Uint32(b[4:])
	if !rw.implicit {
		v = vr(b[4])<<8 | vr(b[5])
		if _, long := v.known(); long {
			head, n = 12, binary.LittleEndian.Uint32(b[8:])
		} else {
			n = uint32(binary.LittleEndian.Uint16(b[6:]))
		}
	}
	if n == undefined {
		return v, b[head : len(b)-8]
	}
	return v, b[head:]
}

// text is a value without its padding.
func (rw *rewriter) text(tag uint32) string {
	_, b := rw.parts(tag)
	return string(bytes.Trim(b, " \x00"))
}

// appendItem puts an item behind those of a sequence, which stay as they are. build writes the
// item's elements in the encoding that it is told.
func (rw *rewriter) appendItem(tag uint32, build func(item *itemWriter)) {
	v, items := rw.parts(tag)
	item := itemWriter{implicit: rw.implicit || v == vrUN} // the items of an UN are implicit (PS3.5 section 6.2.2)
	build(&item)
	value := slices.Concat(items, appendItemHead(nil, len(item.b)), item.b)
	if v == vrUN {
		rw.elements[tag] = slices.Concat(appendLong(nil, tag, vrUN, undefined), value, []byte{0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0})
		return
	}
	rw.set(tag, vrSQ, value)
}

// write gives the elements in ascending order.
func (rw *rewriter) write(w io.Writer) error {
	for _, t := range slices.Sorted(maps.Keys(rw.elements)) {
		if _, err := w.Write(rw.elements[t]); err != nil {
			return err
		}
	}
	return nil
}

// itemWriter writes the elements of an item, which its caller gives in ascending order.
type itemWriter struct {
	implicit bool
	b        []byte
}

func (i *itemWriter) text(tag uint32, v vr, text string) {
	i.b = appendHead(i.b, i.implicit, tag, v, padded(v, []byte(text)))
}

// sequence writes a sequence of one item.
func (i *itemWriter) sequence(tag uint32, build func(item *itemWriter)) {
	one := itemWriter{implicit: i.implicit}
	build(&one)
	i.b = appendHead(i.b, i.implicit, tag, vrSQ, append(appendItemHead(nil, len(one.b)), one.b...))
}

// code writes a sequence of one coded concept (PS3.3 section 8.1).
func (i *itemWriter) code(tag uint32, value, meaning string) {
	i.sequence(tag, func(item *itemWriter) {
		item.text(0x00080100, vrSH, value)
		item.text(0x00080102, vrSH, "DCM")
		item.text(0x00080104, vrLO, meaning)
	})
}

// padded gives a value an even length (PS3.5 section 6.2).
func padded(v vr, value []byte) []byte {
	if len(value)%2 == 0 {
		return value
	}
	pad := byte(' ')
	if v == vrUI || v.chars() == notText {
		pad = 0
	}
	return append(slices.Clone(value), pad)
}

// appendHead writes an element in little endian.
func appendHead(out []byte, implicit bool, tag uint32, v vr, value []byte) []byte {
	if _, long := v.known(); long && !implicit {
		return append(appendLong(out, tag, v, uint32(len(value))), value...)
	}
	out = appendTag(out, tag)
	if implicit {
		out = binary.LittleEndian.AppendUint32(out, uint32(len(value)))
		return append(out, value...)
	}
	value = value[:min(len(value), math.MaxUint16-1)]
	out = binary.LittleEndian.AppendUint16(append(out, byte(v>>8), byte(v)), uint16(len(value)))
	return append(out, value...)
}

// appendLong writes the head of an explicit element whose length has 32 bits.
func appendLong(out []byte, tag uint32, v vr, n uint32) []byte {
	return binary.LittleEndian.AppendUint32(append(appendTag(out, tag), byte(v>>8), byte(v), 0, 0), n)
}

func appendItemHead(out []byte, n int) []byte {
	return binary.LittleEndian.AppendUint32(appendTag(out, tagItem), uint32(n))
}

func appendTag(out []byte, tag uint32) []byte {
	return binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(out, uint16(tag>>16)), uint16(tag))
}
