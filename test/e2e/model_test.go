package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"image"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// seen is one request as the service saw it.
type seen struct {
	SHA   string // of the body, in hexadecimal
	Key   string // Idempotency-Key
	Path  string
	Whole bool      // the body came to its end
	Begin time.Time // its headers were read
	End   time.Time // its answer was handed to the connection; zero before
}

// foreign is an inference service that is no part of gantry: it notes every request and answers,
// after a delay, a PNG made from the digest of what it was sent, or with Echo what it was sent.
type foreign struct {
	URL      string
	Delay    time.Duration
	Echo     bool
	inFlight atomic.Int64
	peak     atomic.Int64 // the most requests at once
	answered atomic.Int64

	mu       sync.Mutex
	requests []*seen
}

// newForeign starts a service; it ends with the test.
func newForeign(t *testing.T, delay time.Duration) *foreign {
	t.Helper()
	f := &foreign{Delay: delay}
	s := httptest.NewServer(f)
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	f.URL = s.URL
	return f
}

// seen gives a copy of all requests so far, in the order in which they began.
func (f *foreign) seen() []seen {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]seen, len(f.requests))
	for i, r := range f.requests {
		list[i] = *r
	}
	return list
}

// forget empties the list of requests.
func (f *foreign) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = nil
	f.answered.Store(0)
	f.peak.Store(0)
}

// ServeHTTP answers one request.
func (f *foreign) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := f.inFlight.Add(1)
	defer f.inFlight.Add(-1)
	for p := f.peak.Load(); n > p && !f.peak.CompareAndSwap(p, n); p = f.peak.Load() {
	}
	rec := &seen{Key: r.Header.Get("Idempotency-Key"), Path: r.URL.Path, Begin: time.Now()}
	f.mu.Lock()
	f.requests = append(f.requests, rec)
	f.mu.Unlock()
	h := sha256.New()
	var body bytes.Buffer
	_, err := io.Copy(io.MultiWriter(h, &body), r.Body)
	f.mu.Lock()
	rec.SHA, rec.Whole = hex.EncodeToString(h.Sum(nil)), err == nil
	if err != nil {
		rec.End = time.Now()
	}
	f.mu.Unlock()
	if err != nil {
		return
	}
	<-time.After(f.Delay) // also when the caller is gone: a model goes on with what it has begun
	w.Header().Set("Content-Type", "image/png")
	if f.Echo {
		w.Write(body.Bytes())
	} else {
		w.Write(picture(h.Sum(nil)))
	}
	f.mu.Lock()
	rec.End = time.Now()
	f.mu.Unlock()
	f.answered.Add(1)
}

// picture makes a small gray PNG that is a function of seed alone.
func picture(seed []byte) []byte {
	m := image.NewGray(image.Rect(0, 0, 16, 16))
	for i := range m.Pix {
		m.Pix[i] = seed[i%len(seed)] ^ byte(i)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		panic(err) // a buffer takes everything
	}
	return b.Bytes()
}
