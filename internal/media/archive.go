package media

import (
	"io"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Archive is an open archive with random access to its entries, which may be opened in any order,
// again, and at the same time. Zip and Tar are archives.
type Archive interface {
	// Entries lists the files in the archive's order, refused ones too; folders are left out.
	Entries() []Entry
	// Open reads the entry of an ordinal from its start; errors are *gantry.Error.
	Open(ordinal int) (io.ReadCloser, error)
	// Section gives random access to an entry that is stored as it is; ok is false if it is not.
	Section(ordinal int) (s *io.SectionReader, ok bool)
	// RawName is the name of an entry as it stands in the archive, byte by byte: for writing the
	// archive anew, never for people or logs. It is "" for an entry that is refused or not there.
	RawName(ordinal int) string
}

// OpenArchive opens a zip (gantry.MediaZIP) or a plain tar (gantry.MediaTAR) of size bytes that lies
// depth archives deep, the outermost at 1; see OpenZip and OpenTar. Another kind is an Illegal error
// with code unsupported_format: a compressed tar goes through Decompress first.
func OpenArchive(kind string, r io.ReaderAt, size int64, depth int, b *Budget) (Archive, error) {
	switch kind {
	case gantry.MediaZIP:
		z, err := OpenZip(r, size, depth, b)
		if err != nil {
			return nil, err
		}
		return z, nil
	case gantry.MediaTAR:
		t, err := OpenTar(r, size, depth, b)
		if err != nil {
			return nil, err
		}
		return t, nil
	}
	return nil, illegal(gantry.CodeUnsupportedFormat, "open archive: no kind of archive with random access")
}
