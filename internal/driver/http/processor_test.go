package http

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// seen is what a service got.
type seen struct {
	header http.Header
	size   int64
	query  string
	body   []byte
}

// capture answers 204 and keeps the last request.
func capture(got *seen) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err == nil {
			*got = seen{r.Header, r.ContentLength, r.Method + " " + r.URL.RequestURI(), b}
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

func TestRequestHeaders(t *testing.T) {
	t.Parallel()
	var got seen
	c := ProcessorConfig{URL: "/v1/score?x=1&y=%20", Headers: map[string]string{"x-model": "lung"}}
	if err := openProcessor(t, c, capture(&got)).Process(t.Context(), request(nil, "body")); err != nil {
		t.Fatal(err)
	}
	want := http.Header{
		"Accept": {defaultAccept}, "Accept-Encoding": {"identity"}, "User-Agent": {"gantry"}, "X-Model": {"lung"},
		"Content-Type": {"application/dicom"}, "Content-Length": {"4"}, "Idempotency-Key": {"key"},
	}
	if diff := cmp.Diff(want, got.header); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	if got.query != "POST /v1/score?x=1&y=%20" || got.size != 4 {
		t.Errorf("%s with %d bytes", got.query, got.size)
	}

	c = ProcessorConfig{Accept: "image/png", Headers: map[string]string{"User-Agent": "us"}}
	req := request(nil, "body")
	req.Items[0].Size, req.Items[0].Media = -1, ""
	if err := openProcessor(t, c, capture(&got)).Process(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if got.size != -1 {
		t.Errorf("an item of unknown size was sent as %d bytes", got.size)
	}
	if h := got.header; h.Get("Accept") != "image/png" || h.Get("User-Agent") != "us" || h.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("headers %v", h)
	}
}

func TestEmptyItem(t *testing.T) {
	t.Parallel()
	got := seen{body: []byte("not called")}
	if err := openProcessor(t, ProcessorConfig{}, capture(&got)).Process(t.Context(), request(nil, "")); err != nil {
		t.Fatal(err)
	}
	if len(got.body) != 0 || got.header.Get("Idempotency-Key") != "key" {
		t.Errorf("got %d bytes, %v", len(got.body), got.header)
	}
}

func TestRequestsThatCannotBeSent(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	h := func(http.ResponseWriter, *http.Request) { calls.Add(1) }
	for _, c := range []struct {
		body  string
		items []string
		code  gantry.Code
		text  string
	}{
		{"raw", []string{"a", "b"}, CodeRawTakesOne, "body: zip"},
		{"raw", nil, CodeNoItems, "nothing"},
		{"zip", nil, CodeNoItems, "nothing"},
	} {
		err := openProcessor(t, ProcessorConfig{Body: c.body}, h).Process(t.Context(), request(nil, c.items...))
		if gantry.KindOf(err) != gantry.Illegal || gantry.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s of %d items: %v", c.body, len(c.items), err)
		}
	}
	if n := calls.Load(); n != 0 {
		t.Errorf("%d requests came", n)
	}
}

func TestZipBody(t *testing.T) {
	t.Parallel()
	var got seen
	p := openProcessor(t, ProcessorConfig{Body: "zip"}, capture(&got))
	bodies := []string{"first", strings.Repeat("second ", 100_000), "", "4", "5", "6"}
	media := []string{gantry.MediaDICOM, gantry.MediaPNG, gantry.MediaJPEG, gantry.MediaJSON, "", "video/mp4"}
	var archives []string
	for range 2 {
		req := request(nil, bodies...)
		for i := range req.Items {
			req.Items[i].Media = media[i]
			req.Items[i].Name = "DOE^JANE.dcm"
		}
		req.Items[1].Size = -1
		if err := p.Process(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		archives = append(archives, string(got.body))
	}
	if archives[0] != archives[1] {
		t.Error("the same items made two archives")
	}
	if got.header.Get("Content-Type") != "application/zip" || got.size != -1 {
		t.Errorf("sent as %q with %d bytes", got.header.Get("Content-Type"), got.size)
	}
	z, err := zip.NewReader(bytes.NewReader(got.body), int64(len(got.body)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for i, f := range z.File {
		names = append(names, f.Name)
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil || string(b) != bodies[i] {
			t.Errorf("%s holds %d bytes, %v", f.Name, len(b), err)
		}
		if f.Method != zip.Store || len(f.Extra) != 0 || f.ModifiedDate != 0 || f.ModifiedTime != 0 {
			t.Errorf("%s is not plain: %+v", f.Name, f.FileHeader)
		}
	}
	want := []string{"000001.dcm", "000002.png", "000003.jpg", "000004.json", "000005.bin", "000006.bin"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}

// An archive of which one item turns out wrong is never a whole request, and what was opened is closed.
func TestZipOfABadItem(t *testing.T) {
	t.Parallel()
	wrong := gantry.Errorf(gantry.Permanent, "checksum_mismatch", "read item 1: other bytes")
	for what, c := range map[string]struct {
		open func() (io.ReadCloser, error)
		want error
		code gantry.Code
	}{
		"not opened": {func() (io.ReadCloser, error) { return nil, wrong }, wrong, wrong.Code},
		"wrong end":  {func() (io.ReadCloser, error) { return io.NopCloser(failing{strings.NewReader("second"), wrong}), nil }, wrong, wrong.Code},
		"not a kind": {func() (io.ReadCloser, error) {
			return io.NopCloser(failing{strings.NewReader(""), io.ErrNoProgress}), nil
		}, io.ErrNoProgress, "transient"},
		"short": {func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("secon")), nil }, nil, CodeSizeMismatch},
		"long":  {func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("second!")), nil }, nil, CodeSizeMismatch},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var whole, open atomic.Int64
			p := openProcessor(t, ProcessorConfig{Body: "zip"}, func(w http.ResponseWriter, r *http.Request) {
				if _, err := io.Copy(io.Discard, r.Body); err == nil {
					whole.Add(1)
				}
			})
			req := request(nil, "first", "second", "third")
			good := req.Open
			req.Open = func(ctx context.Context, i int) (io.ReadCloser, error) {
				f := good
				if i == 1 {
					f = func(context.Context, int) (io.ReadCloser, error) { return c.open() }
				}
				r, err := f(ctx, i)
				if err != nil {
					return nil, err
				}
				open.Add(1)
				return closing{r, func() { open.Add(-1) }}, nil
			}
			err := p.Process(t.Context(), req)
			if gantry.CodeOf(err) != c.code || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("the error is %v (%s)", err, gantry.CodeOf(err))
			}
			if whole.Load() != 0 || open.Load() != 0 {
				t.Errorf("%d whole requests came, %d items are open", whole.Load(), open.Load())
			}
		})
	}
}

// failing reads r and then fails.
type failing struct {
	r   io.Reader
	err error
}

func (f failing) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err == io.EOF {
		err = f.err
	}
	return n, err
}

type closing struct {
	io.Reader
	closed func()
}

func (c closing) Close() error { c.closed(); return nil }

// However a reader cuts its bytes, all of them come out once, and the last one only after the end.
func TestWholeItemInAnyPieces(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 2, 3, bufferSize - 1, bufferSize, bufferSize + 1, 3*bufferSize + 5} {
		for _, step := range []int{1, 2, 7, bufferSize, 4 * bufferSize} {
			if n/step > 5000 {
				continue
			}
			want := bytes.Repeat([]byte("0123456789"), n/10+1)[:n]
			for _, size := range []int64{-1, int64(n)} {
				w := newWhole(io.NopCloser(bytes.NewReader(want)), size)
				var got []byte
				for p := make([]byte, step); ; {
					k, err := w.Read(p)
					got = append(got, p[:k]...)
					if len(got) == n && !w.whole() && n > 0 {
						t.Fatalf("%d bytes by %d: the last one came before the end", n, step)
					}
					if err == io.EOF {
						break
					} else if err != nil || k == 0 {
						t.Fatalf("%d bytes by %d: read %d, %v", n, step, k, err)
					}
				}
				if !bytes.Equal(got, want) || !w.whole() {
					t.Errorf("%d bytes by %d: got %d", n, step, len(got))
				}
			}
		}
	}
}

// A transport may hold on to a body after the call.
func TestInputIsSilentAfterClose(t *testing.T) {
	t.Parallel()
	reads, closes := 0, 0
	r := closing{countReader{&reads}, func() { closes++ }}
	in := &input{content: newWhole(r, -1)}
	in.Close()
	in.Close()
	if n, err := in.Read(make([]byte, 10)); n != 0 || err == nil || err == io.EOF {
		t.Errorf("Read after Close = %d, %v", n, err)
	}
	if reads != 0 || closes != 1 || in.failure(t.Context()) != nil {
		t.Errorf("%d reads, %d closes, failure %v", reads, closes, in.failure(t.Context()))
	}
}

type countReader struct{ n *int }

func (c countReader) Read(p []byte) (int, error) { *c.n++; return len(p), nil }

// What the egress says is passed on as it is.
func TestClassifiedErrorsPass(t *testing.T) {
	t.Parallel()
	own := gantry.Errorf(gantry.Denied, "tls", "dial model.test: no such peer")
	for _, err := range []error{own, fmt.Errorf("wrapped: %w", own)} {
		p := openAt(t, ProcessorConfig{URL: "http://model.test"})
		p.rt = roundTrip(func(r *http.Request) (*http.Response, error) { r.Body.Close(); return nil, err })
		if got := p.Process(t.Context(), request(nil, "x")); got != error(own) {
			t.Errorf("%v became %v", err, got)
		}
	}
	p := openAt(t, ProcessorConfig{URL: "http://model.test"})
	p.rt = roundTrip(func(r *http.Request) (*http.Response, error) {
		io.Copy(io.Discard, r.Body)
		h := http.Header{"Content-Type": {"image/png"}}
		return &http.Response{StatusCode: 200, Header: h, ContentLength: -1, Body: io.NopCloser(failing{strings.NewReader("part"), own})}, nil
	})
	var out []output
	if got := p.Process(t.Context(), request(&out, "x")); !errors.Is(got, own) || len(out) != 0 {
		t.Errorf("an error within the answer became %v", got)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
