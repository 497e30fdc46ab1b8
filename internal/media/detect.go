package media

import (
	"bytes"
	"io"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// HeadSize is the number of leading bytes that Detect needs: the preamble and prefix of a DICOM
// file (PS3.10 section 7.1).
const HeadSize = 132

const (
	pngSignature = "\x89PNG\r\n\x1a\n"
	zipLocal     = "PK\x03\x04"
	zipEnd       = "PK\x05\x06" // a zip without entries has nothing before this
)

// Detect tells from the first bytes of a file what it is: gantry.MediaDICOM, MediaPNG or
// MediaZIP, or "" for anything else. Fewer than HeadSize bytes are a short file, not an error.
// The order is fixed: a DICOM preamble may look like any other format and changes nothing.
func Detect(head []byte) string {
	switch {
	case len(head) >= HeadSize && string(head[128:132]) == "DICM":
		return gantry.MediaDICOM
	case bytes.HasPrefix(head, []byte(pngSignature)):
		return gantry.MediaPNG
	case bytes.HasPrefix(head, []byte(zipLocal)), bytes.HasPrefix(head, []byte(zipEnd)):
		return gantry.MediaZIP
	}
	return ""
}

// DetectAt is Detect for bytes with random access. It also finds a zip that has other data in
// front, such as a self-extracting one, by the directory at its end (APPNOTE 4.1.9). A file whose
// first bytes say what it is stays that, whatever follows. Its errors are those of reading r.
func DetectAt(r io.ReaderAt, size int64) (string, error) {
	head := make([]byte, min(size, HeadSize))
	if err := readAt(r, head, 0); err != nil {
		return "", err
	}
	if m := Detect(head); m != "" {
		return m, nil
	}
	d, err := findDirectory(r, size)
	if gantry.KindOf(err) == gantry.Illegal || err == nil && d.count == 0 {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return gantry.MediaZIP, nil
}

// ExtensionMismatch tells whether a name claims, by a suffix that is known, another kind of file
// than media. A name without such a suffix claims nothing, and nothing contradicts an unknown
// media ("").
func ExtensionMismatch(name, media string) bool {
	dot := strings.LastIndexByte(name, '.')
	if dot < 0 || media == "" {
		return false
	}
	claim := claimed(strings.ToLower(name[dot:]))
	return claim != "" && claim != media
}

// claimed gives the media type that a lower-case suffix stands for; "" if it stands for none.
func claimed(suffix string) string {
	switch suffix {
	case ".dcm", ".dicom", ".dic":
		return gantry.MediaDICOM
	case ".png":
		return gantry.MediaPNG
	case ".zip":
		return gantry.MediaZIP
	case ".json":
		return gantry.MediaJSON
	case ".jpg", ".jpeg", ".jp2", ".gif", ".bmp", ".tif", ".tiff", ".webp":
		return "image/" + suffix[1:]
	case ".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg":
		return "video/" + suffix[1:]
	case ".nii", ".gz", ".tgz", ".tar", ".bz2", ".xz", ".zst", ".7z", ".rar", ".pdf", ".xml", ".html",
		".htm", ".txt", ".csv", ".exe", ".dll":
		return "application/" + suffix[1:]
	}
	return ""
}
