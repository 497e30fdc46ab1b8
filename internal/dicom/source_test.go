package dicom

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
)

// noise is n bytes that no reader could guess.
func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
	return b
}

// Whatever mix of calls is made, the bytes come in order, once, and are all hashed.
func TestSourceInOrder(t *testing.T) {
	t.Parallel()
	want := noise(5*bufferSize + 77)
	for name, r := range map[string]io.Reader{
		"whole":    bytes.NewReader(want),
		"halves":   iotest.HalfReader(bytes.NewReader(want)),
		"with EOF": iotest.DataErrReader(bytes.NewReader(want)),
	} {
		s := newSource(r, int64(len(want)), sha256.New())
		rnd := rand.New(rand.NewPCG(1, 2))
		at := 0
		for at < len(want) {
			n := min(1+rnd.IntN(bufferSize), len(want)-at)
			switch rnd.IntN(5) {
			case 0:
				b, err := s.peek(n)
				if err != nil || !bytes.Equal(b, want[at:at+n]) {
					t.Fatalf("%s: peek(%d) at %d: %v", name, n, at, err)
				}
			case 1:
				b, err := s.chunk(int64(n))
				if err != nil || len(b) == 0 || len(b) > n || !bytes.Equal(b, want[at:at+len(b)]) {
					t.Fatalf("%s: chunk(%d) at %d: %d bytes, %v", name, n, at, len(b), err)
				}
				at += len(b)
			case 2:
				if err := s.skip(int64(n)); err != nil {
					t.Fatalf("%s: skip(%d) at %d: %v", name, n, at, err)
				}
				at += n
			case 3:
				c, err := s.ReadByte()
				if err != nil || c != want[at] {
					t.Fatalf("%s: byte at %d: %v", name, at, err)
				}
				at++
			case 4:
				b := make([]byte, n)
				k, err := s.Read(b)
				if err != nil || k == 0 || !bytes.Equal(b[:k], want[at:at+k]) {
					t.Fatalf("%s: read(%d) at %d: %d, %v", name, n, at, k, err)
				}
				at += k
			}
			if s.pos() != int64(at) {
				t.Fatalf("%s: at %d, want %d", name, s.pos(), at)
			}
		}
		if err := s.drain(); err != nil || [32]byte(s.hash.Sum(nil)) != sha256.Sum256(want) {
			t.Errorf("%s: %v, or another digest", name, err)
		}
	}
}

func TestSourceEnd(t *testing.T) {
	t.Parallel()
	end := func() *source { return newSource(bytes.NewReader([]byte("abc")), -1, nil) }
	if b, err := end().peek(4); !errors.Is(err, errShort) || string(b) != "abc" {
		t.Errorf("peek: %q, %v", b, err)
	}
	if err := end().skip(4); !errors.Is(err, errShort) {
		t.Errorf("skip: %v", err)
	}
	s := end()
	if err := s.skip(3); err != nil {
		t.Error(err)
	}
	if more, err := s.more(); more || err != nil {
		t.Errorf("more: %v, %v", more, err)
	}
	if _, err := s.chunk(1); !errors.Is(err, errShort) {
		t.Errorf("chunk: %v", err)
	}
	if _, err := s.ReadByte(); err != io.EOF {
		t.Errorf("byte: %v", err)
	}
	if _, err := s.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read: %v", err)
	}
	if n, err := s.Read(nil); n != 0 || err != nil {
		t.Errorf("read nothing: %d, %v", n, err)
	}
}

// An error of the reader stays what it is for every call.
func TestSourceError(t *testing.T) {
	t.Parallel()
	lost := errors.New("lost")
	for name, call := range map[string]func(*source) error{
		"peek":  func(s *source) error { _, err := s.peek(4); return err },
		"skip":  func(s *source) error { return s.skip(4) },
		"more":  func(s *source) error { s.skip(3); _, err := s.more(); return err },
		"drain": func(s *source) error { return s.drain() },
		"byte":  func(s *source) error { s.skip(3); _, err := s.ReadByte(); return err },
	} {
		s := newSource(io.MultiReader(bytes.NewReader([]byte("abc")), iotest.ErrReader(lost)), -1, nil)
		if err := call(s); !errors.Is(err, lost) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
