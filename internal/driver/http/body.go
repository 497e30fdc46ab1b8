package http

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// bufferSize is what is read of an item at once, in bytes.
const bufferSize = 32 << 10

// maxEmpty is how many reads in a row may give nothing.
const maxEmpty = 100

// content is the bytes of a body. whole tells whether the last of them was handed out or may be:
// everything was read to its end without an error.
type content interface {
	io.ReadCloser
	whole() bool
}

// input is the body of one request. The transport reads it in a goroutine of its own, sometimes
// longer than the request lives: after Close nothing is read any more. What went wrong while
// reading is kept, since transports hide it behind errors of their own.
type input struct {
	media string
	size  int64 // -1 if not known

	mu      sync.Mutex
	content content
	closed  bool
	err     error
}

var errClosed = errors.New("read a body that is closed")

// Read reads the content.
func (i *input) Read(p []byte) (int, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return 0, errClosed
	}
	n, err := i.content.Read(p)
	if err != nil && err != io.EOF {
		i.err = err
	}
	return n, err
}

// Close waits for a Read that is under way and closes the content. It may be called twice.
func (i *input) Close() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return nil
	}
	i.closed = true
	return i.content.Close()
}

// failure is what went wrong while reading, as it is unless the end of ctx was the cause.
func (i *input) failure(ctx context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.err != nil && ctx.Err() != nil {
		return classify(ctx, "read item", i.err)
	}
	return i.err
}

// isWhole tells whether a service can have got everything.
func (i *input) isWhole() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.content.whole()
}

// wholeItem is an item as it is. It keeps back the last byte until the item ended well: a digest that
// is wrong shows at the end only, and by then the service would have a whole request.
type wholeItem struct {
	item  io.ReadCloser
	size  int64 // -1 if not known
	got   int64
	held  byte // the byte kept back
	have  bool
	later error // what came together with bytes
	err   error // the end of item or what went wrong
}

func newWhole(r io.ReadCloser, size int64) *wholeItem { return &wholeItem{item: r, size: size} }

// Read gives what was read but the last byte, and that too once the end came.
func (w *wholeItem) Read(p []byte) (n int, err error) {
	for empty := 0; n == 0 && w.err == nil && len(p) > 0; empty++ {
		n, w.err = w.advance(p)
		if w.err == nil && n == 0 && empty >= maxEmpty {
			w.err = io.ErrNoProgress
		}
	}
	return n, w.err
}

// advance reads once behind the byte that is held, and holds the last one.
func (w *wholeItem) advance(p []byte) (int, error) {
	var n int
	if w.have {
		p[0], n = w.held, 1
	}
	var one [1]byte
	rest := p[n:]
	if len(rest) == 0 {
		rest = one[:]
	}
	got, err := w.read(rest)
	w.got += int64(got)
	if w.size >= 0 && (w.got > w.size || err == io.EOF && w.got < w.size) {
		return 0, gantry.Errorf(gantry.Transient, CodeSizeMismatch, "read item: it is not the %d bytes that it should be", w.size)
	}
	switch {
	case err == io.EOF:
		return n, err
	case got == 0:
		return 0, err
	}
	w.held, w.have = rest[got-1], true
	return n + got - 1, nil
}

// read never gives bytes together with an error.
func (w *wholeItem) read(p []byte) (n int, err error) {
	if w.later != nil {
		return 0, w.later
	}
	if n, err = w.item.Read(p); n > 0 {
		w.later, err = err, nil
	}
	return n, err
}

func (w *wholeItem) whole() bool  { return w.err == io.EOF }
func (w *wholeItem) Close() error { return w.item.Close() }

// archive is a ZIP of all items, made while it is read: stored, without times, named by their
// place. The same items give the same bytes. The central directory comes only after every item
// ended well.
type archive struct {
	ctx   context.Context
	req   *gantry.Request
	out   bytes.Buffer // made and not read yet
	zip   *zip.Writer
	chunk []byte

	next  int           // the item to open next
	item  io.ReadCloser // the one that is open
	entry io.Writer
	left  int64 // what the open item may still hold; below 0 if not known
	err   error // io.EOF when all is made
}

func newArchive(ctx context.Context, req *gantry.Request) *archive {
	a := &archive{ctx: ctx, req: req, chunk: make([]byte, bufferSize)}
	a.zip = zip.NewWriter(&a.out)
	return a
}

// Read gives the next bytes of the archive.
func (a *archive) Read(p []byte) (int, error) {
	for a.out.Len() == 0 {
		if a.err != nil {
			return 0, a.err
		}
		a.err = a.advance()
	}
	return a.out.Read(p)
}

// advance makes a little more of the archive.
func (a *archive) advance() error {
	switch {
	case a.item != nil:
		return a.copy()
	case a.next < len(a.req.Items):
		return a.begin()
	}
	if err := a.zip.Close(); err != nil {
		return err
	}
	return io.EOF
}

// begin opens the next item and its entry.
func (a *archive) begin() error {
	it := a.req.Items[a.next]
	r, err := a.req.Open(a.ctx, a.next)
	if err != nil {
		return err
	}
	a.next++
	a.item, a.left = r, it.Size
	a.entry, err = a.zip.CreateHeader(&zip.FileHeader{Name: fmt.Sprintf("%06d%s", a.next, extension(it.Media)), Method: zip.Store})
	return err
}

// copy moves one chunk of the open item.
func (a *archive) copy() error {
	known := a.left >= 0
	n, err := a.item.Read(a.chunk)
	if known {
		a.left -= int64(n)
	}
	if known && (a.left < 0 || err == io.EOF && a.left > 0) {
		return gantry.Errorf(gantry.Transient, CodeSizeMismatch, "read item %d: it is not as long as it should be", a.next)
	}
	if err != nil && err != io.EOF {
		return err
	}
	if _, werr := a.entry.Write(a.chunk[:n]); werr != nil {
		return werr
	}
	if err == io.EOF {
		err = a.item.Close()
		a.item = nil
	}
	if err != nil {
		return err
	}
	return a.zip.Flush()
}

func (a *archive) whole() bool { return a.err == io.EOF }

// Close closes the item that is open.
func (a *archive) Close() error {
	if a.item == nil {
		return nil
	}
	return a.item.Close()
}

// extension is the end of an entry's name.
func extension(media string) string {
	switch media {
	case gantry.MediaDICOM:
		return ".dcm"
	case gantry.MediaPNG:
		return ".png"
	case gantry.MediaJPEG:
		return ".jpg"
	case gantry.MediaNPY:
		return ".npy"
	case gantry.MediaJSON:
		return ".json"
	}
	return ".bin"
}
