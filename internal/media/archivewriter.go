package media

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// ArchiveKind names a form of archive that can be written.
type ArchiveKind string

// The forms.
const (
	ArchiveZip     ArchiveKind = "zip"
	ArchiveTar     ArchiveKind = "tar"
	ArchiveTarGzip ArchiveKind = "tar.gz"
	ArchiveTarZstd ArchiveKind = "tar.zst"
)

// ArchiveKindOf gives the form in which an archive of a media type is written anew; ok is false for
// what is no archive.
func ArchiveKindOf(media string) (k ArchiveKind, ok bool) {
	switch media {
	case gantry.MediaZIP:
		return ArchiveZip, true
	case gantry.MediaTAR:
		return ArchiveTar, true
	case gantry.MediaGZIP:
		return ArchiveTarGzip, true
	case gantry.MediaZSTD:
		return ArchiveTarZstd, true
	}
	return "", false
}

// ArchiveWriter writes an archive whose bytes depend on the entries alone: no times, owners or modes.
// It holds nothing of the contents. It is for one goroutine.
type ArchiveWriter struct {
	zip    *zip.Writer
	tar    *tar.Writer
	stream io.WriteCloser // the compression around tar; nil for none
	err    error
}

// NewArchiveWriter begins an archive in w. The kind is one of the four; another is an Illegal error
// with code unsupported_format.
func NewArchiveWriter(kind ArchiveKind, w io.Writer) (*ArchiveWriter, error) {
	a := new(ArchiveWriter)
	switch kind {
	case ArchiveZip:
		a.zip = zip.NewWriter(w)
		a.zip.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) {
			return flate.NewWriter(w, flate.DefaultCompression)
		})
		return a, nil
	case ArchiveTar:
	case ArchiveTarGzip:
		a.stream = gzip.NewWriter(w)
	case ArchiveTarZstd:
		z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
		if err != nil {
			return nil, fmt.Errorf("write archive: %w", err)
		}
		a.stream = z
	default:
		return nil, illegal(gantry.CodeUnsupportedFormat, "write archive: no kind that is known")
	}
	if a.stream != nil {
		w = a.stream
	}
	a.tar = tar.NewWriter(w)
	return a, nil
}

// Add writes the next entry: size bytes from r under a name as it stood in the archive (see
// Archive.RawName). In a zip, what is compressed already by its first bytes is stored, all else
// deflated. An Illegal *gantry.Error is unsafe_path, for a name that would lead out of a folder, name
// none, or name a folder; truncated or length_out_of_bounds, if r has fewer or more bytes than size.
// Any other error is r's or the writer's. After any but unsafe_path the archive cannot be gone on with.
func (a *ArchiveWriter) Add(name string, size int64, r io.Reader) error {
	if a.err != nil {
		return a.err
	}
	if unsafeName(name) || strings.HasSuffix(name, "/") || strings.HasSuffix(name, `\`) || len(name) > 1<<16-1 {
		return illegal(CodeUnsafePath, "write entry: a name that may not be")
	}
	if a.err = a.add(name, size, r); a.err != nil {
		a.err = fmt.Errorf("write entry: %w", a.err)
	}
	return a.err
}

func (a *ArchiveWriter) add(name string, size int64, r io.Reader) error {
	if size < 0 {
		return illegal(CodeLengthOutOfBounds, "%d bytes declared", size)
	}
	in := bufio.NewReaderSize(r, 64<<10)
	head, err := in.Peek(HeadSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	w, err := a.entry(name, size, packedAlready(Detect(head)))
	if err != nil {
		return err
	}
	n, err := io.CopyN(w, in, size)
	if errors.Is(err, io.EOF) {
		return illegal(gantry.CodeTruncated, "%d bytes, %d declared", n, size)
	}
	if err != nil {
		return err
	}
	switch _, err := in.ReadByte(); {
	case err == nil:
		return illegal(CodeLengthOutOfBounds, "more than the %d bytes declared", size)
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

// entry writes an entry's header.
func (a *ArchiveWriter) entry(name string, size int64, packed bool) (io.Writer, error) {
	if a.tar != nil {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644}
		return a.tar, a.tar.WriteHeader(h)
	}
	// The first time that a zip can tell; without one, some readers complain.
	h := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)}
	if packed {
		h.Method = zip.Store
	}
	return a.zip.CreateHeader(h)
}

// packedAlready tells media that deflate makes no smaller.
func packedAlready(media string) bool {
	switch media {
	case "", gantry.MediaDICOM, gantry.MediaTAR:
		return false
	}
	return true
}

// Close ends the archive; the writer below stays open. After an error of Add it writes no more and
// gives that error.
func (a *ArchiveWriter) Close() error {
	if a.err != nil {
		return a.err
	}
	a.err = errors.New("write archive: closed")
	if a.zip != nil {
		return a.zip.Close()
	}
	if err := a.tar.Close(); err != nil || a.stream == nil {
		return err
	}
	return a.stream.Close()
}
