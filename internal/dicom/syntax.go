package dicom

// codec says how the header of a code stream is to be read.
type codec uint8

const (
	noCodec codec = iota // native, or a stream whose size is not looked at
	jpegCodec
	j2kCodec
	rleCodec
	videoCodec // one stream for all frames
)

// The transfer syntaxes that are not encapsulated.
const (
	syntaxImplicit = "1.2.840.10008.1.2"
	syntaxExplicit = "1.2.840.10008.1.2.1"
	syntaxDeflated = "1.2.840.10008.1.2.1.99"
	syntaxBig      = "1.2.840.10008.1.2.2"
)

// syntax is what a transfer syntax means for the reader (PS3.5 annex A, PS3.6 annex A).
type syntax struct {
	uid          string
	implicit     bool
	big          bool
	deflated     bool
	encapsulated bool
	opaque       bool // stored and forwarded, never decoded
	codec        codec
}

// syntaxOf finds a transfer syntax by its exact UID. What is not listed is not taken: no reader
// after us could do better than guess its byte order.
func syntaxOf(uid string) (syntax, bool) {
	s := syntax{uid: uid}
	switch uid {
	case syntaxImplicit:
		s.implicit = true
		return s, true
	case syntaxExplicit:
		return s, true
	case syntaxDeflated:
		s.deflated = true
		return s, true
	case syntaxBig:
		s.big = true
		return s, true
	}
	s.encapsulated = true
	var ok bool
	s.codec, s.opaque, ok = codecOf(uid)
	return s, ok
}

func codecOf(uid string) (c codec, opaque, ok bool) {
	switch uid {
	case "1.2.840.10008.1.2.1.98": // encapsulated uncompressed
		return noCodec, false, true
	case "1.2.840.10008.1.2.5":
		return rleCodec, false, true
	case "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70",
		"1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81": // JPEG, JPEG-LS
		return jpegCodec, false, true
	case "1.2.840.10008.1.2.4.52", "1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.54", "1.2.840.10008.1.2.4.55",
		"1.2.840.10008.1.2.4.56", "1.2.840.10008.1.2.4.58", "1.2.840.10008.1.2.4.59", "1.2.840.10008.1.2.4.60",
		"1.2.840.10008.1.2.4.61", "1.2.840.10008.1.2.4.62", "1.2.840.10008.1.2.4.63", "1.2.840.10008.1.2.4.64",
		"1.2.840.10008.1.2.4.65", "1.2.840.10008.1.2.4.66": // retired processes of JPEG
		return jpegCodec, true, true
	case "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91", // JPEG 2000
		"1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203": // HTJ2K
		return j2kCodec, false, true
	case "1.2.840.10008.1.2.4.92", "1.2.840.10008.1.2.4.93": // JPEG 2000 part 2
		return j2kCodec, true, true
	case "1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.100.1", "1.2.840.10008.1.2.4.101", "1.2.840.10008.1.2.4.101.1",
		"1.2.840.10008.1.2.4.102", "1.2.840.10008.1.2.4.102.1", "1.2.840.10008.1.2.4.103", "1.2.840.10008.1.2.4.103.1",
		"1.2.840.10008.1.2.4.104", "1.2.840.10008.1.2.4.104.1", "1.2.840.10008.1.2.4.105", "1.2.840.10008.1.2.4.105.1",
		"1.2.840.10008.1.2.4.106", "1.2.840.10008.1.2.4.106.1", "1.2.840.10008.1.2.4.107", "1.2.840.10008.1.2.4.108": // MPEG-2, MPEG-4, HEVC
		return videoCodec, false, true
	case "1.2.840.10008.1.2.4.110", "1.2.840.10008.1.2.4.111", "1.2.840.10008.1.2.4.112", // JPEG XL
		"1.2.840.10008.1.2.8.1": // deflated image frames
		return noCodec, true, true
	}
	return noCodec, false, false
}
