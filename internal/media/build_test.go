package media

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// part is one entry of a zip made by hand. Zero fields get their true values; a field that is set
// is a lie, or a choice that archive/zip would refuse to write.
type part struct {
	name      string
	local     string // name in the local header
	data      []byte
	packed    []byte // as stored; made of data and method if nil
	method    uint16
	flags     uint16
	crc       *uint32
	size      *uint32
	packSize  *uint32
	mode      uint32
	creator   byte // 3 (Unix) if zero
	extra     []byte
	extraHere []byte // of the local header
	at        *uint32
	unlisted  bool
}

// maker writes zips by hand.
type maker struct {
	body, dir bytes.Buffer
	count     int
}

func put(b *bytes.Buffer, values ...any) {
	for _, v := range values {
		switch v := v.(type) {
		case string:
			b.WriteString(v)
		case []byte:
			b.Write(v)
		case uint16:
			b.Write(le.AppendUint16(nil, v))
		case uint32:
			b.Write(le.AppendUint32(nil, v))
		default:
			_ = binary.Write(b, binary.LittleEndian, v)
		}
	}
}

func or(p *uint32, v int) uint32 {
	if p != nil {
		return *p
	}
	return uint32(v)
}

func ptr(v uint32) *uint32 { return &v }

func (m *maker) add(p part) *maker {
	if p.packed == nil {
		p.packed = p.data
		if p.method == deflated {
			p.packed = deflateBytes(p.data)
		}
	}
	if p.local == "" {
		p.local = p.name
	}
	if p.creator == 0 {
		p.creator = 3
	}
	crc, size, packed := or(p.crc, int(crc32.ChecksumIEEE(p.data))), or(p.size, len(p.data)), or(p.packSize, len(p.packed))
	at := or(p.at, m.body.Len())
	if p.at == nil {
		put(&m.body, zipLocal, uint16(20), p.flags, p.method, uint32(0x210000), crc, packed, size,
			uint16(len(p.local)), uint16(len(p.extraHere)), p.local, p.extraHere, p.packed)
	}
	if p.unlisted {
		return m
	}
	m.count++
	put(&m.dir, zipCentral, byte(20), p.creator, uint16(20), p.flags, p.method, uint32(0x210000), crc, packed, size,
		uint16(len(p.name)), uint16(len(p.extra)), uint16(0), uint32(0), p.mode<<16, at, p.name, p.extra)
	return m
}

// end is the record at the end of a zip.
func end(count, size, offset int, comment string) []byte {
	var b bytes.Buffer
	put(&b, zipEnd, uint32(0), uint16(count), uint16(count), uint32(size), uint32(offset), uint16(len(comment)), comment)
	return b.Bytes()
}

func (m *maker) bytes() []byte {
	return join(m.body.Bytes(), m.dir.Bytes(), end(m.count, m.dir.Len(), m.body.Len(), ""))
}

// end64 is the zip64 end record, its locator and an end record that refers to them.
func end64(count, size, offset, recordAt uint64) []byte {
	var b bytes.Buffer
	put(&b, zipEnd64, uint64(44), uint16(45), uint16(45), uint32(0), uint32(0), count, count, size, offset)
	put(&b, zipLocator, uint32(0), recordAt, uint32(1))
	put(&b, end(0xffff, 0xffffffff, 0xffffffff, ""))
	return b.Bytes()
}

func (m *maker) bytes64() []byte {
	at := uint64(m.body.Len() + m.dir.Len())
	return join(m.body.Bytes(), m.dir.Bytes(),
		end64(uint64(m.count), uint64(m.dir.Len()), uint64(m.body.Len()), at))
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func deflateBytes(data []byte) []byte {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, 9)
	_, _ = w.Write(data)
	_ = w.Close()
	return b.Bytes()
}

// blank is an entry of n MiB of zeros, packed to about a thousandth in little time.
func blank(name string, n int) part {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, 9)
	_, _ = w.Write(make([]byte, 1<<20))
	_ = w.Flush()
	return part{name: name, method: deflated, data: make([]byte, n<<20),
		packed: join(bytes.Repeat(b.Bytes(), n), []byte{3, 0})}
}

// zipOf makes a zip of sound entries, named by turns.
func zipOf(method uint16, files ...[]byte) []byte {
	m := new(maker)
	for i, f := range files {
		m.add(part{name: fmt.Sprintf("f%d.dcm", i), data: f, method: method})
	}
	return m.bytes()
}

// object is something that looks like a DICOM file and does not compress to nothing.
func object(n int) []byte {
	b := join(make([]byte, 128), []byte("DICM"))
	x := uint32(n)*2654435761 + 1
	for range 600 {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b = append(b, byte(x))
	}
	return b
}

// nest wraps an archive in stored zips until there are levels of them.
func nest(levels int, method uint16) []byte {
	data := zipOf(deflated, object(0))
	for range levels - 1 {
		data = new(maker).add(part{name: "inner.zip", data: data, method: method}).bytes()
	}
	return data
}

func chunk(name string, data []byte) []byte {
	var b bytes.Buffer
	_ = binary.Write(&b, binary.BigEndian, uint32(len(data)))
	b.WriteString(name)
	b.Write(data)
	_ = binary.Write(&b, binary.BigEndian, crc32.ChecksumIEEE(b.Bytes()[4:]))
	return b.Bytes()
}

func ihdr(width, height uint32, rest ...byte) []byte {
	var b bytes.Buffer
	_ = binary.Write(&b, binary.BigEndian, []uint32{width, height})
	b.Write(append(rest, 0, 0, 0)[:max(5, len(rest))])
	return chunk("IHDR", b.Bytes())
}

func pngOf(chunks ...[]byte) []byte { return join([]byte(pngSignature), join(chunks...)) }

// corpusLimits are those under which the verdicts of the corpus hold.
var corpusLimits = Limits{Depth: 3, MaxBytes: 512 << 20, MaxEntries: 10_000, MaxRatio: 100}

func wantCode(t *testing.T, err error, want ...gantry.Code) {
	t.Helper()
	if len(want) == 0 || want[0] == "" {
		if err != nil {
			t.Fatalf("got error %v (%s), want none", err, gantry.CodeOf(err))
		}
		return
	}
	if err == nil {
		t.Fatalf("got no error, want %v", want)
	}
	if k := gantry.KindOf(err); k != gantry.Illegal {
		t.Fatalf("got kind %v of %v, want illegal", k, err)
	}
	for _, c := range want {
		if gantry.CodeOf(err) == c {
			return
		}
	}
	t.Fatalf("got code %s of %v, want %v", gantry.CodeOf(err), err, want)
}
