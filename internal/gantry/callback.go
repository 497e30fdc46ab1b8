package gantry

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"
)

// Submission names one request that is answered later. Try counts the requests for a part over all its
// lives, from 1: a request whose ticket was lost has the number of the one that repeats it.
type Submission struct {
	Task TaskID
	PartKey
	Try int16
}

const (
	tokenVersion = 1
	tokenBody    = 23 // bytes before the code
	tokenMAC     = 16 // bytes of the code
)

var tokenEncoding = base64.RawURLEncoding

// Token is what an address for the answer to a submission ends with: 52 letters and digits of URL-safe
// base64 (RFC 4648 section 5) over the submission's name and 16 bytes of an HMAC-SHA256 of it under the
// deployment's key. Nothing in it is secret, and nobody without the key can make one.
func (s Submission) Token(key []byte) string {
	b := make([]byte, 0, tokenBody+sha256.Size)
	b = append(b, tokenVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(s.Task))
	b = binary.BigEndian.AppendUint32(b, uint32(s.Ordinal))
	for _, n := range []int16{s.Leg, s.Stage, s.Processor, s.Generation, s.Try} {
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	}
	return tokenEncoding.EncodeToString(append(b, tokenCode(key, b)...))
}

func tokenCode(key, body []byte) []byte {
	sum := MAC(key, "callback", string(body))
	return sum[:tokenMAC]
}

// ParseToken reads a token; false if it was not made under the key.
func ParseToken(key []byte, token string) (Submission, bool) {
	if len(token) != tokenEncoding.EncodedLen(tokenBody+tokenMAC) {
		return Submission{}, false
	}
	b, err := tokenEncoding.Strict().DecodeString(token)
	if err != nil || !hmac.Equal(b[tokenBody:], tokenCode(key, b[:tokenBody])) || b[0] != tokenVersion {
		return Submission{}, false
	}
	n := func(at int) int16 { return int16(binary.BigEndian.Uint16(b[at:])) }
	return Submission{Task: TaskID(binary.BigEndian.Uint64(b[1:])), Try: n(21), PartKey: PartKey{
		Ordinal: int32(binary.BigEndian.Uint32(b[9:])), Leg: n(13), Stage: n(15), Processor: n(17), Generation: n(19)}}, true
}

// Verdict says what becomes of a callback.
type Verdict uint8

// The verdicts. The numbers stand in the database, but for the last: of what nobody waits for, and never
// did, there is no row.
const (
	CallbackAccepted  Verdict = iota // the first valid answer to its submission
	CallbackDuplicate                // there is an answer already
	CallbackLate                     // the submission is over: answered otherwise, timed out, or its task has ended
	CallbackForged                   // the signature does not hold
	CallbackAlive                    // a sign of life
	CallbackUnknown                  // not our token
)

var verdictNames = [...]string{"accepted", "duplicate", "late", "forged", "running", "unknown"}

// String gives the verdict's name.
func (v Verdict) String() string { return verdictNames[v] }

// Received is a callback as it is kept.
type Received struct {
	Submission
	ID        UUID
	Status    CallbackStatus
	Forged    bool
	Heartbeat int64 // microseconds that a sign of life is good for; 0: until the deadline
	Size      int64
	SHA       Digest
	Header    http.Header // what of it says how to read the body
	Body      []byte      // the body, if it is small
	Location  string      // where in the blob store it lies otherwise
}

// Heard is what came to a task as callbacks.
type Heard struct {
	Count   int32       // of answers so far
	Answers []Received  // that were accepted and wait to be taken in
	Due     []DueAnswer // that an inbox holds and nobody took
}
