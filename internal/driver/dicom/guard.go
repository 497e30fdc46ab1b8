package dicom

import (
	"crypto/sha256"
	"errors"
	"hash"
	"io"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// errUnread ends a scan of what nobody reads any more.
var errUnread = errors.New("the instance is read no further")

// guarded is an instance on its way in: a file meta information of ours, then the data set as it comes. While it is read the
// scanner goes along, in a goroutine of its own, so that the bytes are gone through once and each digest is taken once.
type guarded struct {
	head  []byte
	data  io.Reader
	limit int64 // of the data set
	sum   hash.Hash
	size  int64 // of the data set so far
	cut   error // why the data set ended before its end

	to   *io.PipeWriter
	done chan struct{}
	info *dicom.Info
	tags map[string]string
	err  error // the scanner's
}

// guard begins to scan; stop must be called.
func guard(m dicom.FileMeta, data io.Reader, limit int64) *guarded {
	from, to := io.Pipe()
	g := &guarded{head: m.Append(make([]byte, 0, 512)), data: data, limit: limit, sum: sha256.New(), to: to, done: make(chan struct{})}
	go func() {
		defer close(g.done)
		g.info, g.tags, g.err = dicom.ScanTags(from, -1, dicom.DefaultLimits())
		from.CloseWithError(errUnread) // whoever writes on does not wait
	}()
	return g
}

// Read gives the file. Over the limit it is Illegal with code too_large.
func (g *guarded) Read(p []byte) (n int, err error) {
	if len(g.head) > 0 {
		n = copy(p, g.head)
		g.head = g.head[n:]
		g.to.Write(p[:n])
		return n, nil
	}
	if g.cut != nil {
		return 0, g.cut
	}
	n, err = g.data.Read(p)
	if g.size += int64(n); g.size > g.limit {
		n, err = 0, gantry.Errorf(gantry.Illegal, gantry.CodeTooLarge, "receive instance: over the limit of %d MiB", g.limit>>20)
	}
	if n > 0 {
		g.to.Write(p[:n])
		g.sum.Write(p[:n])
	}
	switch {
	case err == io.EOF:
		g.to.Close()
		<-g.done
	case err != nil:
		g.cut = err
	}
	return n, err
}

// Digest gives the SHA-256 of the file once it was read to its end, which the scanner takes anyway.
func (g *guarded) Digest() (gantry.Digest, int64, bool) {
	select {
	case <-g.done:
	default:
		return gantry.Digest{}, 0, false
	}
	if g.info == nil {
		return gantry.Digest{}, 0, false
	}
	return g.info.SHA, g.info.Size, true
}

// warning is the scanner's first, once it is done; empty: it has none.
func (g *guarded) warning() gantry.Code {
	if len(g.info.Warnings) == 0 {
		return ""
	}
	return g.info.Warnings[0]
}

// stop ends the scan if nothing else did.
func (g *guarded) stop() {
	g.to.CloseWithError(errUnread)
	<-g.done
}

// agrees tells whether the data set is what the command says of it. A refusal is Illegal.
func (g *guarded) agrees(class, instance string) error {
	switch {
	case g.err != nil:
		return g.err
	case g.info.SOPClass != class:
		return gantry.Errorf(gantry.Illegal, codeClassMismatch, "receive instance: its SOP class is another than that of the command")
	case g.info.SOPInstance != instance:
		return gantry.Errorf(gantry.Illegal, codeInstanceMismatch, "receive instance: its SOP Instance UID is another than that of the command")
	}
	return nil
}
