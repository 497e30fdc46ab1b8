package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"strconv"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// SignatureHeader is the header that a callback is signed in.
const SignatureHeader = "Gantry-Signature"

// CallbackWindow is how far the time in a signature may lie from ours, on either side.
const CallbackWindow = 5 * time.Minute

// Codes of callbacks whose signature is not right. All are Denied.
const (
	CodeSignatureMissing   gantry.Code = "signature_missing"   // no header, or no secret to hold it to
	CodeSignatureMalformed gantry.Code = "signature_malformed" // the header is not t=…,v1=…
	CodeSignatureStale     gantry.Code = "signature_stale"     // its time is outside of the window
	CodeSignatureWrong     gantry.Code = "signature_wrong"     // the body is another, or the secret
)

const (
	maxSignature = 1024 // bytes of the header
	maxPairs     = 16   // key=value in it
	maxTimeDigit = 11   // of the seconds since 1970
)

// SignCallback gives the header of a callback: t=<seconds since 1970>,v1=<HMAC-SHA256 in hexadecimal over
// that time, a dot and the body> (RFC 2104; the scheme is Stripe's for webhooks, which many services speak). While a
// secret is being replaced a service signs with both: one v1 for each secret, in any order.
func SignCallback(at time.Time, body []byte, secrets ...Secret) string {
	t := strconv.FormatInt(at.Unix(), 10)
	header := "t=" + t
	for _, s := range secrets {
		mac := hmac.New(sha256.New, []byte(s.Reveal()))
		mac.Write([]byte(t + "."))
		mac.Write(body)
		header += ",v1=" + hex.EncodeToString(mac.Sum(nil))
	}
	return header
}

// CallbackVerifier holds a body that is written to it against a signature. It keeps nothing of the body.
type CallbackVerifier struct {
	mac    hash.Hash
	claims [][]byte // what the header says the MAC is; any one will do
	err    error    // what is wrong with the header
}

// NewCallbackVerifier begins with the header of a callback (SignatureHeader) and the time at which it came.
// Only v1 counts; what other keys say is ignored, so that a service may sign in more ways than one.
func NewCallbackVerifier(secret Secret, header string, now time.Time) *CallbackVerifier {
	v := &CallbackVerifier{mac: hmac.New(sha256.New, []byte(secret.Reveal()))}
	if secret.Reveal() == "" || header == "" {
		v.err = gantry.Errorf(gantry.Denied, CodeSignatureMissing, "check the callback: there is no signature, or no secret for it")
		return v
	}
	var t string
	if t, v.claims, v.err = parseSignature(header); v.err != nil {
		return v
	}
	seconds, err := strconv.ParseInt(t, 10, 64)
	if err != nil { // never for so few digits
		v.err = malformedSignature()
		return v
	}
	if off := now.Sub(time.Unix(seconds, 0)); off < -CallbackWindow || off > CallbackWindow {
		v.err = gantry.Errorf(gantry.Denied, CodeSignatureStale, "check the callback: its time is not within %s of ours", CallbackWindow)
		return v
	}
	v.mac.Write([]byte(t + "."))
	return v
}

// CheckHeader says what is wrong with the header alone, so that the body of such a callback need not be read.
func (v *CallbackVerifier) CheckHeader() error { return v.err }

// Write takes more of the body. It never fails.
func (v *CallbackVerifier) Write(p []byte) (int, error) { return v.mac.Write(p) }

// Check is nil if all that was written is what was signed. Its errors are Denied: signature_missing,
// signature_malformed, signature_stale or signature_wrong.
func (v *CallbackVerifier) Check() error {
	if v.err != nil {
		return v.err
	}
	sum, right := v.mac.Sum(nil), false
	for _, claim := range v.claims {
		if hmac.Equal(claim, sum) {
			right = true
		}
	}
	if !right {
		return gantry.Errorf(gantry.Denied, CodeSignatureWrong, "check the callback: its signature does not fit its body")
	}
	return nil
}

// parseSignature reads t and every v1 of a header. t is digits, as they were signed.
func parseSignature(header string) (t string, claims [][]byte, err error) {
	if len(header) > maxSignature {
		return "", nil, malformedSignature()
	}
	pairs := strings.Split(header, ",")
	if len(pairs) > maxPairs {
		return "", nil, malformedSignature()
	}
	for _, pair := range pairs {
		key, value, ok := strings.Cut(strings.Trim(pair, " \t"), "=")
		switch {
		case !ok, key == "t" && t != "":
			return "", nil, malformedSignature()
		case key == "t":
			if value == "" || len(value) > maxTimeDigit || strings.Trim(value, "0123456789") != "" {
				return "", nil, malformedSignature()
			}
			t = value
		case key == "v1":
			claim, err := hex.DecodeString(value)
			if err != nil || len(claim) != sha256.Size {
				return "", nil, malformedSignature()
			}
			claims = append(claims, claim)
		}
	}
	if t == "" || len(claims) == 0 {
		return "", nil, malformedSignature()
	}
	return t, claims, nil
}

func malformedSignature() error {
	return gantry.Errorf(gantry.Denied, CodeSignatureMalformed, "check the callback: %s is not t=<seconds>,v1=<64 hexadecimal digits>", SignatureHeader)
}
