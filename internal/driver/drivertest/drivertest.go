// Package drivertest says what every driver must do, as suites that a driver's own tests call with
// a way to open it. Read source.go, processor.go, batch.go, deferring.go and sink.go; egress.go is a way to
// the network without policy or record. A case answers with an error, so that this package's own
// tests can show that it finds a driver that does wrong.
package drivertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// patience is how long a case may take.
const patience = 30 * time.Second

// private stands for what no error may quote.
const private = "DOE^JANE"

// suite runs cases, each on a fixture of its own.
func suite[F any](t *testing.T, open func(t *testing.T) F, cases []testCase[F]) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := c.run(ctx, open(t)); err != nil {
				t.Error(err)
			}
		})
	}
}

type testCase[F any] struct {
	name string
	run  func(ctx context.Context, f F) error
}

// random gives bytes that are the same for the same seed.
func random(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	r.Read(b)
	return b
}

// wantKind says how an error differs from what it should be.
func wantKind(err error, kind gantry.Kind, code gantry.Code) error {
	own, ok := errors.AsType[*gantry.Error](err)
	switch {
	case err == nil:
		return fmt.Errorf("it succeeded, want %s", kind)
	case !ok:
		return fmt.Errorf("%q is no *gantry.Error, want %s", err, kind)
	case own.Kind != kind, code != "" && own.Code != code:
		return fmt.Errorf("%q is %s (%s), want %s (%s)", err, own.Kind, own.Code, kind, code)
	}
	return wantDiscreet(err)
}

// wantDiscreet says if an error quotes what it must not.
func wantDiscreet(err error) error {
	if err != nil && strings.Contains(err.Error(), private) {
		return fmt.Errorf("an error quotes foreign text: %q", err)
	}
	return nil
}

// handles counts what is open.
type handles struct{ open, total atomic.Int64 }

// reader opens a reader of body that ends with err instead of io.EOF if it is not nil.
func (h *handles) reader(body []byte, err error) io.ReadCloser {
	h.open.Add(1)
	h.total.Add(1)
	return &handle{handles: h, r: bytes.NewReader(body), err: err}
}

func (h *handles) allClosed() error {
	if n := h.open.Load(); n != 0 {
		return fmt.Errorf("%d of %d readers are still open", n, h.total.Load())
	}
	return nil
}

type handle struct {
	handles *handles
	r       *bytes.Reader
	err     error
	closed  atomic.Bool
}

func (h *handle) Read(p []byte) (int, error) {
	if h.closed.Load() {
		return 0, errors.New("read after close")
	}
	n, err := h.r.Read(p)
	if err == io.EOF && h.err != nil {
		err = h.err
	}
	return n, err
}

func (h *handle) Close() error {
	if !h.closed.Swap(true) {
		h.handles.open.Add(-1)
	}
	return nil
}
