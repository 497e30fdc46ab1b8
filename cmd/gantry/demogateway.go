package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/gantry-imaging/gantry/internal/auth"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// gatewayStart is how long a gateway may take until it answers.
const gatewayStart = 10 * time.Second

// objectMax is the largest object that is fetched from a gateway, in bytes.
const objectMax = 64 << 20

// gateway is versitygw, an S3 server, as a child process on a loopback port and on a folder that goes with it.
type gateway struct {
	address, key, secret string

	folder string
	kill   context.CancelFunc
	gone   chan struct{} // closed when the process has ended
	client *http.Client
}

// startGateway starts a server whose objects lie below home, and returns once it answers. It is killed by stop and
// when ctx ends.
func startGateway(ctx context.Context, binary, home string) (g *gateway, err error) {
	if binary, err = filepath.Abs(binary); err != nil {
		return nil, err
	}
	if home, err = filepath.Abs(home); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // a free port
	if err != nil {
		return nil, err
	}
	g = &gateway{address: l.Addr().String(), key: "gantry", secret: rand.Text(), gone: make(chan struct{}), client: &http.Client{Transport: &http.Transport{}}}
	if err := l.Close(); err != nil {
		return nil, err
	}
	if g.folder, err = os.MkdirTemp(home, "gateway-"); err != nil {
		return nil, err
	}
	ctx, g.kill = context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, binary, "--port", g.address, "--quiet", "--health", "/health", "posix", g.folder)
	cmd.Env = []string{"ROOT_ACCESS_KEY=" + g.key, "ROOT_SECRET_KEY=" + g.secret}
	if err := cmd.Start(); err != nil {
		close(g.gone)
		g.stop()
		return nil, err
	}
	go func() {
		cmd.Wait()
		close(g.gone)
	}()
	if err := g.answers(ctx); err != nil {
		g.stop()
		return nil, err
	}
	return g, nil
}

// answers waits until the server does.
func (g *gateway) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, gatewayStart)
	defer cancel()
	for {
		if _, err := g.do(ctx, http.MethodGet, "/health", nil); err == nil {
			return nil
		}
		select {
		case <-g.gone:
			return errors.New("the S3 server ended at once")
		case <-ctx.Done():
			return errors.New("the S3 server does not answer")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop ends the server and takes its folder away.
func (g *gateway) stop() {
	g.kill()
	<-g.gone
	g.client.CloseIdleConnections()
	os.RemoveAll(g.folder)
}

// lookup gives the variables that the pipeline's credential names.
func (g *gateway) lookup(name string) (string, bool) {
	switch name {
	case "S3_ACCESS_KEY":
		return g.key, true
	case "S3_SECRET_KEY":
		return g.secret, true
	}
	return "", false
}

// signed makes the requests that follow carry a credential.
func (g *gateway) signed(c *gantry.Credential) error {
	rt, err := auth.Wrap(g.client.Transport, c, g.lookup)
	if err == nil {
		g.client = &http.Client{Transport: rt}
	}
	return err
}

// do sends a request and gives the answer's body. An answer other than 200 is an error.
func (g *gateway) do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+g.address+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	req.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
	resp, err := g.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, objectMax))
	if err == nil && resp.StatusCode != http.StatusOK {
		return nil, statusError(resp.StatusCode)
	}
	return b, err
}

// statusError is an answer other than 200.
type statusError int

func (s statusError) Error() string { return fmt.Sprintf("the S3 server answered %d", int(s)) }
