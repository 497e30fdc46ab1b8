package models

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// started runs Serve on a free port and gives its address and what ends it.
func started(t *testing.T, addr string, o Options) (address string, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	bound, ended := make(chan string, 1), make(chan error, 1)
	go func() { ended <- Serve(ctx, addr, o, func(address string) { bound <- address }) }()
	select {
	case address = <-bound:
	case err := <-ended:
		cancel()
		t.Fatal(err)
	}
	return address, func() error {
		cancel()
		return <-ended
	}
}

func TestServe(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{":0", "127.0.0.1:0", "localhost:0"} {
		address, stop := started(t, addr, Options{})
		host, _, err := net.SplitHostPort(address)
		if err != nil || !net.ParseIP(host).IsLoopback() {
			t.Errorf("%s listens on %s", addr, address)
		}
		resp, err := http.Post("http://"+address+"/v1/quality", "image/png", bytes.NewReader(encoded(t, colours(20, 20))))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || !strings.HasPrefix(string(b), `{"score":`) {
			t.Errorf("%d %s %v", resp.StatusCode, b, err)
		}
		if err := stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			t.Errorf("%s still answers", address)
		}
	}
}

// TestServeFinishes stops the service while a call runs; the call must get its answer, though
// nobody new is let in.
func TestServeFinishes(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	entered, release := make(chan struct{}), make(chan struct{})
	h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(entered)
		<-release
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended, status := make(chan error, 1), make(chan int, 1)
	go func() { ended <- serve(ctx, l, h, nil) }()
	go func() {
		resp, err := http.Get("http://" + l.Addr().String())
		if err != nil {
			t.Error(err)
			status <- 0
			return
		}
		resp.Body.Close()
		status <- resp.StatusCode
	}()
	<-entered
	cancel()
	for { // until the listener is closed
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			break
		}
		c.Close()
	}
	close(release)
	if got := <-status; got != 200 {
		t.Errorf("the running call got %d", got)
	}
	if err := <-ended; err != nil {
		t.Errorf("stop: %v", err)
	}
}

func TestServeRefuses(t *testing.T) {
	t.Parallel()
	address, stop := started(t, ":0", Options{})
	defer stop()
	for _, addr := range []string{"", "8080", address, "127.0.0.1:99999"} {
		if err := Serve(t.Context(), addr, Options{}, nil); err == nil || !strings.HasPrefix(err.Error(), "serve models: ") {
			t.Errorf("%q: %v", addr, err)
		}
	}
}
