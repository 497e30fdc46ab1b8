package drivertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Batch runs what a processor must do that sends several items in one request. open is as that of
// Processor, but what it makes sends any number of items.
func Batch(t *testing.T, open func(t *testing.T, m *Model) gantry.Processor) {
	t.Helper()
	suite(t, func(t *testing.T) served {
		m := newModel()
		return served{m, open(t, m)}
	}, batchCases())
}

func batchCases() []testCase[served] {
	return []testCase[served]{
		{"sends all items in order", batchInOrder},
		{"sends many items", batchOfMany},
		{"hands on an error of opening one", batchUnopened},
		{"hands on an error of reading one", batchUnreadable},
		{"finds one of another size", batchMismatch},
		{"sends nothing whole when cancelled midway", batchCancelled},
	}
}

// postAll makes a request of several items, of which some sizes are not known unless all are.
func postAll(key string, all bool, items ...Medium) *posting {
	p := post(key, nil, 0)
	p.Items = nil
	for i, m := range items {
		size := int64(len(m.Body))
		if !all && i%2 == 1 {
			size = -1
		}
		p.Items = append(p.Items, gantry.Item{Name: private, Media: m.Media, Size: size})
	}
	p.Open = func(_ context.Context, i int) (io.ReadCloser, error) { return p.reader(items[i].Body, nil), nil }
	return p
}

// threeItems are of three types, and hold what might be taken for an end.
func threeItems(n int) []Medium {
	tricky := append([]byte("\r\n--\r\n--gantry-0--\r\n\"}]}PK\x05\x06"), random(n, 2)...)
	return []Medium{{gantry.MediaDICOM, random(n, 1)}, {gantry.MediaPNG, tricky}, {gantry.MediaJSON, []byte(`{"score": 0.5}`)}}
}

func sameMedium(a, b Medium) bool { return a.Media == b.Media && bytes.Equal(a.Body, b.Body) }

// round sends items and says how what the service got differs from them.
func (s served) round(ctx context.Context, p *posting, items []Medium) error {
	before := len(s.model.requests())
	err, wrong := p.run(ctx, s)
	if err := errors.Join(err, wrong); err != nil {
		return err
	}
	came := s.model.requests()
	if len(came) != before+1 {
		return fmt.Errorf("%d requests came, want 1", len(came)-before)
	}
	if got := came[before].Items; !slices.EqualFunc(got, items, sameMedium) {
		return fmt.Errorf("the service got %d items, want %d (or they differ, or their order)", len(got), len(items))
	}
	return nil
}

func batchInOrder(ctx context.Context, s served) error {
	for _, n := range []int{0, 1, 2, 3, 1000, 24 << 10, 24<<10 + 1, 1<<20 + 1} {
		for _, all := range []bool{true, false} {
			items := threeItems(n)
			if err := s.round(ctx, postAll("k", all, items...), items); err != nil {
				return fmt.Errorf("items of %d bytes, sizes known: %t: %w", n, all, err)
			}
		}
	}
	return nil
}

func batchOfMany(ctx context.Context, s served) error {
	items := make([]Medium, 500)
	for i := range items {
		items[i] = Medium{gantry.MediaPNG, random(i, uint64(i))}
	}
	return s.round(ctx, postAll("k", true, items...), items)
}

// refused says whether a call failed as it must and no service got a whole request.
func (s served) refused(p *posting, err error) error {
	if len(p.received) != 0 || len(s.model.requests()) != 0 {
		return errors.New("the service got a whole request")
	}
	return err
}

func batchUnopened(ctx context.Context, s served) error {
	for bad := range 3 {
		items := threeItems(1000)
		p := postAll("k", true, items...)
		open := p.Open
		p.Open = func(ctx context.Context, i int) (io.ReadCloser, error) {
			if i == bad {
				return nil, errWrong
			}
			return open(ctx, i)
		}
		err, wrong := p.run(ctx, s)
		if err := s.refused(p, errors.Join(wantOwn(err), wrong)); err != nil {
			return fmt.Errorf("item %d: %w", bad, err)
		}
	}
	return nil
}

// batchUnreadable: an item that turns out wrong, also with its last byte, is never a request.
func batchUnreadable(ctx context.Context, s served) error {
	for bad := range 3 {
		for _, all := range []bool{true, false} {
			items := threeItems(100_000)
			p := postAll("k", all, items...)
			p.Open = func(_ context.Context, i int) (io.ReadCloser, error) {
				if i == bad {
					return p.reader(items[i].Body, errWrong), nil
				}
				return p.reader(items[i].Body, nil), nil
			}
			err, wrong := p.run(ctx, s)
			if err := s.refused(p, errors.Join(wantOwn(err), wrong)); err != nil {
				return fmt.Errorf("item %d, sizes known: %t: %w", bad, all, err)
			}
		}
	}
	return nil
}

func batchMismatch(ctx context.Context, s served) error {
	for bad := range 3 {
		for _, by := range []int64{-1, 1} {
			p := postAll("k", true, threeItems(50_000)...)
			p.Items[bad].Size += by
			err, wrong := p.run(ctx, s)
			if err := s.refused(p, errors.Join(wantKind(err, gantry.Transient, ""), wrong)); err != nil {
				return fmt.Errorf("item %d by %d bytes: %w", bad, by, err)
			}
		}
	}
	return nil
}

func batchCancelled(ctx context.Context, s served) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := postAll("k", true, threeItems(100_000)...)
	open := p.Open
	p.Open = func(ctx context.Context, i int) (io.ReadCloser, error) {
		if i == 1 {
			cancel()
			return nil, ctx.Err()
		}
		return open(ctx, i)
	}
	err, wrong := p.run(ctx, s)
	if !errors.Is(err, context.Canceled) {
		return fmt.Errorf("a cancelled call gave %v", err)
	}
	return s.refused(p, wrong)
}
