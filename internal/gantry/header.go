package gantry

import (
	"net/http"
	"strings"
)

// IsToken tells a token, such as the name of a header (RFC 9110 section 5.6.2).
func IsToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}

// IsFieldValue tells what may stand as the value of a header (RFC 9110 section 5.5).
func IsFieldValue(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

// IsSecretHeader tells whether a credential may be a header of this name: one that has no meaning
// for a driver or the connection.
func IsSecretHeader(name string) bool {
	key := http.CanonicalHeaderKey(name)
	switch key {
	case "Accept", "User-Agent", "Idempotency-Key", "X-Gantry-Path", "If-None-Match":
		return false
	}
	return IsToken(name) && !IsWireHeader(key)
}

// IsWireHeader tells, by its canonical name, a header that a driver or the connection sets, so that
// no configuration may (RFC 9110 section 7.6.1 for those of one hop).
func IsWireHeader(key string) bool {
	switch key {
	case "Host", "Content-Length", "Content-Type", "Content-Encoding", "Content-Digest", "Repr-Digest", "Accept-Encoding",
		"Expect", "Connection", "Proxy-Connection", "Proxy-Authorization", "Proxy-Authenticate", "Keep-Alive", "Te", "Trailer",
		"Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}
