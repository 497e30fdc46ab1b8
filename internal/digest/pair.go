// Package digest takes the SHA-256 (FIPS 180-4) of a file and that of its data in one pass. An instance that comes over the network is
// kept behind a head of ours: what came has a digest of its own, and so has the file.
package digest

import (
	"crypto/sha256"
	"hash"
)

// Size is the length of a digest, in bytes.
const Size = sha256.Size

// Pair is two digests of one stream: of a head and the stream behind it, and of the stream alone. On processors that have instructions
// for SHA-256 the two cost little more than one, since each has the other's time to wait in.
type Pair struct{ of pair }

// pair is one way to take them.
type pair interface {
	first(p []byte) // adds to the first digest alone
	both(p []byte)  // adds to both
	sums() (a, b [Size]byte)
}

// NewPair begins with the head. The stream is written.
func NewPair(head []byte) *Pair {
	p := newPair()
	p.first(head)
	return &Pair{of: p}
}

// Write adds to both digests. It takes everything and has no error.
func (p *Pair) Write(b []byte) (int, error) {
	p.of.both(b)
	return len(b), nil
}

// Sums gives the digests of head and stream, and of the stream alone. It is called once, after the last Write.
func (p *Pair) Sums() (whole, stream [Size]byte) { return p.of.sums() }

// apart are two digests of the standard library.
type apart struct{ a, b hash.Hash }

func newApart() pair { return apart{sha256.New(), sha256.New()} }

func (x apart) first(p []byte) { x.a.Write(p) }

func (x apart) both(p []byte) {
	x.a.Write(p)
	x.b.Write(p)
}

func (x apart) sums() (a, b [Size]byte) { return [Size]byte(x.a.Sum(nil)), [Size]byte(x.b.Sum(nil)) }
