package s3

import (
	"context"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// A gateway that keeps keys as paths has some that are longer than S3 allows: the ledger is told of them, and the others are
// taken, up to the longest that S3 has.
func TestKeysTooLong(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	folders := "in/" + strings.Repeat(strings.Repeat("x", 200)+"/", 5)
	longest := folders + strings.Repeat("y", maxKey-len(folders))
	for _, key := range []string{"in/a", longest, longest + "y", "in/z"} {
		if err := b.put(key, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	s, book := b.source(nil), newBook()
	during(t, s, book, func(ctx context.Context, o gantry.Object) error {
		r, err := s.Open(ctx, o.Ref)
		if err == nil {
			r.Close()
		}
		return err
	}, func() {
		until(t, "those that can be taken", func() bool { return book.has("in/a") && book.has(longest) && book.has("in/z") })
	})
	if book.taken() != 3 || len(book.failed) == 0 {
		t.Errorf("%d taken, %d failures", book.taken(), len(book.failed))
	}
	for _, err := range book.failed {
		wantError(t, err, gantry.Permanent, CodeNameTooLong)
	}
}
