package blob

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// location says where a blob lies: sha/<hex>, or seg/<worker>/<number>/<offset>/<length> where
// offset is that of the record and length that of the body, in bytes.
type location struct {
	sha            gantry.Digest // zero: in a segment
	segment        segmentID
	offset, length int64
}

// maxLocation is more than any location needs: seg and four numbers of 19 digits.
const maxLocation = 96

func (l location) String() string {
	if !l.sha.IsZero() {
		return "sha/" + l.sha.String()
	}
	return fmt.Sprintf("seg/%d/%d/%d/%d", l.segment.worker, l.segment.number, l.offset, l.length)
}

// path is the file that holds the blob.
func (l location) path(root string) string {
	if l.sha.IsZero() {
		return l.segment.path(root)
	}
	return filepath.Join(shardDir(root, l.sha[0]), l.sha.String())
}

// parseLocation reads what String wrote, and nothing else: only the one way to write a location
// that String has, so that no text can lead out of the store.
func parseLocation(s string) (location, error) {
	var l location
	bad := gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "read blob location: it has no known form")
	if len(s) > maxLocation {
		return l, bad
	}
	parts := strings.Split(s, "/")
	switch {
	case len(parts) == 2 && parts[0] == "sha":
		sha, err := gantry.ParseDigest(parts[1])
		if err != nil || sha.IsZero() {
			return l, bad
		}
		l.sha = sha
	case len(parts) == 5 && parts[0] == "seg":
		var n [4]int64
		for i, p := range parts[1:] {
			v, err := strconv.ParseInt(p, 10, 64)
			if err != nil || v < 0 {
				return l, bad
			}
			n[i] = v
		}
		l.segment, l.offset, l.length = segmentID{gantry.WorkerID(n[0]), n[1]}, n[2], n[3]
		if l.segment.worker == 0 || l.offset < block || l.offset%block != 0 || l.length > maxRecord {
			return location{}, bad
		}
	default:
		return l, bad
	}
	if l.String() != s {
		return location{}, bad
	}
	return l, nil
}
