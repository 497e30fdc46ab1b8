package gate

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// written is a session that keeps the marks that are committed.
type written struct {
	desk
	marks []gantry.ItemMark
}

func (w *written) Commit(_ context.Context, x *gantry.Write) error {
	w.marks = append(w.marks, x.Marks...)
	return nil
}

// TestItemAloneInARequest has the digest that was taken on the wire, also where the seal holds the same marks.
func TestItemAloneInARequest(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
	defer s.Close()
	rt := egressTo(t, s.URL, Policy{}).Transport()
	for _, n := range []int{0, 1, 100_000, sendSize + 1} {
		body := bytes.Repeat([]byte{7}, n)
		d := &written{desk: desk{alive: true}}
		marks := []gantry.ItemMark{{ID: 3, Size: int64(n), Sent: true}, {ID: 4, Size: int64(n) + 1, Sent: true}}
		err := New(d, gantry.NewIDs(time.Now, rand.Reader), time.Now).Call(t.Context(), gantry.CallSpec{Intent: gantry.Intent{Boundary: gantry.AtProcessor}},
			func(ctx context.Context) error {
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, io.NopCloser(bytes.NewReader(body)))
				if err != nil {
					return err
				}
				req.ContentLength = int64(n)
				resp, err := rt.RoundTrip(req)
				if err != nil {
					return err
				}
				return resp.Body.Close()
			},
			func(context.Context, error) (*gantry.Write, error) { return &gantry.Write{Marks: marks}, nil })
		if err != nil {
			t.Fatal(err)
		}
		want := []gantry.ItemMark{{ID: 3, SHA: sha256.Sum256(body), Size: int64(n), Sent: true}}
		if diff := cmp.Diff(want, d.marks); diff != "" {
			t.Errorf("%d bytes (-want +got):\n%s", n, diff)
		}
		if marks[0] != want[0] {
			t.Errorf("%d bytes: the seal's own mark is %v", n, marks[0])
		}
	}
}
