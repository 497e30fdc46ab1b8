package http

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// rawService listens and lets talk speak after it has read one request, of a large one the header
// alone. The connection is closed when talk returns.
func rawService(t *testing.T, talk func(c *net.TCPConn, done <-chan struct{})) *processor {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { close(done); l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				req, err := http.ReadRequest(bufio.NewReader(c))
				if err == nil && req.ContentLength < 1000 {
					_, err = io.Copy(io.Discard, req.Body)
				}
				if err == nil {
					talk(c.(*net.TCPConn), done)
				}
			}()
		}
	}()
	return openAt(t, ProcessorConfig{URL: "http://" + l.Addr().String()})
}

// say writes lines as they stand on the wire.
func say(s string) func(*net.TCPConn, <-chan struct{}) {
	return func(c *net.TCPConn, _ <-chan struct{}) { io.WriteString(c, s) }
}

func TestBrokenAnswers(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n"
	for what, c := range map[string]struct {
		talk func(*net.TCPConn, <-chan struct{})
		kind gantry.Kind
	}{
		"closed at once":       {say(""), gantry.Transient},
		"garbage":              {say(strings.Repeat("\x00\xff"+secret, 100)), gantry.Transient},
		"another protocol":     {say("SSH-2.0-" + secret + "\r\n"), gantry.Transient},
		"half a header":        {say(ok + "X-A: " + secret), gantry.Transient},
		"two lengths":          {say(ok + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nPNG"), gantry.Transient},
		"a negative length":    {say(ok + "Content-Length: -3\r\n\r\nPNG"), gantry.Transient},
		"a huge length":        {say(ok + "Content-Length: 9223372036854775807\r\n\r\nPNG"), gantry.Transient},
		"a long length":        {say(ok + "Content-Length: 99999999999999999999\r\n\r\nPNG"), gantry.Transient},
		"less than its length": {say(ok + "Content-Length: 4\r\n\r\nPNG"), gantry.Transient},
		"nothing of a length":  {say(ok + "Content-Length: 4\r\n\r\n"), gantry.Transient},
		"a chunk cut":          {say(ok + "Transfer-Encoding: chunked\r\n\r\nff\r\nPNG"), gantry.Transient},
		"no last chunk":        {say(ok + "Transfer-Encoding: chunked\r\n\r\n3\r\nPNG\r\n"), gantry.Transient},
		"a huge chunk":         {say(ok + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nPNG"), gantry.Transient},
		"no chunk":             {say(ok + "Transfer-Encoding: chunked\r\n\r\n" + secret), gantry.Transient},
		"switching protocols":  {say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n" + secret), gantry.BadResponse},
		"a reset": {func(c *net.TCPConn, _ <-chan struct{}) {
			io.WriteString(c, ok+"Content-Length: 1000000\r\n\r\n"+strings.Repeat("P", 1000))
			c.SetLinger(0)
		}, gantry.Transient},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var out []output
			err := rawService(t, c.talk).Process(t.Context(), request(&out, "x"))
			own, isOwn := errors.AsType[*gantry.Error](err)
			if !isOwn || own.Kind != c.kind {
				t.Fatalf("%v (%s), want %s", err, gantry.KindOf(err), c.kind)
			}
			if strings.Contains(err.Error(), secret) || len(out) != 0 {
				t.Errorf("error %q, outputs %v", err, out)
			}
		})
	}
}

// More than was declared is another answer's business: it is not taken for this one's.
func TestMoreThanItsLength(t *testing.T) {
	t.Parallel()
	p := rawService(t, say("HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 3\r\n\r\nPNG"+secret))
	for range 2 {
		var out []output
		if err := p.Process(t.Context(), request(&out, "x")); err != nil || len(out) != 1 || out[0].Body != "PNG" {
			t.Errorf("%v, outputs %v", err, out)
		}
	}
}

// Whatever a service withholds, a call ends at its deadline.
func TestSlowServices(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 1000000\r\n\r\n"
	hang := func(_ *net.TCPConn, done <-chan struct{}) { <-done }
	drip := func(c *net.TCPConn, done <-chan struct{}) {
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			select {
			case <-done:
				return
			case <-tick.C:
				if _, err := io.WriteString(c, "P"); err != nil {
					return
				}
			}
		}
	}
	for what, talk := range map[string]func(*net.TCPConn, <-chan struct{}){
		"no answer":     hang,
		"half a header": func(c *net.TCPConn, done <-chan struct{}) { io.WriteString(c, ok[:20]); hang(c, done) },
		"no body":       func(c *net.TCPConn, done <-chan struct{}) { io.WriteString(c, ok); hang(c, done) },
		"drips a body":  func(c *net.TCPConn, done <-chan struct{}) { io.WriteString(c, ok); drip(c, done) },
		"drips header":  func(c *net.TCPConn, done <-chan struct{}) { io.WriteString(c, "HTTP/1.1 200 "); drip(c, done) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			for _, item := range []string{"x", strings.Repeat("x", 16<<20)} { // the second does not fit into any buffer
				var out []output
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				err := rawService(t, talk).Process(ctx, request(&out, item))
				cancel()
				early := len(item) > 1 && gantry.CodeOf(err) == CodeAnsweredEarly
				if gantry.KindOf(err) != gantry.Timeout && !early || len(out) != 0 {
					t.Errorf("%v (%s), outputs %v", err, gantry.KindOf(err), out)
				}
			}
		})
	}
}

// A refusal is told when it is known, however slowly its body comes.
func TestRefusalThatDrips(t *testing.T) {
	t.Parallel()
	p := rawService(t, func(c *net.TCPConn, done <-chan struct{}) {
		io.WriteString(c, "HTTP/1.1 503 Busy\r\nRetry-After: 9\r\nContent-Length: 60000\r\n\r\n"+secret)
		<-done
	})
	p.drain = 20 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := p.Process(ctx, request(nil, "x"))
	if gantry.KindOf(err) != gantry.Unavailable || gantry.RetryAfterOf(err) != 9*time.Second || strings.Contains(err.Error(), secret) {
		t.Errorf("%v (%s)", err, gantry.KindOf(err))
	}
	if ctx.Err() != nil {
		t.Error("it took until the deadline")
	}
}

// A service that refuses while a large item is still being sent is heard, and the item is let go.
func TestRefusalBeforeTheInput(t *testing.T) {
	t.Parallel()
	p := rawService(t, func(c *net.TCPConn, done <-chan struct{}) {
		io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
		<-done
	})
	req := request(nil, strings.Repeat("x", 64<<20))
	err := p.Process(t.Context(), req)
	if gantry.KindOf(err) != gantry.Permanent || gantry.CodeOf(err) != "http_413" {
		t.Errorf("%v (%s)", err, gantry.CodeOf(err))
	}
}
