package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

type healthCmd struct {
	Address string        `arg:"" optional:"" help:"Where it listens." default:"127.0.0.1:8090"`
	Live    bool          `help:"Ask only whether the process lives."`
	Timeout time.Duration `help:"How long to wait for the answer." default:"3s"`
}

// Run is called by the parser.
func (h *healthCmd) Run(ctx context.Context, c console) error {
	ctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	path := "/readyz"
	if h.Live {
		path = "/healthz"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+h.Address+path, nil)
	if err != nil {
		return usageError{fmt.Errorf("%s is no address", h.Address)}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("nobody answers on %s", h.Address)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return fmt.Errorf("read the answer of %s: it broke off", h.Address)
	}
	fmt.Fprintln(c.out, strings.TrimSpace(string(text)))
	if resp.StatusCode != http.StatusOK {
		return quietError(exitFailed)
	}
	return nil
}
