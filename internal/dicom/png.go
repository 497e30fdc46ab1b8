package dicom

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/zlib"
)

// pixmap is what a picture file is made of: rows of samples of 8 bits, or of 16 in big endian.
type pixmap struct {
	rows, columns int
	samples       int // 1: grey; 3: red, green, blue
	depth         int // 8 or 16
	pix           []byte
}

// packer compresses rows of a PNG. It is used again, since its tables are large.
type packer struct {
	out  bytes.Buffer
	zip  *zlib.Writer
	line []byte
}

// writePNG writes a PNG (ISO/IEC 15948). The filter is the same for all rows, the difference to
// the pixel on the left: choosing one for each row costs more than it saves here.
func (k *packer) writePNG(w io.Writer, m *pixmap) error {
	k.out.Reset()
	if k.zip == nil {
		z, err := zlib.NewWriterLevel(&k.out, zlib.BestSpeed)
		if err != nil {
			return fmt.Errorf("write png: %w", err)
		}
		k.zip = z
	}
	k.zip.Reset(&k.out)
	unit := m.samples * m.depth / 8
	stride := m.columns * unit
	k.line = grown(k.line, stride+1)
	for y := range m.rows {
		filterLeft(k.line, m.pix[y*stride:(y+1)*stride], unit)
		if _, err := k.zip.Write(k.line); err != nil {
			return fmt.Errorf("write png: %w", err)
		}
	}
	if err := k.zip.Close(); err != nil {
		return fmt.Errorf("write png: %w", err)
	}
	head := binary.BigEndian.AppendUint32(nil, uint32(m.columns))
	head = binary.BigEndian.AppendUint32(head, uint32(m.rows))
	head = append(head, byte(m.depth), byte(m.samples&2), 0, 0, 0) // colour type 0 or 2
	if _, err := io.WriteString(w, "\x89PNG\r\n\x1a\n"); err != nil {
		return err
	}
	for _, c := range []struct {
		kind string
		data []byte
	}{{"IHDR", head}, {"IDAT", k.out.Bytes()}, {"IEND", nil}} {
		if err := writeChunk(w, c.kind, c.data); err != nil {
			return err
		}
	}
	return nil
}

// filterLeft writes a row after its filter, type 1.
func filterLeft(dst, row []byte, unit int) {
	dst[0] = 1
	dst = dst[1:]
	copy(dst, row[:unit])
	for i := unit; i < len(row); i++ {
		dst[i] = row[i] - row[i-unit]
	}
}

func writeChunk(w io.Writer, kind string, data []byte) error {
	head := append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), kind...)
	if _, err := w.Write(head); err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		return err
	}
	sum := crc32.Update(crc32.ChecksumIEEE(head[4:]), crc32.IEEETable, data)
	_, err := w.Write(binary.BigEndian.AppendUint32(nil, sum))
	return err
}
