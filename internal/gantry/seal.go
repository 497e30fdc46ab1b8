package gantry

import (
	"crypto/sha256"
	"hash"
)

// Seal covers the bytes of a blob of which a part has a digest of its own: a SHA-256 of the first From bytes followed by the SHA-256
// of the others. Where From is 0 it is the SHA-256 of all bytes. The zero value is none.
type Seal struct {
	From int64
	SHA  Digest
}

// Sealed is a stream that is sealed on its way here, or a blob whose seal is known. Whoever must know the digest of all bytes takes
// that at their first reading.
type Sealed interface {
	// Seal gives the seal and the number of all bytes, of a stream once it has ended; false before, and where there is none.
	Seal() (Seal, int64, bool)
}

// SealOf asks a stream or a blob for its seal; false if it has none.
func SealOf(x any) (Seal, int64, bool) {
	if s, ok := x.(Sealed); ok {
		return s.Seal()
	}
	return Seal{}, 0, false
}

// Sealer makes a seal of what is written into it, from the first byte on.
type Sealer struct {
	from, n int64
	first   hash.Hash // of the bytes before from
	rest    hash.Hash
}

// NewSealer begins a seal.
func NewSealer(from int64) *Sealer {
	return &Sealer{from: from, first: sha256.New(), rest: sha256.New()}
}

// Write takes the next bytes.
func (s *Sealer) Write(p []byte) (int, error) {
	first := min(max(s.from-s.n, 0), int64(len(p)))
	s.first.Write(p[:first])
	s.rest.Write(p[first:])
	s.n += int64(len(p))
	return len(p), nil
}

// Sum gives the seal of what was written, and the digest of its bytes from From on. After that nothing is written.
func (s *Sealer) Sum() (Seal, Digest) {
	rest := Digest(s.rest.Sum(nil))
	if s.from == 0 {
		return Seal{SHA: rest}, rest
	}
	s.first.Write(rest[:])
	return Seal{From: s.from, SHA: Digest(s.first.Sum(nil))}, rest
}
