package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestHealth says what the process says, and fails if it is not ready or not there.
func TestHealth(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			http.Error(w, "draining", http.StatusServiceUnavailable)
			return
		}
		w.Write([]byte("ok\n"))
	}))
	address := strings.TrimPrefix(s.URL, "http://")
	if code, out, errs := typed(t, "health", address); code != exitFailed || out != "draining\n" || errs != "" {
		t.Errorf("%d %s%s", code, out, errs)
	}
	if code, out, _ := typed(t, "health", "--live", address); code != exitOK || out != "ok\n" {
		t.Errorf("%d %s", code, out)
	}
	s.Close()
	if code, _, errs := typed(t, "health", address); code != exitFailed || !strings.Contains(errs, "nobody answers") {
		t.Errorf("%d %s", code, errs)
	}
	if code, _, _ := typed(t, "health", "a b"); code != exitUsage {
		t.Errorf("%d", code)
	}
}
