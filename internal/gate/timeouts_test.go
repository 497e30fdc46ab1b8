package gate

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func TestTimeouts(t *testing.T) {
	t.Parallel()
	const head = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
	silent := rawServer(t, func(c net.Conn, _ *bufio.Reader) { hang(c) })
	done := make(chan struct{})
	deaf := rawServer(t, func(_ net.Conn, br *bufio.Reader) { br.ReadByte(); <-done })
	t.Cleanup(func() { close(done) })
	lost := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		select {
		case <-ctx.Done():
		case <-done:
		}
		return nil, context.DeadlineExceeded
	}}
	drip := func(c net.Conn) {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if _, err := io.WriteString(c, "x"); err != nil {
				return
			}
		}
	}
	secure := strings.Replace(silent, "http", "https", 1)
	for _, x := range []struct {
		name, to string
		p        Policy
		deadline time.Duration
		body     io.Reader
		code     gantry.Code
	}{
		{"name lookup", "http://model.test", Policy{DialTimeout: patience, Resolver: lost}, long, nil, CodeDialTimeout},
		{"name lookup, call", "http://model.test", Policy{Resolver: lost}, patience, nil, CodeDialTimeout},
		{"handshake", secure, Policy{TLSTimeout: patience}, long, nil, CodeTLSTimeout},
		{"handshake, call", secure, Policy{}, patience, nil, CodeTLSTimeout},
		{"no answer", silent, Policy{FirstByte: patience}, long, nil, CodeHeaderTimeout},
		{"no answer, call", silent, Policy{}, patience, nil, CodeHeaderTimeout},
		{"nobody reads", deaf, Policy{}, patience, endless{}, CodeTimeout},
		{"slow header", answering(t, "HTTP/1.1 200 ", drip), Policy{}, patience, nil, CodeHeaderTimeout},
		{"interim answers only", answering(t, "HTTP/1.1 102 P\r\n\r\n", hang), Policy{FirstByte: patience}, long, nil, CodeHeaderTimeout},
		{"slow body", answering(t, head, drip), Policy{Idle: 10 * time.Second}, patience, nil, CodeTimeout},
		{"stalled body", answering(t, head+"123", hang), Policy{Idle: patience}, long, nil, CodeIdleTimeout},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			start := time.Now() // before the deadline is set, which is measured from then
			ctx, cancel := context.WithTimeoutCause(t.Context(), x.deadline, gantry.Errorf(gantry.Timeout, "", "the gate's own"))
			defer cancel()
			tr := do(ctx, t, egressTo(t, x.to, x.p), x.to, x.body)
			tr.want(t, gantry.Timeout, x.code)
			if took := time.Since(start); took < patience || took > long/2 {
				t.Errorf("took %s, want about %s", took, patience)
			}
			if tr.left != (x.code != CodeDialTimeout && x.code != CodeTLSTimeout) {
				t.Errorf("a byte left: %v", tr.left)
			}
		})
	}
}

// endless is a request body that does not end.
type endless struct{}

// A byte now and then is not idle, and time in which nobody reads is not the peer's.
func TestSlowIsNotIdle(t *testing.T) {
	t.Parallel()
	to := rawServer(t, func(c net.Conn, br *bufio.Reader) {
		readRequest(br)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 8\r\n\r\n")
		for range 8 {
			<-time.After(patience / 4)
			io.WriteString(c, "x")
		}
	})
	e := egressTo(t, to, Policy{Idle: patience})
	if tr := do(t.Context(), t, e, to, nil); tr.err != nil || len(tr.body) != 8 {
		t.Errorf("%q, %v", tr.body, tr.err)
	}
	req, _ := http.NewRequestWithContext(WithMeter(t.Context(), NewMeter(time.Now)), "GET", to, nil)
	resp, err := e.Transport().RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	io.ReadFull(resp.Body, make([]byte, 1))
	<-time.After(2 * patience)
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) != 7 {
		t.Errorf("after a pause of the reader: %q, %v", rest, err)
	}
}
