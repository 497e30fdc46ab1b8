package app_test

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/jpeg"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/gantry-imaging/gantry/internal/sample"
)

// Transfer syntaxes of one length, so that one takes the other's place.
const (
	syntaxNative = "1.2.840.10008.1.2.1\x00"
	syntaxRLE    = "1.2.840.10008.1.2.5\x00"
	syntaxJPEG   = "1.2.840.10008.1.2.4.50"
)

// TestHostileFrames holds generated multi-frame files and videos that are broken or lie to their reasons, where
// frames are taken out of them, with good ones beside.
func TestHostileFrames(t *testing.T) {
	dir := t.TempDir()
	var list []hostile
	add := func(name string, body []byte, items int, want ...string) {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, body, 0o644); err != nil {
			t.Fatal(err)
		}
		list = append(list, hostile{path: path, items: items, want: want})
	}
	loop := sample.Ultrasound(4, 32, 32)
	add("good.dcm", loop, 4)
	add("cut.dcm", loop[:len(loop)-100], 0, "truncated")
	add("none.dcm", edited(t, loop, "(frames)", "IS\x02\x004 ", "IS\x02\x000 "), 0, "bad_value", "pixel_size_mismatch")
	add("negative.dcm", edited(t, loop, "(frames)", "IS\x02\x004 ", "IS\x02\x00-4"), 0, "bad_value", "pixel_size_mismatch")
	add("more.dcm", edited(t, loop, "(frames)", "IS\x02\x004 ", "IS\x02\x009 "), 0, "pixel_size_mismatch", "truncated")
	flat := packbits(32 * 32)
	add("good-rle.dcm", encapsulated(t, syntaxRLE, 4, 32, nil, flat, flat, flat, flat), 4)
	whole := photo(t)
	second := uint32(8 + len(whole) + len(whole)%2)
	add("good-table.dcm", encapsulated(t, syntaxJPEG, 2, 64, []uint32{0, second}, whole, whole[:300], whole[300:]), 2)
	add("table.dcm", encapsulated(t, syntaxJPEG, 2, 64, []uint32{0, 7}, whole, whole[:300], whole[300:]), 0, "bad_offset_table")
	add("table-far.dcm", encapsulated(t, syntaxJPEG, 2, 64, []uint32{0, 1 << 31}, whole, whole[:300], whole[300:]), 0, "bad_offset_table")
	add("table-back.dcm", encapsulated(t, syntaxJPEG, 2, 64, []uint32{second, 0}, whole, whole[:300], whole[300:]), 0, "bad_offset_table")
	add("few.dcm", encapsulated(t, syntaxRLE, 4, 32, nil, flat, flat), 0, "pixel_size_mismatch", "truncated")
	add("short.dcm", encapsulated(t, syntaxRLE, 2, 32, nil, flat, packbits(32*16)), 0, "truncated", "pixel_size_mismatch", "malformed")
	add("segments.dcm", encapsulated(t, syntaxRLE, 1, 32, nil, slices.Repeat([]byte{0xff}, 80)), 0, "malformed", "length_out_of_bounds", "pixel_size_mismatch")
	add("wide.dcm", encapsulated(t, syntaxRLE, 1, 65535, nil, flat), 0, "too_large", "truncated", "pixel_size_mismatch")
	blank := packbits(8192 * 8192)
	add("bomb.dcm", encapsulated(t, syntaxRLE, 9, 8192, nil, slices.Repeat([][]byte{blank}, 9)...), 0, "too_large", "archive_bomb")
	add("good-jpeg.dcm", encapsulated(t, syntaxJPEG, 2, 64, nil, whole, whole), 2)
	add("jpeg-size.dcm", encapsulated(t, syntaxJPEG, 2, 64, nil, whole, smallPhoto(t)), 0, "pixel_size_mismatch")
	add("jpeg-cut.dcm", encapsulated(t, syntaxJPEG, 2, 64, nil, whole, whole[:200]), 0, "truncated", "malformed")
	add("among.zip", packed(t, entry{name: "a.dcm", body: loop}, entry{name: "b.dcm", body: encapsulated(t, syntaxRLE, 4, 32, nil, flat)}), 0, "pixel_size_mismatch", "truncated")
	films(t, add)
	ordeal(t, framed, list)
}

// films adds videos.
func films(t *testing.T, add func(name string, body []byte, items int, want ...string)) {
	t.Helper()
	film, err := sample.AVI(sample.Loop(10, 64, 48), 10)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(film, []byte("strh"))
	counted := func(n uint32) []byte {
		b := slices.Clone(film)
		binary.LittleEndian.PutUint32(b[at+40:], n)
		return b
	}
	add("good.avi", film, 10)
	add("cut.avi", film[:len(film)*2/3], 0, "truncated")
	add("more.avi", counted(500), 0, "truncated")
	add("most.avi", counted(1<<31), 0, "truncated", "malformed", "too_large", "bad_value")
	add("none.avi", bytes.ReplaceAll(counted(0), []byte("00dc"), []byte("JUNK")), 0, "truncated", "malformed", "empty")
	broken := slices.Clone(film)
	i := len(film) / 2
	copy(broken[i:], bytes.Repeat([]byte{0xff, 0xd8}, 200))
	add("broken.avi", broken, 0, "malformed", "truncated")
	add("head.mp4", []byte("\x00\x00\x00\x14ftypisom\x00\x00\x02\x00isom"), 0, "truncated", "malformed")
	add("film.zip", packed(t, entry{name: "a.avi", body: film}, entry{name: "b.avi", body: counted(500)}), 0, "truncated")
}

// edited replaces what stands once in a file by as much else.
func edited(t *testing.T, b []byte, what, was, is string) []byte {
	t.Helper()
	if bytes.Count(b, []byte(was)) != 1 || len(was) != len(is) {
		t.Fatalf("%s does not stand once in the file", what)
	}
	return bytes.Replace(b, []byte(was), []byte(is), 1)
}

// packbits is an RLE frame of n bytes of zero (PS3.5 section G.4): one segment of runs of 128.
func packbits(n int) []byte {
	b := make([]byte, 64)
	b[0], b[4] = 1, 64
	return append(b, bytes.Repeat([]byte{0x81, 0}, n/128)...)
}

// encapsulated is a square image of so many frames of 8 bits, in fragments as they are, behind an offset table.
func encapsulated(t *testing.T, syntax string, frames, side int, table []uint32, fragments ...[]byte) []byte {
	t.Helper()
	b := edited(t, sample.Ultrasound(4, 32, 32), "(frames)", "IS\x02\x004 ", "IS\x02\x00"+string(rune('0'+frames))+" ")
	b = b[:bytes.LastIndex(b, []byte{0xe0, 0x7f, 0x10, 0x00})]
	for _, tag := range []byte{0x10, 0x11} {
		i := bytes.LastIndex(b, []byte{0x28, 0, tag, 0, 'U', 'S', 2, 0})
		binary.LittleEndian.PutUint16(b[i+8:], uint16(side))
	}
	i := bytes.Index(b, []byte(syntaxNative))
	head := bytes.Index(b, []byte("UL\x04\x00")) + 4
	binary.LittleEndian.PutUint32(b[head:], binary.LittleEndian.Uint32(b[head:])+uint32(len(syntax)-len(syntaxNative)))
	b[i-2] = byte(len(syntax))
	b = slices.Concat(b[:i], []byte(syntax), b[i+len(syntaxNative):])
	b = append(b, 0xe0, 0x7f, 0x10, 0x00, 'O', 'B', 0, 0, 0xff, 0xff, 0xff, 0xff)
	item := func(body []byte) {
		b = append(b, 0xfe, 0xff, 0x00, 0xe0)
		b = append(binary.LittleEndian.AppendUint32(b, uint32((len(body)+1)&^1)), body...)
		b = append(b, make([]byte, len(body)%2)...)
	}
	var offsets []byte
	for _, x := range table {
		offsets = binary.LittleEndian.AppendUint32(offsets, x)
	}
	item(offsets)
	for _, f := range fragments {
		item(f)
	}
	return append(b, 0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0)
}

// smallPhoto is a JPEG of another size than photo's.
func smallPhoto(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, image.NewGray(image.Rect(0, 0, 32, 32)), nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
