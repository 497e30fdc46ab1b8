package http

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// boundary is that of a form whose request has the key "key".
const boundary = "gantry-f58128cb62de8a82e6521fc96f97a353"

// threeItems is a request of a DICOM file, a picture and something of no type.
func threeItems() *gantry.Request {
	req := request(nil, "DICM", "P\x00\xff", "")
	req.Items[1].Media, req.Items[2].Media = gantry.MediaPNG, ""
	req.Items[0].Name = secret + ".dcm"
	return req
}

// The bytes of every form, as they stand on the wire.
func TestFormsOnTheWire(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		config ProcessorConfig
		media  string
		body   string
	}{
		{ProcessorConfig{Body: "multipart"}, "multipart/form-data; boundary=" + boundary, lines(
			"--"+boundary, `Content-Disposition: form-data; name="file"; filename="000001.dcm"`, "Content-Type: application/dicom", "", "DICM",
			"--"+boundary, `Content-Disposition: form-data; name="file"; filename="000002.png"`, "Content-Type: image/png", "", "P\x00\xff",
			"--"+boundary, `Content-Disposition: form-data; name="file"; filename="000003.bin"`, "Content-Type: application/octet-stream", "", "",
			"--"+boundary+"--", "")},
		{ProcessorConfig{Body: "multipart", Field: "image[]", Metadata: `{"threshold": 0.5}`}, "multipart/form-data; boundary=" + boundary, lines(
			"--"+boundary, `Content-Disposition: form-data; name="metadata"`, "Content-Type: application/json", "", `{"threshold": 0.5}`,
			"--"+boundary, `Content-Disposition: form-data; name="image[]"; filename="000001.dcm"`, "Content-Type: application/dicom", "", "DICM",
			"--"+boundary, `Content-Disposition: form-data; name="image[]"; filename="000002.png"`, "Content-Type: image/png", "", "P\x00\xff",
			"--"+boundary, `Content-Disposition: form-data; name="image[]"; filename="000003.bin"`, "Content-Type: application/octet-stream", "", "",
			"--"+boundary+"--", "")},
		{ProcessorConfig{Body: "json"}, "application/json",
			`{"inputs":[{"media":"application/dicom","data":"RElDTQ=="},{"media":"image/png","data":"UAD/"},{"media":"application/octet-stream","data":""}]}`},
		{ProcessorConfig{Body: "json", Metadata: `{"a":1}`}, "application/json",
			`{"metadata":{"a":1},"inputs":[{"media":"application/dicom","data":"RElDTQ=="},{"media":"image/png","data":"UAD/"},{"media":"application/octet-stream","data":""}]}`},
	} {
		var got seen
		p := openProcessor(t, c.config, capture(&got))
		for _, known := range []bool{true, false} {
			req, size := threeItems(), int64(len(c.body))
			if !known {
				req.Items[1].Size, size = -1, -1
			}
			if err := p.Process(t.Context(), req); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.body, string(got.body)); diff != "" {
				t.Errorf("%+v (-want +got):\n%s", c.config, diff)
			}
			if got.header.Get("Content-Type") != c.media || got.size != size {
				t.Errorf("%+v: sent %q of %d bytes, want %q of %d", c.config, got.header.Get("Content-Type"), got.size, c.media, size)
			}
		}
	}
}

// The raw form is the item itself, and the key is in the header that was named.
func TestKeyHeader(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"", "zip", "multipart", "json"} {
		var got seen
		c := ProcessorConfig{Body: body, KeyHeader: "x-request-key"}
		if err := openProcessor(t, c, capture(&got)).Process(t.Context(), request(nil, "body")); err != nil {
			t.Fatal(err)
		}
		if got.header.Get("X-Request-Key") != "key" || got.header.Get("Idempotency-Key") != "" {
			t.Errorf("%s: %v", body, got.header)
		}
		if body == "" && string(got.body) != "body" {
			t.Errorf("raw: %q", got.body)
		}
	}
}

// A type that came from an answer is no way into a header or a document.
func TestFormsOfAnOddType(t *testing.T) {
	t.Parallel()
	const odd = "image/png\r\nX-Other: 1\"}"
	for _, body := range []string{"multipart", "json"} {
		var got seen
		req := request(nil, "x")
		req.Items[0].Media = odd
		if err := openProcessor(t, ProcessorConfig{Body: body}, capture(&got)).Process(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		if body == "multipart" && bytes.Contains(got.body, []byte("X-Other")) {
			t.Errorf("%q", got.body)
		}
		var said struct{ Inputs []struct{ Media string } }
		if body == "json" && (json.Unmarshal(got.body, &said) != nil || said.Inputs[0].Media != odd) {
			t.Errorf("%q", got.body)
		}
	}
}

// Two keys have two boundaries, and one key always the same: an item that holds that of another
// request ends nothing.
func TestBoundariesComeOfTheKey(t *testing.T) {
	t.Parallel()
	a, again, b := multipartForm("task/0", "file", ""), multipartForm("task/0", "file", ""), multipartForm("task/1", "file", "")
	if a.media != again.media || a.media == b.media {
		t.Errorf("%s, %s, %s", a.media, again.media, b.media)
	}
	var got seen
	odd := "\r\n" + b.end + "--" + boundary[:20]
	if err := openProcessor(t, ProcessorConfig{Body: "multipart"}, capture(&got)).Process(t.Context(), request(nil, odd)); err != nil {
		t.Fatal(err)
	}
	_, params, err := mime.ParseMediaType(got.header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	part, err := multipart.NewReader(bytes.NewReader(got.body), params["boundary"]).NextPart()
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(part); err != nil || string(body) != odd {
		t.Errorf("%q, %v", body, err)
	}
}

// FuzzForms holds what is composed, read in pieces of any size, to the libraries that read it.
func FuzzForms(f *testing.F) {
	f.Add("key", []byte("one"), []byte("--two\r\n"), 1)
	f.Add("", []byte{}, []byte{0, 1, 2, 3}, 7)
	f.Add("k", bytes.Repeat([]byte("x"), 1000), []byte(`"}]}`), 64)
	f.Fuzz(func(t *testing.T, key string, one, two []byte, piece int) {
		req := request(nil, string(one), string(two))
		req.Key = key
		for _, form := range []form{multipartForm(key, "file", `{"a":1}`), jsonForm("")} {
			c, buf := newComposed(t.Context(), req, form), make([]byte, min(max(piece, 1), 1<<16))
			var body bytes.Buffer
			if _, err := io.CopyBuffer(struct{ io.Writer }{&body}, struct{ io.Reader }{c}, buf); err != nil || !c.whole() {
				t.Fatalf("%v, whole %t", err, c.whole())
			}
			if int64(body.Len()) != form.size(req.Items) {
				t.Fatalf("%d bytes, announced as %d", body.Len(), form.size(req.Items))
			}
			r := &http.Request{Header: http.Header{"Content-Type": {form.media}}, Body: io.NopCloser(&body)}
			items, err := taken(r)
			if err != nil {
				t.Fatal(err)
			}
			if !form.base64 {
				items = items[1:] // the metadata
			}
			if len(items) != 2 || !bytes.Equal(items[0].Body, one) || !bytes.Equal(items[1].Body, two) {
				t.Fatalf("%q", items)
			}
		}
	})
}

// bulk is how much goes through in the tests of memory, and budget what may be allocated for it in
// all, by the service too, which keeps nothing.
const (
	bulk   = 24 << 20
	budget = 8 << 20
)

// much gives bulk bytes that are all the same.
func much(b byte) io.Reader { return io.LimitReader(same(b), bulk) }

type same byte

// Read gives the same byte.
func (s same) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(s)
	}
	return len(p), nil
}

// allocated runs f and gives the bytes that were allocated meanwhile. Nothing may run beside it.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Whatever the form, a large body goes through in pieces. The test is not parallel: it counts what
// this process allocates.
func TestLargeBodiesAreNotHeld(t *testing.T) {
	for _, body := range []string{"raw", "zip", "multipart", "json"} {
		var got int64
		p := openProcessor(t, ProcessorConfig{Body: body}, func(w http.ResponseWriter, r *http.Request) {
			got, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusNoContent)
		})
		req := large()
		if used := allocated(func() {
			if err := p.Process(t.Context(), req); err != nil {
				t.Error(err)
			}
		}); used > budget || got < bulk {
			t.Errorf("%s: %d bytes sent, %d allocated", body, got, used)
		}
	}
}

// So does a large answer. Control: one that is read whole is counted.
func TestLargeAnswersAreNotHeld(t *testing.T) {
	const part = "--B\r\nContent-Type: application/x-npy\r\n\r\n"
	for _, c := range []struct{ answer, media, before, after string }{
		{"auto", gantry.MediaNPY, "", ""},
		{"multipart", mediaMixed + "; boundary=B", part + "x\r\n" + part, "\r\n--B--"},
		{"base64", gantry.MediaJSON, `{"a":1,"outputs":[{"media":"application/x-npy","data":"`, `"}]}`},
	} {
		p := openProcessor(t, ProcessorConfig{Answer: c.answer}, func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", c.media)
			io.WriteString(w, c.before)
			io.Copy(w, much('A'))
			io.WriteString(w, c.after)
		})
		var got int64
		req := request(nil, "x")
		req.Receive = func(_ context.Context, _ string, _ int64, body io.Reader) error {
			n, err := io.Copy(io.Discard, body)
			got += n
			return err
		}
		used := allocated(func() {
			if err := p.Process(t.Context(), req); err != nil {
				t.Error(err)
			}
		})
		if used > budget || got < bulk/4*3 {
			t.Errorf("%s: %d bytes received, %d allocated", c.answer, got, used)
		}
	}
	if used := allocated(func() { io.ReadAll(much('A')) }); used < bulk {
		t.Errorf("a body that was read whole counts as %d bytes", used)
	}
}

// large is a request of one item of bulk bytes, whose outputs are thrown away.
func large() *gantry.Request {
	req := request(nil, "")
	req.Items[0].Size = bulk
	req.Open = func(context.Context, int) (io.ReadCloser, error) { return io.NopCloser(much('A')), nil }
	return req
}
