package models

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// partsOf reads a multipart answer: the media type and the bytes of each part.
func partsOf(t *testing.T, contentType string, body []byte) (media []string, parts [][]byte) {
	t.Helper()
	form, params, err := mime.ParseMediaType(contentType)
	if err != nil || form != "multipart/mixed" {
		t.Fatalf("%s: %v", contentType, err)
	}
	r := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	for {
		p, err := r.NextPart()
		if err == io.EOF {
			return media, parts
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		media, parts = append(media, p.Header.Get("Content-Type")), append(parts, b)
	}
}

// TestSeveral sends three images at once: each is answered as if it had come alone, in their order.
func TestSeveral(t *testing.T) {
	t.Parallel()
	h := Handler(Options{})
	in := [][]byte{slice(), encoded(t, colours(50, 40)), jpegOf(t, noisy(33, 21, 5))}
	for name, r := range map[string]request{"zip": zipped(t, zip.Store, in...), "form": formed(t, in...), "json": spelt(t, in...)} {
		for _, path := range []string{"/v1/enhance", "/v1/mask"} {
			w := call(h, "POST", path, bytes.NewReader(r.body), "Content-Type", r.media)
			if w.Code != http.StatusOK {
				t.Fatalf("%s %s: %d %s", name, path, w.Code, w.Body)
			}
			again := call(h, "POST", path, bytes.NewReader(r.body), "Content-Type", r.media)
			if !bytes.Equal(again.Body.Bytes(), w.Body.Bytes()) {
				t.Errorf("%s %s: other bytes the second time", name, path)
			}
			media, parts := partsOf(t, w.Header().Get("Content-Type"), w.Body.Bytes())
			if len(parts) != len(in) {
				t.Fatalf("%s %s: %d parts", name, path, len(parts))
			}
			for i, x := range in {
				if alone := call(h, "POST", path, bytes.NewReader(x)); media[i] != gantry.MediaPNG || !bytes.Equal(alone.Body.Bytes(), parts[i]) {
					t.Errorf("%s %s: part %d is another answer", name, path, i)
				}
			}
		}
		w := call(h, "POST", "/v1/quality", bytes.NewReader(r.body), "Content-Type", r.media)
		var a Assessment
		if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || len(a.Images) != 3 || w.Header().Get("Content-Type") != gantry.MediaJSON {
			t.Fatalf("%s: %s %v", name, w.Body, err)
		}
		sum := 0.0
		for i, b := range a.Images {
			var got, want Quality
			if err := json.Unmarshal(b, &got); err != nil {
				t.Fatal(err)
			}
			alone := call(h, "POST", "/v1/quality", bytes.NewReader(in[i]))
			if err := json.Unmarshal(alone.Body.Bytes(), &want); err != nil || got != want {
				t.Errorf("%s: image %d is %+v, alone %+v", name, i, got, want)
			}
			sum += got.Score
		}
		if a.Score != round(sum/3) {
			t.Errorf("%s: a mean of %v", name, a.Score)
		}
	}
}

// TestSeveralRefused answers all or nothing.
func TestSeveralRefused(t *testing.T) {
	t.Parallel()
	grey := encoded(t, noisy(200, 200, 1)) // its answer is about as large
	h := Handler(Options{MaxBody: int64(len(grey))})
	small := jpegOf(t, noisy(200, 200, 1))
	for name, c := range map[string]struct {
		in     request
		status int
		code   string
	}{
		"none":            {zipped(t, zip.Store), 422, "empty"},
		"no files":        {formed(t), 422, "empty"},
		"one is broken":   {zipped(t, zip.Store, jpegOf(t, noisy(8, 8, 1)), small[:300]), 422, "malformed"},
		"one is no image": {zipped(t, zip.Store, jpegOf(t, noisy(8, 8, 1)), []byte("x")), 415, "unsupported_format"},
	} {
		w := call(h, "POST", "/v1/enhance", bytes.NewReader(c.in.body), "Content-Type", c.in.media)
		var p problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != c.status || string(p.Code) != c.code {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	// Answers of over MaxBody are not gathered.
	s := newService(Options{MaxBody: 2 * int64(len(small))})
	var out bytes.Buffer
	if _, err := s.image(s.enhance)(zipped(t, zip.Deflate, small, small), &out); gantry.CodeOf(err) != gantry.CodeTooLarge || out.Len() != 0 {
		t.Errorf("%v, %d bytes", err, out.Len())
	}
	if _, err := newService(Options{}).image(s.enhance)(zipped(t, zip.Deflate, small, small), &out); err != nil { // the control
		t.Error(err)
	}
}
