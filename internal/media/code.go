package media

import (
	"errors"
	"fmt"
	"io"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Reasons that archives and images are refused or remarked upon for, beside those of the
// vocabulary (empty, truncated, malformed, too_large, unsupported_format).
const (
	CodeArchiveBomb       gantry.Code = "archive_bomb"         // inflates out of proportion, or entries overlap
	CodeTooManyEntries    gantry.Code = "too_many_entries"     // over the limit, all nesting counted
	CodeTooDeep           gantry.Code = "too_deep"             // archives in archives over the limit
	CodeEncrypted         gantry.Code = "encrypted"            // an entry or the whole archive needs a password
	CodeUnsafePath        gantry.Code = "unsafe_path"          // a name that is empty, absolute or climbs out
	CodeUnsupportedEntry  gantry.Code = "unsupported_entry"    // a link, a device, an unknown compression
	CodeChecksumMismatch  gantry.Code = "checksum_mismatch"    // a CRC-32 is wrong
	CodeLengthOutOfBounds gantry.Code = "length_out_of_bounds" // a length or offset that cannot be true
	CodeBadValue          gantry.Code = "bad_value"            // an image size that is no size
	CodeDuplicateName     gantry.Code = "duplicate_name"       // a warning: the name stood there before
	CodeExtensionMismatch gantry.Code = "extension_mismatch"   // a warning: the name claims another kind
	CodeTimeout           gantry.Code = "timeout"              // a decoder took too long
	CodeFFmpegMissing     gantry.Code = "ffmpeg_missing"       // no ffmpeg in PATH (kind unavailable)
)

// illegal is a verdict on the input.
func illegal(code gantry.Code, format string, args ...any) error {
	return gantry.Errorf(gantry.Illegal, code, format, args...)
}

// readAt fills buf from off. Bytes that are not there are a verdict (truncated); any other error
// is the storage's and keeps its own kind.
func readAt(r io.ReaderAt, buf []byte, off int64) error {
	n, err := r.ReadAt(buf, off)
	switch {
	case n == len(buf):
		return nil
	case err == nil, errors.Is(err, io.EOF):
		return illegal(gantry.CodeTruncated, "ends at byte %d, needs %d", off+int64(n), off+int64(len(buf)))
	}
	return fmt.Errorf("read at byte %d: %w", off, err)
}
