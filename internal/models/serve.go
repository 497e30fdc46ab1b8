package models

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"
)

// How long a connection may take. Reading is long enough for a full body on a slow line.
const (
	headerTimeout = 10 * time.Second
	readTimeout   = 5 * time.Minute
	idleTimeout   = 2 * time.Minute
	grace         = 10 * time.Second
	maxHeader     = 64 << 10
)

// Serve answers on addr (host:port) until ctx ends, then lets running calls finish for up to 10
// seconds. Without a host it listens on loopback alone; a port of 0 is any free one. ready is
// called once with the address bound, when connections are taken already; it may be nil. The
// services have no authentication: an address that others can reach is for networks that are
// trusted as a whole. Nothing is printed. The error is nil after an orderly stop.
func Serve(ctx context.Context, addr string, o Options, ready func(address string)) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("serve models: %w", err)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return fmt.Errorf("serve models: %w", err)
	}
	return serve(ctx, l, Handler(o), ready)
}

func serve(ctx context.Context, l net.Listener, h http.Handler, ready func(address string)) error {
	if c, ok := h.(io.Closer); ok {
		defer c.Close()
	}
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	if ready != nil {
		ready(l.Addr().String())
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve models: %w", err)
	case <-ctx.Done():
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	err := srv.Shutdown(late)
	if err != nil {
		srv.Close() // cuts off what did not finish
		err = fmt.Errorf("stop models: %w", err)
	}
	<-failed
	return err
}
