package gantry

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// UUID is a 16-byte key made by a client, in time order (RFC 9562 version 7).
type UUID [16]byte

// String gives the usual form with dashes.
func (u UUID) String() string {
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// Time is the millisecond that the key was made in.
func (u UUID) Time() time.Time {
	return time.UnixMilli(int64(binary.BigEndian.Uint64(u[:8]) >> 16))
}

// IDs makes UUIDs from a clock and a source of randomness. Its keys rise strictly within one
// process, also within a millisecond and when the clock steps back (RFC 9562 section 6.2, method 1
// with the 12 bits of rand_a as counter).
type IDs struct {
	now  func() time.Time
	rand io.Reader

	mu    sync.Mutex
	last  int64
	count uint16
}

// NewIDs makes a generator. Both values may be shared.
func NewIDs(now func() time.Time, rand io.Reader) *IDs { return &IDs{now: now, rand: rand} }

// New gives the next key. It panics if the source of randomness fails, as crypto/rand never does.
func (g *IDs) New() UUID {
	var u UUID
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, err := io.ReadFull(g.rand, u[8:]); err != nil {
		panic(fmt.Sprintf("make key: %v", err))
	}
	ms := g.now().UnixMilli()
	if ms > g.last {
		g.last, g.count = ms, 0
	} else if g.count++; g.count > 0xfff {
		g.last, g.count = g.last+1, 0
	}
	binary.BigEndian.PutUint64(u[:8], uint64(g.last)<<16|7<<12|uint64(g.count))
	u[8] = u[8]&0x3f | 0x80
	return u
}

// Digest is a SHA-256. The zero Digest means that it is not known yet.
type Digest [sha256.Size]byte

// IsZero tells whether the digest is not known.
func (d Digest) IsZero() bool { return d == Digest{} }

// String is lower-case hexadecimal, empty when not known.
func (d Digest) String() string {
	if d.IsZero() {
		return ""
	}
	return hex.EncodeToString(d[:])
}

// ParseDigest reads what String wrote.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if s == "" {
		return d, nil
	}
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(d) {
		return d, fmt.Errorf("%q is no SHA-256", s)
	}
	return Digest(b), nil
}

var publicEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// PublicID is a task's name outside the database: 26 lower-case letters and digits of an
// HMAC-SHA256 over the parts, under the deployment's key. The same parts give the same id, and
// nobody without the key can tell what they were.
func PublicID(key []byte, parts ...string) string {
	mac := MAC(key, parts...)
	return strings.ToLower(publicEncoding.EncodeToString(mac[:16]))
}

// MAC is HMAC-SHA256 over the parts, each with its length before it so that no two lists collide.
func MAC(key []byte, parts ...string) Digest {
	return Digest(macParts(hmac.New(sha256.New, key), parts...))
}

// MACs gives MAC for many last parts after the same first ones, which costs about half as much. It is for one
// goroutine at a time.
func MACs(key []byte, first ...string) func(last string) Digest {
	m := hmac.New(sha256.New, key)
	parts := append(slices.Clone(first), "")
	return func(last string) Digest {
		m.Reset()
		parts[len(first)] = last
		return Digest(macParts(m, parts...))
	}
}

func macParts(m hash.Hash, parts ...string) []byte {
	var n [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		m.Write(n[:])
		io.WriteString(m, p)
	}
	return m.Sum(nil)
}
