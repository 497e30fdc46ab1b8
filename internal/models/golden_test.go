package models

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"image"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/sample"
)

// digest is over the pixels of a PNG, since another release of Go may compress them differently.
func digest(t *testing.T, b []byte) string {
	t.Helper()
	var pix []byte
	switch m := decoded(t, b).(type) {
	case *image.Gray:
		pix = m.Pix
	case *image.Gray16:
		pix = m.Pix
	case *image.NRGBA:
		pix = m.Pix
	default:
		t.Fatalf("a %T", m)
	}
	d := sha256.Sum256(pix)
	return hex.EncodeToString(d[:8])
}

// TestGolden holds the outputs to those of the versions that Model names: a change here needs
// another version there.
func TestGolden(t *testing.T) {
	t.Parallel()
	if enhancer().Version != "1.0.0" || assessor().Version != "1.0.0" {
		t.Fatal("new versions need new digests")
	}
	ct, err := sample.CT(1, 256)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		body             []byte
		enhance, quality string
	}{
		"x-ray":  {encoded(t, xray()), "5564a28c7df48490", `{"score":0.5349,"sharpness":4.8495,"contrast":0.5333,"noise":0.4691`},
		"ct":     {ct[0], "546aadd97ca17be1", `{"score":0.8096,"sharpness":36.6856,"contrast":1,"noise":1.0203`},
		"colour": {encoded(t, colours(120, 90)), "333a43e5ad6e9ec5", `{"score":0.1975,"sharpness":0.2778,"contrast":0.2392,"noise":0.3095`},
	} {
		out := enhanced(t, c.body)
		if got := digest(t, out); got != c.enhance {
			t.Errorf("%s: enhanced to %s, want %s", name, got, c.enhance)
		}
		if !bytes.Equal(out, enhanced(t, c.body)) {
			t.Errorf("%s: other bytes the second time", name)
		}
		var q bytes.Buffer
		if _, err := newService(Options{}).quality(c.body, &q); err != nil {
			t.Fatal(err)
		}
		if got, _, _ := strings.Cut(q.String(), `,"width"`); got != c.quality {
			t.Errorf("%s: assessed as %s, want %s", name, got, c.quality)
		}
	}
}
