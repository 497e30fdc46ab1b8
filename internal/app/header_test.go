package app

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// A reader that stops early has asked for one small piece; one that goes on gets larger ones, up to the limit.
func TestPieces(t *testing.T) {
	t.Parallel()
	whole := make([]byte, 40<<20)
	for i := range whole {
		whole[i] = byte(i >> 10)
	}
	for _, c := range []struct {
		size, read int64
		asked      []int64
		code       gantry.Code
	}{
		{100, 100, []int64{100}, ""},
		{1 << 20, 10, []int64{64 << 10}, ""},
		{1 << 20, 64 << 10, []int64{64 << 10}, ""},
		{1 << 20, 1 << 20, []int64{64 << 10, 256 << 10, 704 << 10}, ""},
		{40 << 20, 33 << 20, []int64{64 << 10, 256 << 10, 1 << 20, 4 << 20, 4 << 20, 4 << 20, 4 << 20, 4 << 20, 4 << 20, 4 << 20, 32<<20 - (29<<20 + 320<<10)}, CodeHeaderTooLarge},
	} {
		var asked []int64
		p := &pieces{size: c.size, open: func(from, n int64) (io.ReadCloser, error) {
			asked = append(asked, n)
			return io.NopCloser(iotest.OneByteReader(io.MultiReader(bytes.NewReader(whole[from:from+n]), bytes.NewReader(whole[:5])))), nil // a server may send more
		}}
		got, err := io.ReadAll(io.LimitReader(p, c.read))
		if err != nil && c.code == "" || c.code != "" && gantry.CodeOf(err) != c.code || p.failed != nil {
			t.Errorf("%d of %d: %v, %v", c.read, c.size, err, p.failed)
		}
		if want := min(c.read, largeHeader); int64(len(got)) != want || !bytes.Equal(got, whole[:want]) {
			t.Errorf("%d of %d: %d bytes", c.read, c.size, len(got))
		}
		if !slices.Equal(asked, c.asked) {
			t.Errorf("%d of %d: pieces of %v", c.read, c.size, asked)
		}
	}
}

// closing counts bodies that are open.
type closing struct {
	io.Reader
	open *int
}

func (c closing) Close() error { *c.open--; return nil }

// A piece of which some is left is closed.
func TestPiecesAreClosed(t *testing.T) {
	t.Parallel()
	open := 0
	p := &pieces{size: 1 << 20, open: func(_, n int64) (io.ReadCloser, error) {
		open++
		return closing{bytes.NewReader(make([]byte, n)), &open}, nil
	}}
	if _, err := io.ReadFull(p, make([]byte, 100<<10)); err != nil || open != 1 {
		t.Fatalf("%d open, %v", open, err)
	}
	p.close()
	if p.close(); open != 0 {
		t.Errorf("%d open", open)
	}
}

// What the source gets wrong is told from what the file has in it: it is kept, and ends the reading.
func TestPiecesThatFail(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for want, body := range map[string]io.Reader{
		"broken": io.MultiReader(bytes.NewReader(make([]byte, 10)), iotest.ErrReader(broken)),
		"transient: read header: the answer is cut short": bytes.NewReader(make([]byte, 10)),
	} {
		p := &pieces{size: 100, open: func(int64, int64) (io.ReadCloser, error) { return io.NopCloser(body), nil }}
		got, err := io.ReadAll(p)
		if len(got) != 10 || err == nil || p.failed == nil || p.failed.Error() != want && gantry.CodeOf(p.failed) != "short_body" {
			t.Errorf("%s: %d bytes, %v", want, len(got), err)
		}
		if n, err := p.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Error("it goes on after a failure")
		}
	}
	p := &pieces{size: 100, open: func(int64, int64) (io.ReadCloser, error) { return nil, broken }}
	if _, err := io.ReadAll(p); !errors.Is(err, broken) || p.failed != broken {
		t.Errorf("%v", err)
	}
}

// Only what is wrong with an object for good turns it away.
func TestHopeless(t *testing.T) {
	t.Parallel()
	for kind, want := range map[gantry.Kind]bool{gantry.Transient: false, gantry.Timeout: false, gantry.Unavailable: false, gantry.BadResponse: false,
		gantry.Denied: false, gantry.NotFound: false, gantry.Permanent: true, gantry.Illegal: true} {
		if code, ever := hopeless(gantry.Errorf(kind, "x", "look")); ever != want || ever && code != "x" {
			t.Errorf("%s: %t, %s", kind, ever, code)
		}
	}
	for _, err := range []error{nil, io.EOF, gantry.ErrFenced, errors.Join(gantry.ErrNotRecorded, gantry.Errorf(gantry.Illegal, "x", "look"))} {
		if _, ever := hopeless(err); ever {
			t.Errorf("%v", err)
		}
	}
}
