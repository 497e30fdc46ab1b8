package dicom

import (
	"bytes"
	"compress/flate"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestSendNotAccepted sends nothing in another syntax than its own, and says which object that was to nobody.
func TestSendNotAccepted(t *testing.T) {
	t.Parallel()
	a := archiveAt(t, &archive{takes: func(c dimse.Context) bool { return c.Transfer[0] == dimse.ExplicitLE }}, nil)
	s := senderTo(t, a)
	refused, _ := part10(classCT, uidOf(1), syntaxJPEG, 100)
	for range 3 {
		_, err := s.send(t.Context(), fileFrom(refused))
		wantError(t, "send", err, gantry.Permanent, CodeNotAccepted)
	}
	taken, dataset := part10(classCT, uidOf(2), dimse.ExplicitLE, 100)
	if _, err := s.send(t.Context(), fileFrom(taken)); err != nil {
		t.Error(err)
	}
	a.want(t, map[string][]byte{uidOf(2): dataset})
	if _, n := a.seen(); n != 2 {
		t.Errorf("%d associations: what the peer said it does not take is known", n)
	}
}

// TestSendRejected holds rejections to what they mean.
func TestSendRejected(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		r    dimse.Rejection
		kind gantry.Kind
	}{
		{dimse.Rejection{Source: 1, Reason: 7}, gantry.Denied},
		{dimse.Rejection{Source: 1, Reason: 3}, gantry.Denied},
		{dimse.Rejection{Transient: true, Source: 3, Reason: 2}, gantry.Unavailable},
	} {
		a := archiveAt(t, &archive{admit: func(dimse.Proposal) error { return &c.r }}, nil)
		b, _ := part10(classCT, uidOf(1), dimse.ExplicitLE, 100)
		_, err := senderTo(t, a).send(t.Context(), fileFrom(b))
		if gantry.KindOf(err) != c.kind || err == nil {
			t.Errorf("%+v: %v (%s)", c.r, err, gantry.KindOf(err))
		}
	}
}

// TestSendBrokenFile never makes a whole message of a file that is not what it should be.
func TestSendBrokenFile(t *testing.T) {
	t.Parallel()
	a := archiveAt(t, &archive{}, nil)
	s := senderTo(t, a)
	errMine := gantry.Errorf(gantry.Permanent, "mine", "mine")
	for _, size := range []int{100, 500_000} {
		b, _ := part10(classCT, uidOf(1), dimse.ExplicitLE, size)
		changed := append([]byte{}, b...)
		changed[len(b)-1] ^= 1
		of := func(sent []byte, err error) func(context.Context) (io.ReadCloser, error) {
			return func(context.Context) (io.ReadCloser, error) {
				return io.NopCloser(io.MultiReader(strings.NewReader(string(sent)), failingReader{err})), nil
			}
		}
		for what, c := range map[string]struct {
			open func(context.Context) (io.ReadCloser, error)
			kind gantry.Kind
			code gantry.Code
		}{
			"fewer":   {of(b[:len(b)-2], io.EOF), gantry.Transient, CodeSizeMismatch},
			"more":    {of(append(b[:len(b):len(b)], 0, 0), io.EOF), gantry.Transient, CodeSizeMismatch},
			"changed": {of(changed, io.EOF), gantry.Transient, CodeChecksumMismatch},
			"fails":   {of(b[:len(b)-10], errMine), gantry.Permanent, "mine"},
			"at end":  {of(b, errMine), gantry.Permanent, "mine"},
			"no file": {of([]byte("nothing of the kind"), io.EOF), gantry.Illegal, "not_dicom"},
		} {
			f := fileFrom(b)
			f.open = c.open
			if what == "no file" {
				f.size, f.sha = -1, gantry.Digest{}
			}
			_, err := s.send(t.Context(), f)
			wantError(t, what, err, c.kind, c.code)
		}
		a.want(t, map[string][]byte{})
		if _, err := s.send(t.Context(), fileFrom(b)); err != nil { // nothing stays broken
			t.Error(err)
		}
		a.mu.Lock()
		clear(a.got)
		a.mu.Unlock()
	}
}

// TestSendOdd pads what may be padded, and says of the rest what is wrong with it.
func TestSendOdd(t *testing.T) {
	t.Parallel()
	a := archiveAt(t, &archive{}, nil)
	s := senderTo(t, a)
	odd, _ := part10(classCT, uidOf(1), dimse.ExplicitLE, 100)
	_, err := s.send(t.Context(), fileFrom(odd[:len(odd)-1]))
	wantError(t, "odd", err, gantry.Permanent, CodeOddLength)
	deflated := oddDeflated(t, uidOf(2))
	o, data, err := dicom.Split(bytes.NewReader(deflated))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(data)
	if _, err := s.send(t.Context(), fileFrom(deflated)); err != nil || len(body)%2 == 0 || o.Transfer != dimse.DeflatedLE {
		t.Fatal(err, len(body))
	}
	a.want(t, map[string][]byte{uidOf(2): append(body, 0)})
}

// oddDeflated makes a file whose deflated data set has an odd number of bytes.
func oddDeflated(t *testing.T, instance string) []byte {
	t.Helper()
	for n := range 100 {
		file, dataset := part10(classCT, instance, dimse.DeflatedLE, 2*n)
		var z bytes.Buffer
		w, err := flate.NewWriter(&z, flate.BestSpeed)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(dataset)
		w.Close()
		if z.Len()%2 == 1 {
			return append(file[:len(file)-len(dataset)], z.Bytes()...)
		}
	}
	t.Fatal("none is odd")
	return nil
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }
