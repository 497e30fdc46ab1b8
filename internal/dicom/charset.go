package dicom

import "strings"

// charsets splits a Specific Character Set into its terms, trimmed.
func charsets(value string) []string {
	terms := strings.Split(value, `\`)
	for i, t := range terms {
		terms[i] = strings.Trim(t, " \x00")
	}
	return terms
}

// knownCharset tells whether term is a defined term of Specific Character Set (PS3.3 section
// C.12.1.1.2), and whether it means code extensions. The empty term is the default repertoire.
func knownCharset(term string) (ok, extension bool) {
	switch term {
	case "", "ISO_IR 6", "ISO_IR 13", "ISO_IR 100", "ISO_IR 101", "ISO_IR 109", "ISO_IR 110", "ISO_IR 126",
		"ISO_IR 127", "ISO_IR 138", "ISO_IR 144", "ISO_IR 148", "ISO_IR 166", "ISO_IR 203",
		"ISO_IR 192", "GB18030", "GBK":
		return true, false
	case "ISO 2022 IR 6", "ISO 2022 IR 13", "ISO 2022 IR 58", "ISO 2022 IR 87", "ISO 2022 IR 100", "ISO 2022 IR 101",
		"ISO 2022 IR 109", "ISO 2022 IR 110", "ISO 2022 IR 126", "ISO 2022 IR 127", "ISO 2022 IR 138",
		"ISO 2022 IR 144", "ISO 2022 IR 148", "ISO 2022 IR 149", "ISO 2022 IR 159", "ISO 2022 IR 166", "ISO 2022 IR 203":
		return true, true
	}
	return false, false
}

// libraryCharset tells whether the tag library decodes the term; on others it fails or panics.
func libraryCharset(term string) bool {
	switch term {
	case "ISO_IR 166", "ISO 2022 IR 166", "ISO_IR 203", "ISO 2022 IR 203":
		return false
	}
	ok, _ := knownCharset(term)
	return ok
}

// toUTF8 decodes the two single-byte sets that the library lacks: Thai (TIS 620-2533) and
// Latin-9 (ISO 8859-15). Other terms give ok false.
func toUTF8(term string, value []byte) (text string, ok bool) {
	var one func(byte) rune
	switch term {
	case "ISO_IR 166":
		one = thai
	case "ISO_IR 203":
		one = latin9
	default:
		return "", false
	}
	var b strings.Builder
	for _, c := range value {
		b.WriteRune(one(c))
	}
	return b.String(), true
}

func thai(c byte) rune {
	switch {
	case c < 0x80:
		return rune(c)
	case c >= 0xa1 && c <= 0xda, c >= 0xdf && c <= 0xfb:
		return 0x0e00 + rune(c) - 0xa0
	}
	return '\ufffd'
}

func latin9(c byte) rune {
	switch c {
	case 0xa4:
		return '€'
	case 0xa6:
		return 'Š'
	case 0xa8:
		return 'š'
	case 0xb4:
		return 'Ž'
	case 0xb8:
		return 'ž'
	case 0xbc:
		return 'Œ'
	case 0xbd:
		return 'œ'
	case 0xbe:
		return 'Ÿ'
	}
	return rune(c)
}
