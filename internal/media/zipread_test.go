package media

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"testing"
	"testing/iotest"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func openBytes(t *testing.T, data []byte) *Zip {
	t.Helper()
	z, err := OpenZip(bytes.NewReader(data), int64(len(data)), 1, NewBudget(corpusLimits))
	wantCode(t, err)
	return z
}

func TestOpenStreams(t *testing.T) {
	t.Parallel()
	for _, method := range []uint16{stored, deflated} {
		for _, content := range [][]byte{nil, object(1), bytes.Repeat(object(2), 200)} {
			z := openBytes(t, zipOf(method, content))
			s, err := z.Open(0)
			wantCode(t, err)
			if err := iotest.TestReader(s, content); err != nil {
				t.Errorf("method %d, %d bytes: %v", method, len(content), err)
			}
			wantCode(t, s.Close())
			wantCode(t, s.Close())
			if _, err := s.Read(make([]byte, 1)); !errors.Is(err, fs.ErrClosed) {
				t.Errorf("read after close: %v", err)
			}
		}
	}
}

// A decoder that goes back to the pool serves the next entry and none before.
func TestOpenReusesDecoders(t *testing.T) {
	t.Parallel()
	z := openBytes(t, zipOf(deflated, object(0), bytes.Repeat(object(1), 100), object(2)))
	for range 3 {
		half, err := z.Open(1)
		wantCode(t, err)
		_, err = io.ReadFull(half, make([]byte, 5000))
		wantCode(t, err)
		other, err := z.Open(2)
		wantCode(t, err)
		wantCode(t, half.Close())
		got, err := readEntry(z, 0)
		wantCode(t, err)
		if !bytes.Equal(got, object(0)) {
			t.Error("entry 0 has other bytes after a stream was given up")
		}
		got, err = io.ReadAll(other)
		wantCode(t, err)
		if !bytes.Equal(got, object(2)) {
			t.Error("entry 2 has other bytes while others were read")
		}
		wantCode(t, other.Close())
	}
}

// A buffer of just the declared size hides nothing: the verdict comes with the next read.
func TestOpenVerdictAfterTheLastByte(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		p    part
		want gantry.Code
	}{
		"wrong CRC": {part{data: object(1), crc: ptr(1)}, CodeChecksumMismatch},
		"too long":  {part{data: object(1), size: ptr(100), method: deflated}, CodeLengthOutOfBounds},
	} {
		c.p.name = "a"
		z := openBytes(t, new(maker).add(c.p).bytes())
		s, err := z.Open(0)
		wantCode(t, err)
		buf := make([]byte, z.Entries()[0].Size)
		_, err = io.ReadFull(s, buf)
		if err == nil {
			_, err = s.Read(buf)
		}
		if gantry.CodeOf(err) != c.want {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
		if _, again := s.Read(buf); again != err {
			t.Errorf("%s: the next read gives %v, want the same error", name, again)
		}
		if !bytes.Equal(buf, object(1)[:len(buf)]) {
			t.Errorf("%s: other bytes than those in the archive", name)
		}
		_ = s.Close()
	}
}

func TestSection(t *testing.T) {
	t.Parallel()
	m := new(maker).
		add(part{name: "a", data: object(0), extraHere: []byte("\xfe\xca\x02\x00??")}).
		add(part{name: "b", data: object(1), method: deflated}).
		add(part{name: "c", data: object(2), local: "x"}).
		add(part{name: "../d", data: object(3)})
	z := openBytes(t, m.bytes())
	s, ok := z.Section(0)
	if !ok {
		t.Fatal("no random access to a stored entry")
	}
	got := make([]byte, 50)
	_, err := s.ReadAt(got, 200)
	wantCode(t, err)
	if s.Size() != int64(len(object(0))) || !bytes.Equal(got, object(0)[200:250]) {
		t.Error("random access gives other bytes")
	}
	for name, i := range map[string]int{"deflated": 1, "broken": 2, "refused": 3, "no": 4} {
		if _, ok := z.Section(i); ok {
			t.Errorf("random access to a %s entry", name)
		}
	}
}

// Storage that holds less than it should makes an entry truncated.
func TestOpenShortStorage(t *testing.T) {
	t.Parallel()
	for _, method := range []uint16{stored, deflated} {
		data := zipOf(method, object(0))
		z := openBytes(t, data)
		for _, n := range []int{0, 20, 400} {
			z.r = bytes.NewReader(data[:n])
			_, err := readEntry(z, 0)
			wantCode(t, err, gantry.CodeTruncated)
		}
	}
}
