package dicom

import (
	"crypto/sha1"
	"encoding/binary"
	integer "math/big"
	"strings"
)

// classDirectory is the SOP class of a DICOMDIR.
const classDirectory = "1.2.840.10008.1.3.10"

// ValidUID tells whether s is a UID: at most 64 characters, digits in components divided by dots,
// none of them empty (PS3.5 section 9.1). Leading zeros are wrong by the standard but common and
// harmless, so they pass. A valid UID is safe as a file name.
func ValidUID(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	last := byte('.')
	for i := range len(s) {
		c := s[i]
		if c == '.' && last == '.' || c != '.' && (c < '0' || c > '9') {
			return false
		}
		last = c
	}
	return last != '.'
}

// ResultUID is the UID of a result: 2.25 and the decimal form of a UUID of version 5 (PS3.5 annex
// B.2, RFC 9562 section 5.5) whose name is the parts, each behind its length, so that no two lists
// of parts have the same name. The same parts in the same namespace give the same UID.
func ResultUID(namespace [16]byte, parts ...string) string {
	name := namespace[:]
	for _, p := range parts {
		name = append(binary.BigEndian.AppendUint32(name, uint32(len(p))), p...)
	}
	h := sha1.Sum(name)
	h[6], h[8] = h[6]&0x0f|0x50, h[8]&0x3f|0x80
	return "2.25." + new(integer.Int).SetBytes(h[:16]).String()
}

// imageClass tells whether objects of the SOP class must have pixel data (PS3.4 section B.5).
// RT dose is none, since a dose may be histograms alone.
func imageClass(uid string) bool {
	n, ok := strings.CutPrefix(uid, "1.2.840.10008.5.1.4.1.1.")
	if !ok {
		return false
	}
	switch n {
	case "1", "1.1", "1.1.1", "1.2", "1.2.1", "1.3", "1.3.1", // CR, DX, MG, IO
		"2", "2.1", "2.2", // CT
		"3", "3.1", "6", "6.1", "6.2", "6.3", // US, photoacoustic
		"4", "4.1", "4.3", "4.4", // MR
		"5", "20", // NM
		"7", "7.1", "7.2", "7.3", "7.4", // secondary capture
		"12.1", "12.1.1", "12.2", "12.2.1", "12.3", // XA, RF
		"13.1.1", "13.1.2", "13.1.3", "13.1.4", "13.1.5", // 3D, breast tomosynthesis
		"14.1", "14.2", // OCT
		"30", "66.4", "66.7", // parametric map, segmentations
		"77.1", "77.2",
		"77.1.1", "77.1.1.1", "77.1.2", "77.1.2.1", "77.1.3", "77.1.4", "77.1.4.1", // visible light
		"77.1.5.1", "77.1.5.2", "77.1.5.4", "77.1.5.5", "77.1.5.6", "77.1.5.7", "77.1.5.8",
		"77.1.6", "77.1.7", // whole slide, dermoscopy
		"128", "128.1", "130", // PET
		"481.1": // RT image
		return true
	}
	return false
}

// enhanced tells whether the SOP class has functional groups: in the Image Type of these SECONDARY
// has no place (PS3.3 sections C.8.13.1, C.8.15.2, C.8.16.1, C.8.12.4 and C.8.20.2).
func enhanced(uid string) bool {
	n, ok := strings.CutPrefix(uid, "1.2.840.10008.5.1.4.1.1.")
	if !ok {
		return false
	}
	switch n {
	case "2.1", "2.2", "4.1", "4.3", "4.4", "6.2", "6.3", // CT, MR, US, photoacoustic
		"12.1.1", "12.2.1", "13.1.1", "13.1.2", "13.1.3", "13.1.4", "13.1.5", // XA, RF, 3D, tomosynthesis
		"14.1", "14.2", "30", "66.4", "66.7", "77.1.5.4", "77.1.6", "128.1", "130":
		return true
	}
	return false
}
