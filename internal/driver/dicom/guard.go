package dicom

import (
	"errors"
	"io"
	"iter"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// errUnread ends a scan of what nobody reads any more.
var errUnread = errors.New("the instance is read no further")

// guarded is an instance on its way in: a file meta information of ours, then the data set as it comes. While it is read the
// scanner goes along, so that the bytes are gone through once and the digest of the data set is taken then. The two are coroutines: where the scanner wants
// more it rests until the next bytes have come, and no other processor has to be woken for each of them.
type guarded struct {
	head  []byte
	data  io.Reader
	limit int64          // of the data set
	sum   *gantry.Sealer // of the file, with the digest of the data set
	whole bool           // it was read to its end
	seal  gantry.Seal    // then; before, none
	set   gantry.Digest  // then, of the data set; before, zero
	ahead int64          // bytes of the head
	size  int64          // of the data set so far
	cut   error          // why the data set ended before its end

	feed feed
	scan func() (struct{}, bool) // has the scanner go on; false: it is done
	stop func()                  // ends the scan if nothing else did; must be called
	done bool
	info *dicom.Info
	tags map[string]string
	err  error // the scanner's
}

// guard begins to scan; stop must be called.
func guard(m dicom.FileMeta, data io.Reader, limit int64) *guarded {
	head := m.Append(make([]byte, 0, 512))
	g := &guarded{head: head, data: data, limit: limit, sum: gantry.NewSealer(int64(len(head))), ahead: int64(len(head))}
	g.sum.Write(head)
	g.scan, g.stop = iter.Pull(func(rest func(struct{}) bool) {
		g.feed.rest = rest
		g.info, g.tags, g.err = dicom.ScanTags(&g.feed, -1, dicom.DefaultLimits())
		g.done = true
	})
	return g
}

// feed is what the scanner reads: the bytes that came last, and then, after a rest, the next.
type feed struct {
	left []byte
	end  error // after them; nil: there may be more
	rest func(struct{}) bool
}

func (f *feed) Read(p []byte) (int, error) {
	for len(f.left) == 0 {
		if f.end != nil {
			return 0, f.end
		}
		if !f.rest(struct{}{}) {
			return 0, errUnread
		}
	}
	n := copy(p, f.left)
	f.left = f.left[n:]
	return n, nil
}

// Skip goes past bytes, over as many rests as it takes.
func (f *feed) Skip(n int64) (past int64, err error) {
	for past < n {
		k := min(n-past, int64(len(f.left)))
		f.left = f.left[k:]
		past += k
		switch {
		case past == n:
		case f.end != nil:
			return past, f.end
		case !f.rest(struct{}{}):
			return past, errUnread
		}
	}
	return past, nil
}

// give has the scanner read bytes, which it does not keep.
func (g *guarded) give(p []byte, end error) {
	if g.done {
		return // it refused, or is at its end
	}
	g.feed.left, g.feed.end = p, end
	g.scan()
}

// Read gives the file. Over the limit it is Illegal with code too_large.
func (g *guarded) Read(p []byte) (n int, err error) {
	if len(g.head) > 0 {
		n = copy(p, g.head)
		g.head = g.head[n:]
		g.give(p[:n], nil)
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
		g.give(p[:n], nil)
		g.sum.Write(p[:n])
	}
	switch {
	case err == io.EOF && !g.whole:
		g.whole = true
		g.give(nil, io.EOF)
		g.seal, g.set = g.sum.Sum()
	case err != nil:
		g.cut = err
	}
	return n, err
}

// Seal gives the seal of the file, once it was read to its end. The SHA-256 of the file is left to whoever reads it first: to digest
// is the most of what receiving costs.
func (g *guarded) Seal() (gantry.Seal, int64, bool) {
	return g.seal, g.ahead + g.size, g.whole
}

// warning is the scanner's first, once it is done; empty: it has none.
func (g *guarded) warning() gantry.Code {
	if len(g.info.Warnings) == 0 {
		return ""
	}
	return g.info.Warnings[0]
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
