package media

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// unsafeName tells whether a name would lead out of the folder that it was unpacked in, on any
// system: empty, absolute, with a drive, a NUL, or more steps up than down. Names are never used
// as paths here; such a one is a sign of ill will, and is refused rather than cleaned.
func unsafeName(raw string) bool {
	p := strings.ReplaceAll(raw, `\`, "/")
	if p == "" || p[0] == '/' || strings.IndexByte(p, 0) >= 0 {
		return true
	}
	if len(p) >= 2 && p[1] == ':' && (p[0]|0x20) >= 'a' && (p[0]|0x20) <= 'z' {
		return true
	}
	depth := 0
	for part := range strings.SplitSeq(p, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return true
			}
		default:
			depth++
		}
	}
	return depth == 0
}

// printable gives a name as people may see it: letters and signs of UTF-8 as they are, every other
// byte, and every byte of a character that does not print or that turns the direction, as %XX.
func printable(raw string) string {
	const hex = "0123456789ABCDEF"
	clean := func(r rune, n int) bool { return unicode.IsGraphic(r) && (r != utf8.RuneError || n > 1) }
	i := 0
	for i < len(raw) {
		r, n := utf8.DecodeRuneInString(raw[i:])
		if !clean(r, n) {
			break
		}
		i += n
	}
	if i == len(raw) {
		return raw
	}
	out := []byte(raw[:i])
	for i < len(raw) {
		r, n := utf8.DecodeRuneInString(raw[i:])
		if clean(r, n) {
			out = append(out, raw[i:i+n]...)
		} else {
			for _, c := range []byte(raw[i : i+n]) {
				out = append(out, '%', hex[c>>4], hex[c&15])
			}
		}
		i += n
	}
	return string(out)
}
