package http

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// proud is an item that hears whether it is all of a request.
type proud struct {
	io.Reader
	sole *bool
}

func (p proud) Sole()      { *p.sole = true }
func (proud) Close() error { return nil }

// TestAloneInARequest is an item that is the body as it is, and none in a form.
func TestAloneInARequest(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]bool{"raw": true, "zip": false, "multipart": false, "json": false} {
		var sole bool
		var got seen
		req := request(nil, "item")
		req.Open = func(context.Context, int) (io.ReadCloser, error) {
			return proud{strings.NewReader("item"), &sole}, nil
		}
		if err := openProcessor(t, ProcessorConfig{Body: body}, capture(&got)).Process(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		if sole != want || (string(got.body) == "item") != want {
			t.Errorf("%s: alone %t, %d bytes", body, sole, len(got.body))
		}
	}
}

var _ gantry.Sole = proud{}
