package engine

import (
	"crypto/sha256"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestSending finds an item's digest, or leaves it to whoever takes that of the request, and holds the item to it once it is known.
func TestSending(t *testing.T) {
	t.Parallel()
	const text = "bytes of an item"
	size, right := int64(len(text)), gantry.Digest(sha256.Sum256([]byte(text)))
	for name, c := range map[string]struct {
		item  gantry.Item
		alone bool
		out   gantry.Outcome // of the call
		mark  *gantry.ItemMark
		read  gantry.Code // of the last read
		call  gantry.Code // of what the call holds
	}{
		"first, among others":       {mark: &gantry.ItemMark{SHA: right, Size: size}},
		"first, alone":              {alone: true, out: gantry.Outcome{ReqSize: size, ReqSHA: right}, mark: &gantry.ItemMark{Size: size, Sent: true}},
		"again, among others":       {item: gantry.Item{SHA: right}, out: gantry.Outcome{ReqSize: 99, ReqSHA: gantry.Digest{9}}},
		"again, alone":              {item: gantry.Item{SHA: right}, alone: true, out: gantry.Outcome{ReqSize: size, ReqSHA: right}},
		"begun twice, alone":        {item: gantry.Item{SHA: right}, alone: true, out: gantry.Outcome{ReqSize: 2 * size, ReqSHA: gantry.Digest{9}}},
		"changed, among others":     {item: gantry.Item{SHA: gantry.Digest{1}}, read: gantry.CodeCorrupt},
		"changed, alone":            {item: gantry.Item{SHA: gantry.Digest{1}}, alone: true, out: gantry.Outcome{ReqSize: size, ReqSHA: right}, call: gantry.CodeCorrupt},
		"a frame, rendered as ever": {item: gantry.Item{SHA: gantry.Digest{1}, Transform: dicomFrame}, alone: true, out: gantry.Outcome{ReqSize: size, ReqSHA: right}},
	} {
		a := &answer{}
		r := a.sends(c.item, io.NopCloser(strings.NewReader(text)))
		if c.alone {
			gantry.SendAlone(r)
		}
		b, err := io.ReadAll(r)
		if gantry.CodeOf(err) != c.read || string(b) != text {
			t.Fatalf("%s: %q, %v", name, b, err)
		}
		if _, again := r.Read(make([]byte, 1)); c.read != "" && again != err { // past the end
			t.Errorf("%s: then %v", name, again)
		}
		var want []gantry.ItemMark
		if c.mark != nil {
			want = append(want, *c.mark)
		}
		if diff := cmp.Diff(want, a.noted()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if err := a.holds(&c.out); gantry.CodeOf(err) != c.call {
			t.Errorf("%s: the call holds %v", name, err)
		}
	}
}
