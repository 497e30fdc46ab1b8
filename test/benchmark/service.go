package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// serviceTime is how long the service thinks about a request.
const serviceTime = 20 * time.Millisecond

// serveModel answers /json with 1 KB of JSON, /png with a picture of about 100 KB and /null with
// nothing at once, in a process of its own so that its processor time is not the client's. It prints its address.
func serveModel(ctx context.Context) error {
	pictures, err := drawPictures(16)
	if err != nil {
		return err
	}
	doc := []byte(`{"finding":"none","trace":"` + strings.Repeat("x", 990) + `"}`)
	think := func(w http.ResponseWriter, r *http.Request, media string, body []byte) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		time.Sleep(serviceTime)
		w.Header().Set("Content-Type", media)
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		w.Write(body)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /json", func(w http.ResponseWriter, r *http.Request) { think(w, r, gantry.MediaJSON, doc) })
	mux.HandleFunc("POST /png", func(w http.ResponseWriter, r *http.Request) {
		think(w, r, gantry.MediaPNG, pictures[rand.IntN(len(pictures))])
	})
	mux.HandleFunc("POST /null", func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	server := &http.Server{Handler: mux}
	context.AfterFunc(ctx, func() { server.Close() })
	go func() { // the parent is gone when its end of the pipe is
		io.Copy(io.Discard, os.Stdin)
		server.Close()
	}()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// drawPictures makes pictures of noise, which no compression makes smaller: 100 KB each.
func drawPictures(n int) ([][]byte, error) {
	var all [][]byte
	random := rand.New(rand.NewPCG(1, 2))
	for range n {
		p := image.NewGray(image.Rect(0, 0, 320, 320))
		for i := range p.Pix {
			p.Pix[i] = byte(random.Uint32())
		}
		var b bytes.Buffer
		if err := png.Encode(&b, p); err != nil {
			return nil, err
		}
		all = append(all, b.Bytes())
	}
	return all, nil
}

// startService starts this program anew as the service and gives its URL.
func startService(ctx context.Context) (base string, stop func(), err error) {
	return startPeer(ctx, "-service")
}

// startPeer starts this program anew as what serves something and prints its address, and gives its URL.
func startPeer(ctx context.Context, args ...string) (base string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	c := exec.CommandContext(ctx, self, args...)
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := c.Start(); err != nil {
		return "", nil, err
	}
	stop = func() { in.Close(); c.Wait() }
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("start service: %w", err)
	}
	return "http://" + strings.TrimSpace(line), stop, nil
}
