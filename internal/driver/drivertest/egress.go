package drivertest

import (
	"context"
	"net"
	"net/http"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Egress gives a way to any address, without policy or record and without classifying errors. Its
// connections are closed when the test ends.
func Egress(t testing.TB) gantry.Egress {
	e := &egress{transport: &http.Transport{DisableCompression: true}}
	t.Cleanup(e.transport.CloseIdleConnections)
	return e
}

type egress struct {
	transport *http.Transport
	dialer    net.Dialer
}

func (e *egress) Transport() http.RoundTripper { return e.transport }

func (e *egress) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return e.dialer.DialContext(ctx, network, address)
}
