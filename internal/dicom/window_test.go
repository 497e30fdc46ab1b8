package dicom

import (
	"math"
	"slices"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func TestParseWindow(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"": "file", "file": "file", "full": "full", "stored": "stored",
		"-600/1500": "-600/1500", "40.5/1": "40.5/1", "1e3/2e3": "1000/2000"} {
		w, err := ParseWindow(in)
		if err != nil || w.String() != want {
			t.Errorf("%s: %v, %v", in, w, err)
		}
		if again, err := ParseWindow(w.String()); err != nil || again != w {
			t.Errorf("%s: %v again, %v", in, again, err)
		}
	}
	for _, in := range []string{"File", "window", "-600", "-600/", "/1500", "0/0", "0/-1", "0/0.5", "0/NaN", "NaN/5", "0/Inf", "Inf/5", "1/2/3", "a/b", " full"} {
		if w, err := ParseWindow(in); gantry.KindOf(err) != gantry.Illegal || gantry.CodeOf(err) != CodeBadValue {
			t.Errorf("%s: %v, %v", in, w, err)
		}
	}
}

// TestWindowFunctions holds grey against values worked out by hand from PS3.3 section C.11.2.1.
func TestWindowFunctions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		function         string
		center, width, x float64
		want             float64
	}{
		{linear, 2048, 4096, 0, 0}, {linear, 2048, 4096, 4095, 1}, {linear, 2048, 4096, 2047.5, 0.5},
		{linear, 2048, 1, 2047, 0}, {linear, 2048, 1, 2047.5, 0}, {linear, 2048, 1, 2048, 1}, // the example of the standard
		{linear, 0, 100, -50, 0}, {linear, 0, 100, 49, 1}, {linear, 0, 100, -0.5, 0.5},
		{linear, 0, 100, -5000, 0}, {linear, 0, 100, 5000, 1},
		{linearExact, 0, 100, -50, 0}, {linearExact, 0, 100, 50, 1}, {linearExact, 0, 100, 0, 0.5}, {linearExact, 0, 0.5, 0.125, 0.75},
		{sigmoid, 0, 100, 0, 0.5}, {sigmoid, 50, 100, 100, 1 / (1 + math.Exp(-2))}, {sigmoid, 50, 100, 0, 1 / (1 + math.Exp(2))},
	} {
		s := show{center: c.center, width: c.width, function: c.function}
		if got := min(max(s.grey(c.x), 0), 1); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%s %g/%g of %g: %g, want %g", c.function, c.center, c.width, c.x, got, c.want)
		}
	}
}

// px16 are words.
func px16(v ...int) []byte {
	var b []byte
	for _, x := range v {
		b = append(b, byte(x), byte(x>>8))
	}
	return b
}

func ds(s string) val { return str("DS", s) }

func lutItem(within uint32, first, bits int, entries ...int) []byte {
	return sq(false, within, it(false, ex(tagLUTShape, val{"US", px16(len(entries), first, bits)}), ex(tagLUTData, val{"OW", px16(entries...)})))
}

// TestShown is what becomes of four values in each way to show them.
func TestShown(t *testing.T) {
	t.Parallel()
	rescaled := map[uint32]val{tagSlope: ds("2"), tagIntercept: ds("-1000")}
	windowed := map[uint32]val{tagSlope: ds("2"), tagIntercept: ds("-1000"), tagCenter: ds(`0\7`), tagWidth: ds(`1000\7`), tagFunction: str("CS", linearExact)}
	signed12 := signed(12, 11)
	inverse := map[uint32]val{tagPhotometric: str("CS", monochrome1)}
	zero := map[uint32]val{tagCenter: ds("5"), tagWidth: ds("0")}
	negative := map[uint32]val{tagSlope: ds("-1")}
	px := px16(0, 250, 500, 1000)
	modality := image2(16, 1, px16(0, 1, 2, 9), map[uint32]val{tagSlope: ds("7")})
	modality.raw = map[uint32][]byte{tagModalityLUT: lutItem(tagModalityLUT, 1, 16, 0, 600, 1000)}
	voi := image2(16, 1, px16(0, 10, 11, 9000), map[uint32]val{tagCenter: ds("5"), tagWidth: ds("5")})
	voi.raw = map[uint32][]byte{tagVOILUT: lutItem(tagVOILUT, 10, 12, 0, 2048, 4095)}
	for name, c := range map[string]struct {
		file   spec
		window string
		want   []byte
	}{
		"full":                  {image2(16, 1, px, nil), "full", []byte{0, 64, 128, 255}},
		"file, nothing said":    {image2(16, 1, px, nil), "file", []byte{0, 64, 128, 255}},
		"file, width 0":         {image2(16, 1, px, zero), "file", []byte{0, 64, 128, 255}},
		"full, rescaled":        {image2(16, 1, px, rescaled), "full", []byte{0, 64, 128, 255}},
		"full, falling":         {image2(16, 1, px, negative), "full", []byte{255, 191, 128, 0}},
		"full, inverse":         {image2(16, 1, px, inverse), "full", []byte{255, 191, 127, 0}},
		"full, signed":          {image2(16, 1, px16(-2048, -1024, 0, 2047), signed12), "full", []byte{0, 64, 128, 255}},
		"full, one value":       {image2(16, 1, px16(7, 7, 7, 7), nil), "full", []byte{0, 0, 0, 0}},
		"given, rescaled":       {image2(16, 1, px, rescaled), "-500/1001", []byte{0, 128, 255, 255}},
		"file, first window":    {image2(16, 1, px, windowed), "file", []byte{0, 0, 128, 255}},
		"given before the file": {image2(16, 1, px, windowed), "500/2", []byte{0, 0, 0, 255}},
		"8 bit, as it is":       {image2(8, 1, []byte{3, 5, 7, 200}, nil), "file", []byte{3, 5, 7, 200}},
		"8 bit, rescaled":       {image2(8, 1, []byte{3, 5, 7, 200}, rescaled), "file", []byte{3, 5, 7, 200}},
		"8 bit, full":           {image2(8, 1, []byte{0, 5, 10, 20}, nil), "full", []byte{0, 64, 128, 255}},
		"8 bit, inverse":        {image2(8, 1, []byte{3, 5, 7, 200}, inverse), "file", []byte{252, 250, 248, 55}},
		"8 bit, signed":         {image2(8, 1, []byte{0x80, 0, 0x7f, 0}, signed(8, 7)), "file", []byte{0, 128, 255, 128}},
		"bits":                  {image2(1, 1, []byte{0b0110}, nil), "file", []byte{0, 255, 255, 0}},
		"bits, all set":         {image2(1, 1, []byte{0b1111}, nil), "full", []byte{255, 255, 255, 255}},
		"32 bit":                {image2(32, 1, []byte{0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 4}, nil), "file", []byte{0, 64, 128, 255}},
		"modality table":        {modality, "full", []byte{0, 0, 153, 255}},
		"modality table, given": {modality, "600/2", []byte{0, 0, 255, 255}},
		"VOI table":             {voi, "file", []byte{0, 0, 128, 255}},
		"VOI table, full":       {voi, "full", []byte{0, 0, 0, 255}},
	} {
		if got := samples8(renderPNG(t, opened(t, c.file), 0, c.window)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// groupsOf are functional groups: slope and intercept, and a window, each unless empty.
func groupsOf(slope, center string) []byte {
	var b []byte
	if center != "" {
		b = append(b, sq(true, tagFrameVOI, it(false, ex(tagCenter, ds(center)), ex(tagWidth, ds("100")), ex(tagFunction, str("CS", linearExact))))...)
	}
	if slope != "" {
		b = append(b, sq(false, tagTransformation, it(true, ex(tagIntercept, ds("0")), ex(tagSlope, ds(slope))))...)
	}
	return b
}

// TestFunctionalGroups: those of one frame go before those of all, and these before the data set.
func TestFunctionalGroups(t *testing.T) {
	t.Parallel()
	s := image2(16, 4, px16(0, 50, 100, 200, 0, 50, 100, 200, 0, 50, 100, 200, 0, 50, 100, 200),
		map[uint32]val{tagCenter: ds("1000"), tagWidth: ds("10"), tagSlope: ds("3")})
	s.raw = map[uint32][]byte{
		tagSharedGroups: sq(true, tagSharedGroups, it(false, groupsOf("2", "100"))),
		tagFrameGroups: sq(false, tagFrameGroups, it(false), it(true, groupsOf("", "50")), it(false, groupsOf("1", "")),
			it(false, groupsOf("1", "150")), it(false, groupsOf("1", "999"))), // one more than there are frames
	}
	f := opened(t, s)
	for i, want := range [][]byte{{0, 128, 255, 255}, {0, 255, 255, 255}, {0, 0, 128, 255}, {0, 0, 0, 255}} {
		if got := samples8(renderPNG(t, f, i, "file")); !slices.Equal(got, want) {
			t.Errorf("frame %d: %v, want %v", i, got, want)
		}
	}
	if len(f.shows.frames) != 3 {
		t.Errorf("%d frames have groups of their own, want 3", len(f.shows.frames))
	}
}

// TestWideWindows: numbers near the end of what a float can be give greys, and no panic.
func TestWideWindows(t *testing.T) {
	t.Parallel()
	for _, more := range []map[uint32]val{
		{tagSlope: ds("1e308"), tagIntercept: ds("-1e308")}, {tagSlope: ds("0")}, {tagSlope: ds("1e-320")},
		{tagCenter: ds("1e308"), tagWidth: ds("1e308")}, {tagCenter: ds("-1e308"), tagWidth: ds("1"), tagFunction: str("CS", sigmoid)},
	} {
		for _, w := range []string{"file", "full", "0/1", "1e308/1e308"} {
			f := opened(t, image2(16, 1, px16(0, 1, 2, 65535), more))
			if got := samples8(renderPNG(t, f, 0, w)); len(got) != 4 {
				t.Errorf("%v", got)
			}
		}
	}
}
