package drivertest

import (
	"context"
	"io"
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

func (e *egress) Transport() http.RoundTripper { return once{e.transport} }

// once keeps net/http from sending a request again by itself on a connection that broke, as the gate does:
// one without a body, if the method is safe, gets an empty one that cannot be had twice.
type once struct{ next http.RoundTripper }

// RoundTrip sends a request.
func (o once) RoundTrip(req *http.Request) (*http.Response, error) {
	if (req.Body == nil || req.Body == http.NoBody) && (req.Method == http.MethodGet || req.Method == http.MethodHead) {
		req = req.Clone(req.Context())
		req.Body, req.GetBody = io.NopCloser(http.NoBody), nil
	}
	return o.next.RoundTrip(req)
}

func (e *egress) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return e.dialer.DialContext(ctx, network, address)
}
