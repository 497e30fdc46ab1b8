package drivertest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Shelf is a sink under test and a way to see what lies in it.
type Shelf struct {
	Sink gantry.Sink
	// List gives every file that somebody who looks for results would take for one, by its path.
	List func() (map[string][]byte, error)
	// Body makes a file of about n bytes that the sink takes, the same for the same path, n and seed; nil: it takes any bytes.
	Body func(path string, n int, seed uint64) []byte
}

func (s Shelf) body(path string, n int, seed uint64) []byte {
	if s.Body == nil {
		return random(n, seed)
	}
	return s.Body(path, n, seed)
}

// Sink runs what every sink must do. open makes an empty shelf.
func Sink(t *testing.T, open func(t *testing.T) Shelf) {
	t.Helper()
	suite(t, open, sinkCases())
}

// Archive runs what every sink must do whose server knows objects by a name of their own, and neither paths nor whether other bytes
// come under a name that it knows.
func Archive(t *testing.T, open func(t *testing.T) Shelf) {
	t.Helper()
	suite(t, open, archiveCases())
}

func archiveCases() (cases []testCase[Shelf]) {
	for _, c := range sinkCases() {
		switch c.name {
		case "delivers", "refuses other bytes", "lets one of several win", "keeps below its folder":
		default:
			cases = append(cases, c)
		}
	}
	return cases
}

func sinkCases() []testCase[Shelf] {
	return []testCase[Shelf]{
		{"delivers", sinkDelivers},
		{"repeats without a change", sinkRepeats},
		{"refuses other bytes", sinkConflicts},
		{"delivers one path at once", sinkAtOnce},
		{"lets one of several win", sinkOneWins},
		{"delivers several paths at once", sinkSideBySide},
		{"shows nothing when cancelled", sinkCancelled},
		{"shows nothing when cancelled midway", sinkCancelledMidway},
		{"shows nothing of what cannot be read", sinkUnreadable},
		{"shows nothing of other bytes than announced", sinkMismatch},
		{"delivers after a failed try", sinkAfterFailure},
		{"keeps below its folder", sinkEscapes},
	}
}

// parcel makes a delivery of body whose readers h counts.
func parcel(h *handles, path string, body []byte) gantry.Delivery {
	return gantry.Delivery{
		Path: path, Media: gantry.MediaDICOM, Size: int64(len(body)), SHA: sha256.Sum256(body),
		Open: func(context.Context) (io.ReadCloser, error) { return h.reader(body, nil), nil },
	}
}

func (s Shelf) want(want map[string][]byte) error {
	got, err := s.List()
	if err != nil {
		return err
	}
	if !maps.EqualFunc(got, want, bytes.Equal) {
		return fmt.Errorf("the shelf holds %q, want %q (or the bytes differ)", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
	return nil
}

func sinkDelivers(ctx context.Context, s Shelf) error {
	var h handles
	want := map[string][]byte{
		"task/0001.dcm":         random(100, 1),
		"task/0002.dcm":         random(3<<20+1, 2),
		"task/empty.json":       {},
		"task/a/b/c/d/0003.png": random(1, 3),
		"other/0001.dcm":        random(100, 4),
	}
	for _, path := range slices.Sorted(maps.Keys(want)) {
		if err := s.Sink.Deliver(ctx, parcel(&h, path, want[path])); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	last := parcel(&h, "task/manifest.json", []byte("{}"))
	last.Manifest, last.Media, want[last.Path] = true, gantry.MediaJSON, []byte("{}")
	if err := s.Sink.Deliver(ctx, last); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	return errors.Join(s.want(want), h.allClosed())
}

func sinkRepeats(ctx context.Context, s Shelf) error {
	var h handles
	body := s.body("task/0001.dcm", 100_000, 1)
	for i := range 3 {
		if err := s.Sink.Deliver(ctx, parcel(&h, "task/0001.dcm", body)); err != nil {
			return fmt.Errorf("delivery %d: %w", i+1, err)
		}
	}
	return errors.Join(s.want(map[string][]byte{"task/0001.dcm": body}), h.allClosed())
}

func sinkConflicts(ctx context.Context, s Shelf) error {
	var h handles
	body := random(1000, 1)
	if err := s.Sink.Deliver(ctx, parcel(&h, "task/0001.dcm", body)); err != nil {
		return err
	}
	for what, other := range map[string][]byte{
		"bytes of the same length": random(1000, 2),
		"fewer bytes":              body[:999],
		"more bytes":               append(slices.Clone(body), 0),
		"no bytes":                 nil,
	} {
		err := s.Sink.Deliver(ctx, parcel(&h, "task/0001.dcm", other))
		if err := wantKind(err, gantry.Permanent, gantry.CodeConflict); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	err := s.Sink.Deliver(ctx, parcel(&h, "task/0001.dcm/below", body))
	if err := wantKind(err, gantry.Permanent, gantry.CodeConflict); err != nil {
		return fmt.Errorf("below a file: %w", err)
	}
	return errors.Join(s.want(map[string][]byte{"task/0001.dcm": body}), h.allClosed())
}

// deliverAtOnce makes n deliveries side by side and gives their errors.
func deliverAtOnce(ctx context.Context, s Shelf, n int, make func(i int) gantry.Delivery) []error {
	errs := slices.Repeat([]error{nil}, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = s.Sink.Deliver(ctx, make(i)) })
	}
	wg.Wait()
	return errs
}

func sinkAtOnce(ctx context.Context, s Shelf) error {
	var h handles
	body := s.body("task/0001.dcm", 300_000, 1)
	errs := deliverAtOnce(ctx, s, 6, func(int) gantry.Delivery { return parcel(&h, "task/0001.dcm", body) })
	return errors.Join(append(errs, s.want(map[string][]byte{"task/0001.dcm": body}), h.allClosed())...)
}

func sinkOneWins(ctx context.Context, s Shelf) error {
	var h handles
	bodies := make([][]byte, 6)
	for i := range bodies {
		bodies[i] = random(300_000, uint64(i))
	}
	errs := deliverAtOnce(ctx, s, len(bodies), func(i int) gantry.Delivery { return parcel(&h, "task/0001.dcm", bodies[i]) })
	var winner []byte
	for i, err := range errs {
		if err == nil && winner != nil {
			return errors.New("two deliveries of different bytes to one path succeeded")
		} else if err == nil {
			winner = bodies[i]
		} else if err := wantKind(err, gantry.Permanent, gantry.CodeConflict); err != nil {
			return err
		}
	}
	if winner == nil {
		return errors.New("no delivery succeeded")
	}
	return errors.Join(s.want(map[string][]byte{"task/0001.dcm": winner}), h.allClosed())
}

func sinkSideBySide(ctx context.Context, s Shelf) error {
	var h handles
	want, paths := map[string][]byte{}, []string{}
	for i := range 8 {
		paths = append(paths, fmt.Sprintf("task/new/folder/%d.dcm", i))
		want[paths[i]] = s.body(paths[i], 10_000, uint64(i))
	}
	errs := deliverAtOnce(ctx, s, len(paths), func(i int) gantry.Delivery { return parcel(&h, paths[i], want[paths[i]]) })
	return errors.Join(append(errs, s.want(want), h.allClosed())...)
}

func sinkCancelled(ctx context.Context, s Shelf) error {
	var h handles
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	err := s.Sink.Deliver(ctx, parcel(&h, "task/0001.dcm", s.body("task/0001.dcm", 100, 1)))
	if !errors.Is(err, context.Canceled) {
		return fmt.Errorf("a cancelled delivery gave %v", err)
	}
	return errors.Join(s.want(nil), h.allClosed())
}

func sinkCancelledMidway(ctx context.Context, s Shelf) error {
	var h handles
	for _, n := range []int{0, 1, 100_000} { // bytes that were read when it happens
		ctx, cancel := context.WithCancel(ctx)
		body := s.body("task/0001.dcm", 200_000, 1)
		out := parcel(&h, "task/0001.dcm", body)
		out.Open = func(context.Context) (io.ReadCloser, error) {
			first, rest := h.reader(body[:n], nil), bytes.NewReader(body[n:])
			stop := readFunc(func([]byte) (int, error) { cancel(); return 0, io.EOF })
			return readCloser{io.MultiReader(first, stop, rest), first}, nil
		}
		err := s.Sink.Deliver(ctx, out)
		cancel()
		if !errors.Is(err, context.Canceled) {
			return fmt.Errorf("cancelled after %d bytes: %v", n, err)
		}
		if err := errors.Join(s.want(nil), h.allClosed()); err != nil {
			return fmt.Errorf("cancelled after %d bytes: %w", n, err)
		}
	}
	return nil
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

type readCloser struct {
	io.Reader
	io.Closer
}

func sinkUnreadable(ctx context.Context, s Shelf) error {
	var h handles
	body := s.body("task/0001.dcm", 100_000, 1)
	for what, open := range map[string]func(context.Context) (io.ReadCloser, error){
		"open": func(context.Context) (io.ReadCloser, error) { return nil, errWrong },
		"read": func(context.Context) (io.ReadCloser, error) { return h.reader(body[:len(body)/2], errWrong), nil },
		"end":  func(context.Context) (io.ReadCloser, error) { return h.reader(body, errWrong), nil },
	} {
		out := parcel(&h, "task/0001.dcm", body)
		out.Open = open
		err := s.Sink.Deliver(ctx, out)
		if !errors.Is(err, errWrong) || gantry.KindOf(err) != errWrong.Kind || gantry.CodeOf(err) != errWrong.Code {
			return fmt.Errorf("%s: the error of the reader became %v (%s, %s)", what, err, gantry.KindOf(err), gantry.CodeOf(err))
		}
		if err := errors.Join(s.want(nil), h.allClosed()); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return nil
}

// errWrong is what a reader of ours says when an item is not what it was.
var errWrong = gantry.Errorf(gantry.Permanent, "checksum_mismatch", "read item 3: not the bytes that it had")

func sinkMismatch(ctx context.Context, s Shelf) error {
	var h handles
	body := s.body("task/0001.dcm", 100_000, 1)
	for what, sent := range map[string][]byte{
		"fewer":   body[:len(body)-1],
		"more":    append(slices.Clone(body), 1),
		"none":    nil,
		"changed": s.body("task/0001.dcm", 100_000, 2),
	} {
		out := parcel(&h, "task/0001.dcm", body)
		out.Open = func(context.Context) (io.ReadCloser, error) { return h.reader(sent, nil), nil }
		err := wantKind(s.Sink.Deliver(ctx, out), gantry.Transient, "")
		if err := errors.Join(err, s.want(nil), h.allClosed()); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return nil
}

func sinkAfterFailure(ctx context.Context, s Shelf) error {
	if err := sinkUnreadable(ctx, s); err != nil {
		return err
	}
	var h handles
	body := s.body("task/0001.dcm", 100_000, 1)
	err := s.Sink.Deliver(ctx, parcel(&h, "task/0001.dcm", body))
	return errors.Join(err, s.want(map[string][]byte{"task/0001.dcm": body}), h.allClosed())
}

func sinkEscapes(ctx context.Context, s Shelf) error {
	var h handles
	for _, path := range []string{"", ".", "..", "../x", "task/../../x", "/x", "task/", "task//x", "task/./x"} {
		err := s.Sink.Deliver(ctx, parcel(&h, path, []byte("x")))
		if err := wantKind(err, gantry.Illegal, ""); err != nil {
			return fmt.Errorf("path %q: %w", path, err)
		}
	}
	return errors.Join(s.want(nil), h.allClosed())
}
