package digest

import "encoding/binary"

const block = 64 // bytes

// start is the state before the first block (FIPS 180-4 section 5.3.3).
var start = [8]uint32{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}

// constants are those of the rounds (section 4.2.2).
var constants = [64]uint32{
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
}

// fast says whether the processor has the instructions.
var fast = extensions()

// extensions asks the processor for SHA, SSSE3 and SSE4.1.
func extensions() bool

// blocks2 goes through n blocks of 64 bytes of two streams, each with its own state.
//
//go:noescape
func blocks2(a *[8]uint32, from *byte, b *[8]uint32, and *byte, n int, k *[64]uint32)

// newPair is a pair on the processor's instructions, or on two of the standard library.
func newPair() pair {
	if !fast {
		return newApart()
	}
	return &lanes{{state: start}, {state: start}}
}

// lanes are two digests that go through their blocks together.
type lanes [2]lane

// lane is one of them.
type lane struct {
	state [8]uint32
	rest  [block]byte // the beginning of a block that has not come whole
	n     int         // bytes of rest
	size  uint64      // bytes in all
}

// first adds to the first alone. It is for what is short.
func (l *lanes) first(p []byte) { l.add(p, nil) }

// both adds to both.
func (l *lanes) both(p []byte) { l.add(p, p) }

// add adds a to the first and b to the second. What one has to do more than the other is done beside an idle lane.
func (l *lanes) add(a, b []byte) {
	a, b = l[0].complete(a), l[1].complete(b)
	l.blocks(l[0].whole(), l[1].whole())
	na, nb := len(a)/block*block, len(b)/block*block
	n := min(na, nb)
	l.blocks(a[:n], b[:n])
	l.blocks(a[n:na], b[n:nb])
	l[0].keep(a[na:])
	l[1].keep(b[nb:])
}

// complete takes of p what a block that has begun lacks, and gives the rest.
func (x *lane) complete(p []byte) []byte {
	x.size += uint64(len(p))
	if x.n == 0 {
		return p
	}
	n := copy(x.rest[x.n:], p)
	x.n += n
	return p[n:]
}

// whole is the block that is complete; nil if none is.
func (x *lane) whole() []byte {
	if x.n < block {
		return nil
	}
	x.n = 0
	return x.rest[:]
}

// keep keeps the beginning of a block.
func (x *lane) keep(p []byte) {
	x.n += copy(x.rest[x.n:], p)
}

// blocks goes through whole blocks, as many of each or of one alone.
func (l *lanes) blocks(a, b []byte) {
	idle := start
	switch {
	case len(a) > 0 && len(b) > 0:
		blocks2(&l[0].state, &a[0], &l[1].state, &b[0], len(a)/block, &constants)
	case len(a) > 0:
		blocks2(&l[0].state, &a[0], &idle, &a[0], len(a)/block, &constants)
	case len(b) > 0:
		blocks2(&idle, &b[0], &l[1].state, &b[0], len(b)/block, &constants)
	}
}

// sums pads both (FIPS 180-4 section 5.1.1) and gives their digests. Nothing can be added any more.
func (l *lanes) sums() (a, b [Size]byte) {
	l.add(l[0].padding(), l[1].padding())
	return l[0].sum(), l[1].sum()
}

// padding is what follows the last byte: a bit, zeros, and the length in bits at the end of a block.
func (x *lane) padding() []byte {
	b := make([]byte, 2*block)
	b[0] = 0x80
	n := block - x.n
	if n < 9 {
		n += block
	}
	binary.BigEndian.PutUint64(b[n-8:], x.size<<3)
	return b[:n]
}

// sum is the state as bytes.
func (x *lane) sum() (out [Size]byte) {
	for i, v := range x.state {
		binary.BigEndian.PutUint32(out[4*i:], v)
	}
	return out
}
