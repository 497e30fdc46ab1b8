package digest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"testing"
)

// ways are all that this processor has.
func ways() map[string]func() pair {
	return map[string]func() pair{"as it comes": newPair, "standard library": newApart}
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// same writes a stream in pieces and holds both digests to those of the standard library.
func same(t *testing.T, way string, begin func() pair, head, stream []byte, piece func(left int) int) {
	t.Helper()
	of := begin()
	of.first(head)
	p := Pair{of}
	for left := stream; len(left) > 0; {
		n := min(piece(len(left)), len(left))
		if k, err := p.Write(left[:n]); k != n || err != nil {
			t.Fatalf("%s: %d of %d written: %v", way, k, n, err)
		}
		left = left[n:]
	}
	whole, alone := p.Sums()
	if whole != sha256.Sum256(append(bytes.Clone(head), stream...)) || alone != sha256.Sum256(stream) {
		t.Fatalf("%s: head of %d, stream of %d: whole right: %t, alone right: %t", way, len(head), len(stream),
			whole == sha256.Sum256(append(bytes.Clone(head), stream...)), alone == sha256.Sum256(stream))
	}
}

// Each length of the head and of the stream around the ends of blocks, where padding takes one block or two.
func TestLengths(t *testing.T) {
	t.Parallel()
	b := random(1 << 10)
	for way, begin := range ways() {
		for head := range 2*64 + 2 {
			for n := range 3*64 + 2 {
				same(t, way, begin, b[:head], b[500:500+n], func(left int) int { return left })
			}
		}
	}
}

// Pieces of every size, so that blocks begin and end anywhere in them, and memory at any address.
func TestPieces(t *testing.T) {
	t.Parallel()
	b := random(70_000)
	r := rand.New(rand.NewPCG(1, 2))
	for way, begin := range ways() {
		for _, most := range []int{1, 2, 63, 64, 65, 127, 128, 200, 5000, 65536} {
			for range 20 {
				at, n := r.IntN(64), r.IntN(min(60_000, 300*most))
				same(t, way, begin, b[:r.IntN(600)], b[at:at+n], func(int) int { return r.IntN(most) + 1 })
			}
		}
	}
}

// The digests of the standard's own examples (FIPS 180-4; NIST's SHA-256 example values).
func TestExamples(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"abc": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq": "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
	} {
		p := NewPair(nil)
		p.Write([]byte(text))
		whole, alone := p.Sums()
		if got := fmt.Sprintf("%x", whole); got != want || whole != alone {
			t.Errorf("%q: %s and %x, want %s", text, got, alone, want)
		}
	}
}

// FuzzPair writes anything in two pieces behind anything.
func FuzzPair(f *testing.F) {
	f.Add([]byte("head"), []byte("stream"), uint16(3))
	f.Add(random(64), random(1000), uint16(64))
	f.Fuzz(func(t *testing.T, head, stream []byte, at uint16) {
		for way, begin := range ways() {
			first := true
			same(t, way, begin, head, stream, func(left int) int {
				if first && at > 0 {
					first = false
					return int(at)
				}
				return left
			})
		}
	})
}

func BenchmarkPair(b *testing.B) {
	data := random(525_000)
	for way, begin := range ways() {
		b.Run(way, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				of := begin()
				of.first(data[:420])
				for left := data; len(left) > 0; left = left[min(len(left), 64<<10):] {
					of.both(left[:min(len(left), 64<<10)])
				}
				of.sums()
			}
		})
	}
}
