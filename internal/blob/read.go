package blob

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync/atomic"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Open reads a blob by its location. One that is not there is NotFound with code blob_missing;
// one whose record does not begin as it must, Illegal with code blob_corrupt. The bytes themselves
// are checked by Verify, or by whoever reads them all.
func (d *Dir) Open(ctx context.Context, where string) (gantry.Blob, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := d.checkOpen(); err != nil {
		return nil, err
	}
	l, err := parseLocation(where)
	if err != nil {
		return nil, err
	}
	open := d.openRecord
	if !l.sha.IsZero() {
		open = d.openFile
	}
	b, err := open(l)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, gantry.Errorf(gantry.NotFound, CodeMissing, "open blob %s: it is not in the store", l)
	}
	if err != nil {
		return nil, diskError("open blob", err)
	}
	return b, nil
}

func (d *Dir) openFile(l location) (*reading, error) {
	f, err := os.Open(l.path(d.root))
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &reading{r: io.NewSectionReader(f, 0, fi.Size()), release: f.Close}, nil
}

func (d *Dir) openRecord(l location) (*reading, error) {
	h, err := d.handles.get(l.segment)
	if err != nil {
		return nil, err
	}
	seal, err := checkAt(h.f, l)
	if err != nil {
		d.handles.put(h)
		return nil, err
	}
	body := io.NewSectionReader(h.f, l.offset+recordHeader, l.length)
	return &reading{r: body, seal: seal, release: func() error { d.handles.put(h); return nil }}, nil
}

// checkAt gives the seal of the record that is where l says, if the file goes on to its end.
func checkAt(f *os.File, l location) (none gantry.Seal, err error) {
	var head [recordHeader]byte
	_, err = f.ReadAt(head[:], l.offset)
	if err != nil && err != io.EOF {
		return none, err
	}
	if err == io.EOF || !checkRecord(head[:], l.length) {
		return none, gantry.Errorf(gantry.Illegal, CodeCorrupt, "open blob %s: there is no such record", l)
	}
	fi, err := f.Stat()
	if err != nil {
		return none, err
	}
	if fi.Size()-recordHeader-l.length < l.offset {
		return none, gantry.Errorf(gantry.Illegal, CodeCorrupt, "open blob %s: the segment ends before it", l)
	}
	return sealOf(head[:]), nil
}

// Verify reads a blob to its end and compares its digest. Other bytes are Illegal with code
// blob_corrupt; the rest is as for Open.
func (d *Dir) Verify(ctx context.Context, where string, sha gantry.Digest) error {
	b, err := d.Open(ctx, where)
	if err != nil {
		return err
	}
	defer b.Close()
	h := sha256.New()
	buf := make([]byte, min(chunk, b.Size()))
	for off := int64(0); off < b.Size(); {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := b.ReadAt(buf[:min(int64(len(buf)), b.Size()-off)], off)
		h.Write(buf[:n])
		off += int64(n)
		if err == io.EOF {
			break
		}
		if err != nil {
			return diskError("read blob", err)
		}
	}
	if gantry.Digest(h.Sum(nil)) != sha {
		return gantry.Errorf(gantry.Illegal, CodeCorrupt, "verify blob: its bytes do not have the recorded digest")
	}
	return nil
}

// reading is an open blob.
type reading struct {
	r       *io.SectionReader
	seal    gantry.Seal // of a record
	release func() error
	closed  atomic.Bool
}

func (b *reading) Size() int64 { return b.r.Size() }

// Seal is that of a record in a segment.
func (b *reading) Seal() (gantry.Seal, int64, bool) {
	return b.seal, b.Size(), !b.seal.SHA.IsZero()
}

func (b *reading) ReadAt(p []byte, off int64) (int, error) {
	if b.closed.Load() {
		return 0, os.ErrClosed
	}
	return b.r.ReadAt(p, off)
}

func (b *reading) Close() error {
	if !b.closed.CompareAndSwap(false, true) {
		return os.ErrClosed
	}
	return b.release()
}
