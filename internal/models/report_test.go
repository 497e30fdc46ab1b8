package models

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"image"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func reported(t testing.TB, h http.Handler, in request) (r Report, text string) {
	t.Helper()
	w := call(h, "POST", "/v1/report", bytes.NewReader(in.body), "Content-Type", in.media)
	if w.Code != 200 || w.Header().Get("Content-Type") != gantry.MediaJSON {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	return r, w.Body.String()
}

// halfWhite is a mask whose upper n rows of 4 are white.
func halfWhite(n int) *image.Gray {
	m := image.NewGray(image.Rect(0, 0, 4, 4))
	for i := range 4 * n {
		m.Pix[i] = 255
	}
	return m
}

// TestReport counts a task of two images, their masks and their scores, in every form of request.
func TestReport(t *testing.T) {
	t.Parallel()
	grey := image.NewGray(image.Rect(0, 0, 5, 3))
	for i := range grey.Pix {
		grey.Pix[i] = 51
	}
	items := [][]byte{encoded(t, grey), jpegOf(t, noisy(16, 8, 1)), []byte(`{"score": 0.25}`), []byte(` {"score": 1, "more": "x"}`),
		encoded(t, halfWhite(1)), encoded(t, halfWhite(3)), []byte("what?"), []byte(`{"score": "high"}`)}
	h := Handler(Options{})
	r, text := reported(t, h, zipped(t, zip.Store, items...))
	if d := cmp.Diff([]any{2, 2, 2, 2, int64(15 + 128), int64(16), 50.0, 0.625}, []any{r.Images, r.Masks, r.Scores, r.Others, r.Pixels, r.MaskPixels, r.MaskPercent, *r.MeanScore}); d != "" {
		t.Error(d)
	}
	a, b := r.Rows[0], r.Rows[1]
	if a.Image != 1 || a.Media != gantry.MediaPNG || a.Width != 5 || a.Height != 3 || a.Mean != 0.2 || a.Bytes != len(items[0]) || len(a.SHA256) != 64 ||
		*a.Mask != (Area{Pixels: 4, Percent: 25}) || *a.Score != 0.25 || a.Problem != "" {
		t.Errorf("%+v", a)
	}
	if b.Image != 2 || b.Media != gantry.MediaJPEG || b.Mask.Percent != 75 || *b.Score != 1 {
		t.Errorf("%+v", b)
	}
	for name, in := range map[string]request{"deflated": zipped(t, zip.Deflate, items...), "form": formed(t, items...), "json": spelt(t, items...)} {
		if _, other := reported(t, h, in); other != text {
			t.Errorf("%s: another report:\n%s", name, other)
		}
	}
}

// TestReportOfLess leaves out what belongs to no image, and goes on past an image that is broken.
func TestReportOfLess(t *testing.T) {
	t.Parallel()
	h := Handler(Options{})
	cut := slice()[:9000]
	r, _ := reported(t, h, zipped(t, zip.Store, slice(), cut, encoded(t, halfWhite(2))))
	if r.Images != 2 || r.Masks != 1 || r.Scores != 0 || r.MeanScore != nil || r.Rows[0].Mask != nil || r.Rows[1].Problem != gantry.CodeTruncated || r.Rows[1].Width != 0 {
		t.Errorf("%+v", r)
	}
	r, text := reported(t, h, request{gantry.MediaDICOM, slice()})
	if r.Images != 1 || r.Rows[0].Width != 128 || !strings.Contains(text, `"mean_score":null`) {
		t.Errorf("%s", text)
	}
	r, text = reported(t, h, zipped(t, zip.Store))
	if r.Images != 0 || !strings.Contains(text, `"rows":[]`) || r.Model != reporter() {
		t.Errorf("%s", text)
	}
	w := call(h, "POST", "/v1/report", strings.NewReader("PK\x03\x04"))
	if w.Code != 422 || !strings.Contains(w.Body.String(), `"malformed"`) {
		t.Errorf("half a zip: %d %s", w.Code, w.Body)
	}
}

// TestReportOfMasks runs the services one behind another: the report's areas are those of the masks.
func TestReportOfMasks(t *testing.T) {
	t.Parallel()
	h := Handler(Options{})
	in := [][]byte{slice(), encoded(t, xray())}
	for _, path := range []string{"/v1/quality", "/v1/mask"} {
		for _, x := range in[:2] {
			in = append(in, call(h, "POST", path, bytes.NewReader(x)).Body.Bytes())
		}
	}
	r, _ := reported(t, h, zipped(t, zip.Store, in...))
	for i, row := range r.Rows {
		white := int64(0)
		for _, v := range decoded(t, in[4+i]).(*image.Gray).Pix {
			white += int64(v) / 255
		}
		var q Quality
		if err := json.Unmarshal(in[2+i], &q); err != nil || *row.Score != q.Score || row.Mask.Pixels != white || white == 0 {
			t.Errorf("row %d: %+v, %d white, %v", i, row, white, err)
		}
	}
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	h := Handler(Options{})
	form := formed(t, []byte("x"))
	for media, want := range map[string]string{
		gantry.MediaPNG: gantry.MediaPNG, gantry.MediaDICOM: gantry.MediaDICOM, gantry.MediaZIP: gantry.MediaZIP,
		"application/json; charset=utf-8": "application/json; charset=utf-8", form.media: form.media,
		"text/html": "application/octet-stream", "": "application/octet-stream", "/;;": "application/octet-stream",
	} {
		w := call(h, "POST", "/v1/identity", bytes.NewReader(form.body), "Content-Type", media)
		if w.Code != 200 || !bytes.Equal(w.Body.Bytes(), form.body) || w.Header().Get("Content-Type") != want {
			t.Errorf("%q: %d %q", media, w.Code, w.Header().Get("Content-Type"))
		}
	}
	if w := call(h, "POST", "/v1/identity", http.NoBody); w.Code != 422 {
		t.Errorf("nothing: %d", w.Code)
	}
}

// TestOptionsHoldForAll checks that every service fails and waits as it is told to.
func TestOptionsHoldForAll(t *testing.T) {
	t.Parallel()
	h := Handler(Options{Fail: 1, Status: 429})
	for _, path := range []string{"/v1/enhance", "/v1/quality", "/v1/mask", "/v1/report", "/v1/identity"} {
		if w := call(h, "POST", path, bytes.NewReader(slice())); w.Code != 429 || !strings.Contains(w.Body.String(), "simulated") {
			t.Errorf("%s: %d", path, w.Code)
		}
		if w := call(h, "GET", path, nil); w.Code != 405 || w.Header().Get("Allow") != "POST" {
			t.Errorf("GET %s: %d", path, w.Code)
		}
		if w := call(Handler(Options{}), "POST", path, bytes.NewReader(slice())); w.Code != 200 {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}
