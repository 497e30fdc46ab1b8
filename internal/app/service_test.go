package app_test

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// seen is one request as a service saw it, and what it said.
type seen struct {
	path, key, media, auth string
	body                   []byte
	sum, answer            string
	size, answered         int64
}

// service is a foreign HTTP server that keeps what it saw.
type service struct {
	*httptest.Server
	mu   sync.Mutex
	seen []seen
}

// serve starts a service. Its handler gets the body and how many requests came before with the
// same key.
func serve(t *testing.T, handle func(w http.ResponseWriter, r *http.Request, body []byte, before int)) *service {
	t.Helper()
	s := &service{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the caller gave up
		}
		x := seen{path: r.URL.Path, key: r.Header.Get("Idempotency-Key"), media: r.Header.Get("Content-Type"),
			auth: r.Header.Get("Authorization"), body: body, sum: digest(body), size: int64(len(body))}
		s.mu.Lock()
		before := 0
		for _, y := range s.seen {
			if y.key == x.key {
				before++
			}
		}
		at := len(s.seen)
		s.seen = append(s.seen, x)
		s.mu.Unlock()
		h := &hashing{ResponseWriter: w, sum: sha256.New()}
		defer func() {
			s.mu.Lock()
			s.seen[at].answer, s.seen[at].answered = hex.EncodeToString(h.sum.Sum(nil)), h.n
			s.mu.Unlock()
		}()
		handle(h, r, body, before)
	}))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func (s *service) all() []seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

type hashing struct {
	http.ResponseWriter
	sum hash.Hash
	n   int64
}

// Write hashes what it sends.
func (h *hashing) Write(p []byte) (int, error) {
	n, err := h.ResponseWriter.Write(p)
	h.sum.Write(p[:n])
	h.n += int64(n)
	return n, err
}

// Unwrap lets a handler break its connection.
func (h *hashing) Unwrap() http.ResponseWriter { return h.ResponseWriter }

// by gives the one request whose key ends so.
func (s *service) by(ending string) seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.seen, func(x seen) bool { return strings.HasSuffix(x.key, "/"+ending) })
	if i < 0 {
		return seen{}
	}
	return s.seen[i]
}
