package media

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sort"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Entries lists the files of the archive in its order, refused ones too. Folders are left out; the
// ordinals count them.
func (t *Tar) Entries() []Entry {
	out := make([]Entry, len(t.files))
	for i := range t.files {
		out[i] = t.files[i].Entry
	}
	return out
}

func (t *Tar) find(ordinal int) (*tarRecord, error) {
	i, ok := sort.Find(len(t.files), func(i int) int { return cmp.Compare(ordinal, t.files[i].Ordinal) })
	if !ok {
		return nil, gantry.Errorf(gantry.NotFound, "", "no such file in the archive")
	}
	f := &t.files[i]
	if f.Rejected {
		return nil, illegal(f.Reason, "refused: %s", f.Reason)
	}
	return f, nil
}

// RawName is the name of a sound entry as it stands in the archive; "" for any other.
func (t *Tar) RawName(ordinal int) string {
	f, err := t.find(ordinal)
	if err != nil {
		return ""
	}
	return f.raw
}

// Open reads one entry from its start. A stream ends with io.EOF once it gave the declared bytes, or
// with an Illegal *gantry.Error: archive_bomb once the budget is spent, truncated if the archive became
// shorter. A tar has no checksum of contents. Errors of the storage keep their kind.
func (t *Tar) Open(ordinal int) (io.ReadCloser, error) {
	f, err := t.find(ordinal)
	if err != nil {
		return nil, fmt.Errorf("open entry %d: %w", ordinal, err)
	}
	t.budget.admitTar(&f.mark, t.depth, f.Size)
	return &tarStream{t: t, f: f, body: io.NewSectionReader(t.r, f.offset, f.Size)}, nil
}

// Section gives random access to an entry that is not refused. Its bytes, which are the archive's
// own, are not charged.
func (t *Tar) Section(ordinal int) (s *io.SectionReader, ok bool) {
	f, err := t.find(ordinal)
	if err != nil {
		return nil, false
	}
	t.budget.admitTar(&f.mark, t.depth, f.Size)
	return io.NewSectionReader(t.r, f.offset, f.Size), true
}

// tarStream is an open entry.
type tarStream struct {
	t    *Tar
	f    *tarRecord
	body io.Reader
	n    int64
	err  error
}

// Read gives the entry's bytes and charges them.
func (s *tarStream) Read(p []byte) (int, error) {
	if s.err != nil || len(p) == 0 {
		return 0, s.err
	}
	n, err := s.body.Read(p)
	s.n += int64(n)
	switch over := s.t.budget.chargeTar(&s.f.mark, s.n); {
	case over != nil:
		n, err = 0, over
	case errors.Is(err, io.EOF) && s.n < s.f.Size:
		err = illegal(gantry.CodeTruncated, "ends at byte %d of %d", s.n, s.f.Size)
	}
	if err != nil && err != io.EOF {
		err = fmt.Errorf("read entry %d: %w", s.f.Ordinal, err)
	}
	s.err = err
	return n, err
}

// Close ends the stream; what is read afterwards is fs.ErrClosed.
func (s *tarStream) Close() error {
	s.err = fs.ErrClosed
	return nil
}
