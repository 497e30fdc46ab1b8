package media

import (
	"bytes"
	"io"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// HeadSize is the number of leading bytes that Detect needs: the first block of a tar archive
// (POSIX.1-2017 pax, "ustar Interchange Format"), which is more than the preamble and prefix of a
// DICOM file (PS3.10 section 7.1).
const HeadSize = tarBlock

const (
	pngSignature = "\x89PNG\r\n\x1a\n"
	zipLocal     = "PK\x03\x04"
	zipEnd       = "PK\x05\x06" // a zip without entries has nothing before this
	gzipMagic    = "\x1f\x8b\x08"
	zstdMagic    = "\x28\xb5\x2f\xfd"
	ebmlMagic    = "\x1a\x45\xdf\xa3"
)

// Detect tells from the first bytes of a file what it is: gantry.MediaDICOM, MediaPNG, MediaJPEG,
// MediaZIP, MediaGZIP, MediaZSTD, MediaMP4 (QuickTime too), MediaMKV (WebM too), MediaAVI or
// MediaTAR, or "" for anything else. Fewer than HeadSize bytes are a short file, not an error. What
// lies in a gzip or zstd stream is not looked at.
// The order is fixed: a DICOM preamble may look like any other format and changes nothing. A tar
// comes last, since it begins with a name, which may look like anything.
func Detect(head []byte) string {
	switch {
	case len(head) >= 132 && string(head[128:132]) == "DICM":
		return gantry.MediaDICOM
	case bytes.HasPrefix(head, []byte(pngSignature)):
		return gantry.MediaPNG
	case bytes.HasPrefix(head, []byte("\xff\xd8\xff")):
		return gantry.MediaJPEG
	case bytes.HasPrefix(head, []byte(zipLocal)), bytes.HasPrefix(head, []byte(zipEnd)):
		return gantry.MediaZIP
	case bytes.HasPrefix(head, []byte(gzipMagic)):
		return gantry.MediaGZIP
	case bytes.HasPrefix(head, []byte(zstdMagic)):
		return gantry.MediaZSTD
	}
	if m := detectVideo(head); m != "" {
		return m
	}
	if len(head) >= tarBlock && isTar(head[:tarBlock]) {
		return gantry.MediaTAR
	}
	return ""
}

// detectVideo knows the containers of video. The brands of ISO files that hold still images or raw
// camera data (HEIF, AVIF, CR3) are none.
func detectVideo(head []byte) string {
	switch {
	case len(head) >= 12 && string(head[4:8]) == "ftyp":
		size := be.Uint32(head)
		if size != 1 && (size < 16 || size > 4<<10) || stillBrand(string(head[8:12])) {
			return ""
		}
		return gantry.MediaMP4
	case len(head) >= 12 && string(head[:4]) == "RIFF" && string(head[8:12]) == "AVI ":
		return gantry.MediaAVI
	case bytes.HasPrefix(head, []byte(ebmlMagic)):
		switch docType(head) {
		case "matroska", "webm":
			return gantry.MediaMKV
		}
	}
	return ""
}

func stillBrand(brand string) bool {
	switch brand {
	case "heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1", "avif", "avis", "crx ":
		return true
	}
	return false
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
	case ".jpg", ".jpeg":
		return gantry.MediaJPEG
	case ".tar":
		return gantry.MediaTAR
	case ".gz", ".tgz":
		return gantry.MediaGZIP
	case ".zst", ".tzst":
		return gantry.MediaZSTD
	case ".mp4", ".m4v", ".mov":
		return gantry.MediaMP4
	case ".mkv", ".webm":
		return gantry.MediaMKV
	case ".avi":
		return gantry.MediaAVI
	case ".jp2", ".gif", ".bmp", ".tif", ".tiff", ".webp":
		return "image/" + suffix[1:]
	case ".mpg", ".mpeg":
		return "video/" + suffix[1:]
	case ".nii", ".bz2", ".xz", ".7z", ".rar", ".pdf", ".xml", ".html", ".htm", ".txt", ".csv", ".exe", ".dll":
		return "application/" + suffix[1:]
	}
	return ""
}
