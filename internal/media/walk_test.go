package media

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/google/go-cmp/cmp"
)

// walked is what a walk over an archive and all archives in it found, by the top archive's entries.
type walked struct {
	entries, good int
	refused       []gantry.Code // of entries
	warned        []gantry.Code
	bytes         int64 // read, at all depths
}

// walk does what an engine does: it opens an archive, reads every entry and goes into those that
// are archives, with random access where there is some. A verdict that is about the whole task
// ends it.
func walk(r io.ReaderAt, size int64, depth int, b *Budget) (walked, error) {
	var w walked
	z, err := openAny(r, size, depth, b)
	if err != nil {
		return w, err
	}
	for _, e := range z.Entries() {
		w.entries++
		code, err := gantry.Code(""), error(nil)
		if !e.Rejected {
			code, err = w.visit(z, e, depth, b)
		}
		switch {
		case err != nil:
			return w, err
		case e.Rejected:
			w.refused = append(w.refused, e.Reason)
		case code != "":
			w.refused = append(w.refused, code)
		default:
			w.good++
			if e.Reason != "" {
				w.warned = append(w.warned, e.Reason)
			}
		}
	}
	return w, nil
}

// openAny opens an archive of any kind: a compressed tar is unpacked first. What is no known kind
// is tried as a zip, which may lie behind other bytes.
func openAny(r io.ReaderAt, size int64, depth int, b *Budget) (Archive, error) {
	kind, err := DetectAt(r, size)
	if err != nil {
		return nil, err
	}
	switch kind {
	case gantry.MediaGZIP, gantry.MediaZSTD:
		var out bytes.Buffer
		_, err := Decompress(context.Background(), kind, io.NewSectionReader(r, 0, size), &out, depth, b)
		if err != nil {
			return nil, err
		}
		return OpenArchive(gantry.MediaTAR, bytes.NewReader(out.Bytes()), int64(out.Len()), depth, b)
	case gantry.MediaTAR:
		return OpenArchive(kind, r, size, depth, b)
	}
	return OpenArchive(gantry.MediaZIP, r, size, depth, b)
}

// visit reads one entry. It gives the reason if the entry alone is bad.
func (w *walked) visit(z Archive, e Entry, depth int, b *Budget) (gantry.Code, error) {
	data, err := readEntry(z, e.Ordinal)
	w.bytes += int64(len(data))
	if kind := Detect(data); err == nil && (kind == gantry.MediaZIP || kind == gantry.MediaTAR || kind == gantry.MediaGZIP) {
		inner := io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data)))
		if s, ok := z.Section(e.Ordinal); ok {
			inner = s
		}
		var below walked
		below, err = walk(inner, inner.Size(), depth+1, b)
		w.bytes += below.bytes
	}
	switch code := gantry.CodeOf(err); {
	case err == nil:
		return "", nil
	case gantry.KindOf(err) != gantry.Illegal || code == "":
		return "", fmt.Errorf("no verdict: %w", err)
	case code == CodeTooDeep, code == CodeArchiveBomb, code == CodeTooManyEntries:
		return "", err
	default:
		return code, nil
	}
}

func readEntry(z Archive, ordinal int) ([]byte, error) {
	s, err := z.Open(ordinal)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return io.ReadAll(s)
}

func walkBytes(data []byte, l Limits) (walked, error) {
	return walk(bytes.NewReader(data), int64(len(data)), 1, NewBudget(l))
}

func TestWalkNestedArchives(t *testing.T) {
	t.Parallel()
	fan := zipOf(deflated, make([]byte, 1<<20))
	for range 5 {
		m := new(maker)
		for i := range 16 {
			m.add(part{name: fmt.Sprintf("%d.zip", i), data: fan, method: deflated})
		}
		fan = m.bytes()
	}
	for name, c := range map[string]struct {
		data []byte
		want gantry.Code
	}{
		"as deep as the limit":           {nest(3, stored), ""},
		"as deep as the limit, deflated": {nest(3, deflated), ""},
		"one over":                       {nest(4, stored), CodeTooDeep},
		"one over, deflated":             {nest(4, deflated), CodeTooDeep},
		"two hundred":                    {nest(200, stored), CodeTooDeep},
		"fan of six levels":              {fan, CodeTooDeep},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, err := walkBytes(c.data, corpusLimits)
			wantCode(t, err, c.want)
			if c.want == "" && w.good != 1 {
				t.Errorf("%d good entries, want 1", w.good)
			}
		})
	}
}

// One budget for all nesting: what is harmless in each archive is too much in all.
func TestWalkSharedBudget(t *testing.T) {
	t.Parallel()
	zeros := zipOf(deflated, make([]byte, 300_000))
	padded := new(maker).add(part{name: "pad", data: make([]byte, 5<<20)}).add(blank("a", 1)).bytes()
	nine := new(maker).add(blank("a", 9)).bytes()
	for name, c := range map[string]struct {
		data   []byte
		limits Limits
		want   gantry.Code
	}{
		"entries of all archives": {
			zipOf(stored, zipOf(stored, object(1), object(2)), zipOf(stored, object(3), object(4))),
			Limits{Depth: 2, MaxBytes: 1 << 20, MaxEntries: 5, MaxRatio: 100}, CodeTooManyEntries,
		},
		"just enough entries": {
			zipOf(stored, zipOf(stored, object(1), object(2)), zipOf(stored, object(3), object(4))),
			Limits{Depth: 2, MaxBytes: 1 << 20, MaxEntries: 6, MaxRatio: 100}, "",
		},
		"bytes of all archives": {
			zipOf(stored, zeros, zeros, zeros),
			Limits{Depth: 2, MaxBytes: 800_000, MaxEntries: 10, MaxRatio: 100}, CodeArchiveBomb,
		},
		"ratio of all archives": {
			zipOf(stored, nine, nine),
			Limits{Depth: 2, MaxBytes: 1 << 30, MaxEntries: 10, MaxRatio: 100}, CodeArchiveBomb,
		},
		"ratio to what was sent, not to what came out of it": {
			zipOf(deflated, padded),
			Limits{Depth: 2, MaxBytes: 1 << 30, MaxEntries: 10, MaxRatio: 100}, CodeArchiveBomb,
		},
		"ratio below its floor": {
			zipOf(stored, nine),
			Limits{Depth: 2, MaxBytes: 1 << 30, MaxEntries: 10, MaxRatio: 100}, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := walkBytes(c.data, c.limits)
			wantCode(t, err, c.want)
		})
	}
}

// The bytes of an entry are charged once however often it is read, those of one archive once per
// opening.
func TestBudgetChargesOnce(t *testing.T) {
	t.Parallel()
	data := zipOf(deflated, object(1), object(2))
	b := NewBudget(Limits{Depth: 1, MaxBytes: int64(len(object(1)) * 2), MaxEntries: 2, MaxRatio: 100})
	z, err := OpenZip(bytes.NewReader(data), int64(len(data)), 1, b)
	wantCode(t, err)
	for range 5 {
		for i := range 2 {
			got, err := readEntry(z, i)
			wantCode(t, err)
			if diff := cmp.Diff(object(i+1), got); diff != "" {
				t.Fatalf("entry %d (-want +got):\n%s", i, diff)
			}
		}
	}
	if b.out != b.limits.MaxBytes {
		t.Errorf("%d bytes charged, want %d", b.out, b.limits.MaxBytes)
	}
	_, err = OpenZip(bytes.NewReader(data), int64(len(data)), 1, b)
	wantCode(t, err, CodeTooManyEntries)
}

func TestBudgetIsSharedByGoroutines(t *testing.T) {
	t.Parallel()
	var files [][]byte
	for i := range 50 {
		files = append(files, object(i))
	}
	data := zipOf(deflated, files...)
	b := NewBudget(Limits{Depth: 1, MaxBytes: 1 << 20, MaxEntries: 50, MaxRatio: 100})
	z, err := OpenZip(bytes.NewReader(data), int64(len(data)), 1, b)
	wantCode(t, err)
	errs := make(chan error)
	for g := range 4 {
		go func() {
			for i := range 50 {
				got, err := readEntry(z, (i+g*13)%50)
				if err == nil && !bytes.Equal(got, files[(i+g*13)%50]) {
					err = fmt.Errorf("wrong bytes of entry %d", i)
				}
				if err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if want := int64(50 * len(files[0])); b.out != want {
		t.Errorf("%d bytes charged, want %d", b.out, want)
	}
}

func TestLimitsOver(t *testing.T) {
	t.Parallel()
	l := Limits{MaxRatio: 100}
	for _, c := range []struct {
		out, in int64
		want    bool
	}{
		{ratioFrom, 0, false},
		{ratioFrom + 1, 0, true},
		{20_000_000, 200_000, false},
		{20_000_001, 200_000, true},
		{1<<63 - 1, 1 << 62, false},
	} {
		if got := l.over(c.out, c.in); got != c.want {
			t.Errorf("over(%d, %d) = %v, want %v", c.out, c.in, got, c.want)
		}
	}
}
