package media

import (
	"bytes"
	"encoding/binary"
	"io"
	"time"
)

// Elements of Matroska (RFC 9559 section 5) and EBML (RFC 8794 section 11) that are written here.
const (
	idEBML            = 0x1A45DFA3
	idDocType         = 0x4282
	idDocTypeVersion  = 0x4287
	idDocTypeRead     = 0x4285
	idSegment         = 0x18538067
	idInfo            = 0x1549A966
	idTimestampScale  = 0x2AD7B1
	idMuxingApp       = 0x4D80
	idWritingApp      = 0x5741
	idTracks          = 0x1654AE6B
	idTrackEntry      = 0xAE
	idTrackNumber     = 0xD7
	idTrackUID        = 0x73C5
	idTrackType       = 0x83
	idFlagLacing      = 0x9C
	idDefaultDuration = 0x23E383
	idCodecID         = 0x86
	idCodecPrivate    = 0x63A2
	idVideo           = 0xE0
	idPixelWidth      = 0xB0
	idPixelHeight     = 0xBA
	idCluster         = 0x1F43B675
	idTimestamp       = 0xE7
	idSimpleBlock     = 0xA3
)

// matroskaTick is the unit of the times that are written.
const matroskaTick = time.Microsecond

// matroska writes one video track of PNG pictures as a Matroska stream without an end or an index, for
// a reader that takes it from a pipe.
type matroska struct {
	w io.Writer
	b bytes.Buffer
}

// newMatroska writes the stream's head; rate is the nominal one, width and height are in pixels.
func newMatroska(w io.Writer, rate Rate, width, height uint32) (*matroska, error) {
	m := &matroska{w: w}
	// The name of a codec without one of its own stands in a BITMAPINFOHEADER (RFC 9559 section 27.1).
	private := make([]byte, 40)
	binary.LittleEndian.PutUint32(private, 40)
	binary.LittleEndian.PutUint32(private[4:], width)
	binary.LittleEndian.PutUint32(private[8:], height)
	binary.LittleEndian.PutUint16(private[12:], 1)  // planes
	binary.LittleEndian.PutUint16(private[14:], 24) // bits per pixel
	copy(private[16:], "MPNG")
	track := master(number(idTrackNumber, 1), number(idTrackUID, 1), number(idTrackType, 1), number(idFlagLacing, 0),
		number(idDefaultDuration, nominal(rate)), element(idCodecID, []byte("V_MS/VFW/FOURCC")), element(idCodecPrivate, private),
		element(idVideo, master(number(idPixelWidth, uint64(width)), number(idPixelHeight, uint64(height)))))
	m.b.Write(element(idEBML, master(element(idDocType, []byte("matroska")), number(idDocTypeVersion, 4), number(idDocTypeRead, 2))))
	m.b.Write(append(binary.BigEndian.AppendUint32(nil, idSegment), 0xFF)) // of unknown size
	m.b.Write(element(idInfo, master(number(idTimestampScale, uint64(matroskaTick)), element(idMuxingApp, []byte("gantry")),
		element(idWritingApp, []byte("gantry")))))
	m.b.Write(element(idTracks, element(idTrackEntry, track)))
	_, err := w.Write(m.b.Bytes())
	return m, err
}

// nominal is how long a frame lasts at a rate, in nanoseconds; at least 1, at most an hour.
func nominal(rate Rate) uint64 {
	ns := float64(time.Second) * float64(rate.Den) / float64(rate.Num)
	return uint64(min(max(ns, 1), float64(time.Hour)))
}

// frame writes a picture with its time, rounded to a tick, in a cluster of its own: a block's own time
// has but 16 bits. at must not be negative, the picture not over 256 MiB.
func (m *matroska) frame(at time.Duration, picture []byte) error {
	stamp := number(idTimestamp, uint64(at.Round(matroskaTick)/matroskaTick))
	head := []byte{0x81, 0, 0, 0x80} // track 1, at the cluster's time, a key frame
	block := size(identifier(nil, idSimpleBlock), len(head)+len(picture))
	m.b.Reset()
	m.b.Write(size(identifier(nil, idCluster), len(stamp)+len(block)+len(head)+len(picture)))
	m.b.Write(stamp)
	m.b.Write(block)
	m.b.Write(head)
	if _, err := m.w.Write(m.b.Bytes()); err != nil {
		return err
	}
	_, err := m.w.Write(picture)
	return err
}

// master is the content of an element that holds others.
func master(elements ...[]byte) []byte { return bytes.Join(elements, nil) }

// number is an element that holds an unsigned number.
func number(id uint32, n uint64) []byte { return element(id, binary.BigEndian.AppendUint64(nil, n)) }

// element is an identifier, a size and the content.
func element(id uint32, content []byte) []byte {
	return append(size(identifier(nil, id), len(content)), content...)
}

// identifier appends an element's identifier, whose length its own first bits tell.
func identifier(b []byte, id uint32) []byte {
	full := binary.BigEndian.AppendUint32(nil, id)
	return append(b, bytes.TrimLeft(full, "\x00")...)
}

// size appends the size of an element's content as a number of eight bytes (RFC 8794 section 4).
func size(b []byte, n int) []byte { return binary.BigEndian.AppendUint64(b, 1<<56|uint64(n)) }
