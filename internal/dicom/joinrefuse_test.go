package dicom

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestJoinMismatch refuses pictures that do not go together, whichever comes first.
func TestJoinMismatch(t *testing.T) {
	t.Parallel()
	b := several("", map[uint32]val{0x00280101: short(12), 0x00280102: short(11)}).bytes()
	good := Picture{Rows: 4, Columns: 4, Samples: 1, Bytes: 2, Photometric: monochrome2, Values: make([]byte, 32)}
	for name, change := range map[string]func(p *Picture){
		"rows":         func(p *Picture) { p.Rows, p.Columns, p.Values = 2, 4, p.Values[:16] },
		"bytes":        func(p *Picture) { p.Bytes, p.Values = 1, p.Values[:16] },
		"sign":         func(p *Picture) { p.Signed = true },
		"colour":       func(p *Picture) { p.Samples, p.Photometric, p.Values = 3, "RGB", make([]byte, 96) },
		"photometric":  func(p *Picture) { p.Photometric = monochrome1 },
		"few values":   func(p *Picture) { p.Values = p.Values[:30] },
		"large values": func(p *Picture) { p.Values[31] = 0x10 },
	} {
		bad := good
		bad.Values = slices.Clone(good.Values)
		change(&bad)
		j := Joining{Source: bytes.NewReader(b), Size: int64(len(b)), UID: "2.25.1", SeriesUID: "2.25.2", Frames: 3,
			Sent: gantry.RenderPNG, Window: Window{kind: windowStored}}
		var out bytes.Buffer
		err := Join(t.Context(), &out, j, func(i int) (*Picture, error) { return &[]Picture{good, bad, good}[i], nil })
		if gantry.CodeOf(err) != CodeMismatchedFrames || gantry.KindOf(err) != gantry.Illegal {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestJoinRefuses holds what cannot be joined against its code.
func TestJoinRefuses(t *testing.T) {
	t.Parallel()
	grey := Picture{Rows: 4, Columns: 4, Samples: 1, Bytes: 2, Photometric: monochrome2, Values: make([]byte, 32)}
	number := Picture{Rows: 4, Columns: 4, Samples: 1, Bytes: 4, Float: true, Signed: true, Photometric: monochrome2, Values: bytes.Repeat([]byte{0xff}, 64)}
	deep := Picture{Rows: 1, Columns: 1, Samples: 3, Bytes: 2, Photometric: "RGB", Values: make([]byte, 6)}
	for name, c := range map[string]struct {
		change func(*Joining)
		p      Picture
		code   gantry.Code
	}{
		"no UID":               {func(j *Joining) { j.UID = "" }, grey, CodeBadUID},
		"a wrong series":       {func(j *Joining) { j.SeriesUID = "x" }, grey, CodeBadUID},
		"no frames":            {func(j *Joining) { j.Frames = 0 }, grey, CodeBadValue},
		"fewer frames":         {func(j *Joining) { j.Frames = 2 }, grey, CodeBadValue},
		"none answered":        {func(j *Joining) { j.Missing = func(int) bool { return true } }, grey, CodeBadValue},
		"a long name":          {func(j *Joining) { j.Pipeline = strings.Repeat("x", 65) }, grey, CodeBadValue},
		"a backslash":          {func(j *Joining) { j.Version = `1\2` }, grey, CodeBadValue},
		"cut source":           {func(j *Joining) { j.Size -= 40 }, grey, gantry.CodeTruncated},
		"no number":            {asNPY, number, CodeMismatchedFrames},
		"numbers for pictures": {nil, number, gantry.CodeUnsupportedFormat},
		"colour of 16 bits":    {nil, deep, gantry.CodeUnsupportedFormat},
	} {
		b := several("", nil).bytes()
		j := Joining{Source: bytes.NewReader(b), Size: int64(len(b)), UID: "2.25.1", SeriesUID: "2.25.2", Frames: 3}
		if c.change != nil {
			c.change(&j)
		}
		if err := Join(t.Context(), new(bytes.Buffer), j, answers(c.p)); gantry.CodeOf(err) != c.code {
			t.Errorf("%s: %v (%s), want %s", name, err, gantry.CodeOf(err), c.code)
		}
	}
}

// TestJoinErrors passes on the errors of its neighbours, and stops with its context.
func TestJoinErrors(t *testing.T) {
	t.Parallel()
	b := several("", nil).bytes()
	own := errors.New("own")
	if _, err := joinOf(t, b, func(j *Joining) { j.Window, j.Sent = Window{kind: windowStored}, gantry.RenderJPEG }); err == nil {
		t.Error("no error though no frame could be rendered")
	}
	j := Joining{Source: bytes.NewReader(b), Size: int64(len(b)), UID: "2.25.1", SeriesUID: "2.25.2", Frames: 3}
	p := Picture{Rows: 4, Columns: 4, Samples: 1, Bytes: 1, Photometric: monochrome2, Values: make([]byte, 16)}
	for bad := range 3 {
		err := Join(t.Context(), new(bytes.Buffer), j, func(i int) (*Picture, error) {
			if i == bad {
				return nil, own
			}
			return &p, nil
		})
		if !errors.Is(err, own) {
			t.Errorf("frame %d: %v", bad, err)
		}
	}
	if err := Join(t.Context(), brokenWriter{own}, j, answers(p)); !errors.Is(err, own) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Join(ctx, new(bytes.Buffer), j, answers(p)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }
