package drivertest

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"
)

// failing gives the names of the cases that find something wrong.
func failing[F any](t *testing.T, patience time.Duration, cases []testCase[F], open func() F) []string {
	t.Helper()
	var mu sync.Mutex
	var names []string
	var wg sync.WaitGroup
	for _, c := range cases {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := c.run(ctx, open()); err != nil {
				mu.Lock()
				defer mu.Unlock()
				names = append(names, c.name)
			}
		})
	}
	wg.Wait()
	return names
}

// expect runs a suite on a double that is right and on those that have a flaw each: the case that
// is named must find it.
func expect[F any](t *testing.T, cases []testCase[F], open func(flaw string) F, flaws map[string]string) {
	t.Helper()
	if names := failing(t, patience, cases, func() F { return open("") }); len(names) != 0 {
		t.Errorf("without a flaw: %q fail", names)
	}
	for flaw, name := range flaws {
		t.Run(flaw, func(t *testing.T) {
			t.Parallel()
			named := slices.DeleteFunc(slices.Clone(cases), func(c testCase[F]) bool { return c.name != name })
			if names := failing(t, time.Second, named, func() F { return open(flaw) }); len(names) != 1 {
				t.Errorf("not found by %q", name)
			}
		})
	}
}
