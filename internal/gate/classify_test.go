package gate

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// patience is a phase's own limit in tests of it: far under long, far over a slow machine's hiccup.
const patience = 400 * time.Millisecond

// answering serves every request with fixed bytes and then does what after says; nil: close.
func answering(t testing.TB, answer string, after func(net.Conn)) string {
	return rawServer(t, func(c net.Conn, br *bufio.Reader) {
		if _, err := readRequest(br); err != nil {
			return
		}
		io.WriteString(c, answer)
		if after != nil {
			after(c)
		}
	})
}

// hang holds the connection until the peer gives up.
func hang(c net.Conn) { io.Copy(io.Discard, c) }

// reset closes the connection with a RST.
func reset(c net.Conn) {
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

func flood(pieces string) func(net.Conn) {
	return func(c net.Conn) {
		for piece := []byte(strings.Repeat(pieces, 100)); ; {
			if _, err := c.Write(piece); err != nil {
				return
			}
		}
	}
}

func TestBrokenAnswers(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\n"
	for _, x := range []struct {
		name, answer string
		after        func(net.Conn)
		kind         gantry.Kind
		code         gantry.Code
		read         int64 // bytes of the body
	}{
		{"closed before the answer", "", nil, gantry.Transient, CodeConnectionClosed, 0},
		{"reset before the answer", "", reset, gantry.Transient, CodeConnectionReset, 0},
		{"half a status line", "HTTP/1.1 200", nil, gantry.Transient, CodeConnectionClosed, 0},
		{"half a header", ok + "X-A: " + secret, nil, gantry.Transient, CodeConnectionClosed, 0},
		{"half-closed in the header", ok + "X-A: 1\r\n", func(c net.Conn) { c.(*net.TCPConn).CloseWrite(); hang(c) }, gantry.Transient, CodeConnectionClosed, 0},
		{"short of its length", ok + "Content-Length: 9\r\n\r\n123", nil, gantry.Transient, CodeShortBody, 3},
		{"half-closed in the body", ok + "Content-Length: 9\r\n\r\n123", func(c net.Conn) { c.(*net.TCPConn).CloseWrite(); hang(c) }, gantry.Transient, CodeShortBody, 3},
		{"chunk cut", ok + "Transfer-Encoding: chunked\r\n\r\n9\r\n123", nil, gantry.Transient, CodeShortBody, 3},
		{"last chunk missing", ok + "Transfer-Encoding: chunked\r\n\r\n3\r\n123\r\n", nil, gantry.Transient, CodeShortBody, 3},
		{"reset in the body", ok + "Content-Length: 9\r\n\r\n", reset, gantry.Transient, CodeConnectionReset, 0},
		{"not HTTP", "SSH-2.0-" + secret + "\r\n\r\n", nil, gantry.BadResponse, CodeMalformedAnswer, 0},
		{"bad status", "HTTP/1.1 2x0 " + secret + "\r\n\r\n", nil, gantry.BadResponse, CodeMalformedAnswer, 0},
		{"bad header", ok + secret + "\r\n\r\n", nil, gantry.BadResponse, CodeMalformedAnswer, 0},
		{"bad length", ok + "Content-Length: " + secret + "\r\n\r\n", nil, gantry.BadResponse, CodeMalformedAnswer, 0},
		{"two lengths", ok + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n12", nil, gantry.BadResponse, CodeMalformedAnswer, 0},
		{"negative length", ok + "Content-Length: -1\r\n\r\n", nil, gantry.BadResponse, CodeMalformedAnswer, 0},
		{"bad chunk", ok + "Transfer-Encoding: chunked\r\n\r\n3\r\n123\r\n" + secret + "\r\n", nil, gantry.BadResponse, CodeMalformedAnswer, 3},
		{"unknown encoding", ok + "Transfer-Encoding: " + secret + "\r\n\r\n", nil, gantry.BadResponse, CodeMalformedAnswer, 0},
		{"huge header", ok + "X-A: " + strings.Repeat("a", 65<<10) + "\r\n\r\n", hang, gantry.BadResponse, CodeMalformedAnswer, 0},
		{"endless header", ok, flood("X-A: b\r\n"), gantry.BadResponse, CodeMalformedAnswer, 0},
		{"endless header line", ok, flood("a"), gantry.BadResponse, CodeMalformedAnswer, 0},
		{"endless interim answers", "", flood("HTTP/1.1 103 Early\r\nX-A: b\r\n\r\n"), gantry.BadResponse, CodeMalformedAnswer, 0},
		{"endless trailer", ok + "Transfer-Encoding: chunked\r\n\r\n0\r\n", flood("X-A: b\r\n"), gantry.BadResponse, CodeMalformedAnswer, 0},
		{"endless chunk extension", ok + "Transfer-Encoding: chunked\r\n\r\n", flood("1;a=" + strings.Repeat("b", 999) + "\r\nx\r\n"), gantry.BadResponse, CodeMalformedAnswer, -1},
		{"upgrade", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", hang, gantry.BadResponse, CodeMalformedAnswer, 0},
		{"declared too large", ok + "Content-Length: 10000000000\r\n\r\n", flood("x"), gantry.BadResponse, gantry.CodeTooLarge, 0},
		{"endless to the close", ok + "\r\n", flood("x"), gantry.BadResponse, gantry.CodeTooLarge, 1 << 20},
		{"endless chunks", ok + "Transfer-Encoding: chunked\r\n\r\n", flood("5\r\nxxxxx\r\n"), gantry.BadResponse, gantry.CodeTooLarge, 1 << 20},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			to := answering(t, x.answer, x.after)
			tr := do(t.Context(), t, egressTo(t, to, Policy{MaxBody: 1 << 20}), to, strings.NewReader("pixels"), key)
			tr.want(t, x.kind, x.code)
			if o := tr.out; o.ReqSize != 6 || !tr.left || x.read >= 0 && (o.RespSize != x.read || int64(len(tr.body)) != x.read) {
				t.Errorf("counted %d bytes out, %d in, want 6 and %d", o.ReqSize, o.RespSize, x.read)
			}
			if tr.out.Took <= 0 {
				t.Errorf("took %s", tr.out.Took)
			}
		})
	}
}

func TestBodyOfExactlyTheLimit(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{"Content-Length: 5\r\n\r\n12345", "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n"} {
		to := answering(t, "HTTP/1.1 200 OK\r\n"+answer, nil)
		if tr := do(t.Context(), t, egressTo(t, to, Policy{MaxBody: 5}), to, nil); tr.err != nil || string(tr.body) != "12345" {
			t.Errorf("%q, %v", tr.body, tr.err)
		}
		do(t.Context(), t, egressTo(t, to, Policy{MaxBody: 4}), to, nil).want(t, gantry.BadResponse, gantry.CodeTooLarge)
	}
}

func (endless) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestDialFailures(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + l.Addr().String()
	l.Close()
	none := Policy{Resolver: resolver(func() string { return "" })}
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	selfSigned, trusted := secureServer(t, http.NotFoundHandler(), nil)
	old, oldTrusted := secureServer(t, http.NotFoundHandler(), func(s *httptest.Server) {
		s.EnableHTTP2 = false
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	})
	oldTrusted.TLS.MinVersion = tls.VersionTLS10
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(selfSigned, "https://"))
	wrongName := Policy{TLS: trusted.TLS, Resolver: resolver(func() string { return "127.0.0.1" })}
	for _, x := range []struct {
		name, to string
		p        Policy
		kind     gantry.Kind
		code     gantry.Code
	}{
		{"nobody listens", closed, Policy{}, gantry.Transient, CodeConnectionRefused},
		{"no such name", "http://model.test", none, gantry.Transient, CodeDNS},
		{"unknown authority", selfSigned, Policy{}, gantry.Denied, CodeTLS},
		{"unverified does not go", selfSigned, Policy{TLS: &tls.Config{InsecureSkipVerify: true}}, gantry.Denied, CodeTLS},
		{"wrong name", "https://model.test:" + port, wrongName, gantry.Denied, CodeTLS},
		{"TLS 1.1", old, oldTrusted, gantry.Denied, CodeTLS},
		{"no TLS", strings.Replace(plain.URL, "http", "https", 1), Policy{}, gantry.Denied, CodeTLS},
		{"closed in the handshake", strings.Replace(rawServer(t, func(_ net.Conn, br *bufio.Reader) { br.ReadByte() }), "http", "https", 1), Policy{}, gantry.Transient, CodeConnectionReset},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			tr := do(t.Context(), t, egressTo(t, x.to, x.p), x.to, strings.NewReader("pixels"))
			if x.name == "closed in the handshake" && gantry.CodeOf(tr.err) == CodeConnectionClosed {
				x.code = CodeConnectionClosed // which of the two is the kernel's choice
			}
			if tr.want(t, x.kind, x.code); tr.left || tr.out != (gantry.Outcome{}) {
				t.Errorf("something left: %+v", tr.out)
			}
		})
	}
}

func TestRequestBodyErrorComesOutAsItIs(t *testing.T) {
	t.Parallel()
	errDisk := errors.New("read blob: input/output error")
	var seen atomic.Int32
	plain := httptest.NewServer(echo(&seen))
	t.Cleanup(plain.Close)
	h2, p2 := secureServer(t, echo(&seen), nil)
	for to, p := range map[string]Policy{plain.URL: {}, h2: p2} {
		for _, n := range []int64{-1, 1 << 20} {
			body := io.MultiReader(strings.NewReader("pixels"), iotest.ErrReader(errDisk))
			tr := do(t.Context(), t, egressTo(t, to, p), to, io.NopCloser(body), size(n), key)
			if tr.err != errDisk || tr.out.ReqSize != 6 {
				t.Errorf("%s: %v (%T), %d bytes sent", to, tr.err, tr.err, tr.out.ReqSize)
			}
		}
		// Of a body that is too long the last declared bytes do not go out: the peer must not take
		// it for whole.
		for n, want := range map[int64]int64{3: 0, 9: 6} {
			tr := do(t.Context(), t, egressTo(t, to, p), to, io.NopCloser(strings.NewReader("pixels")), size(n))
			if tr.want(t, gantry.Illegal, CodeBodyLength); tr.out.ReqSize != want {
				t.Errorf("%s: %d bytes counted of %d declared", to, tr.out.ReqSize, n)
			}
		}
		tr := do(t.Context(), t, egressTo(t, to, p), to, io.NopCloser(io.MultiReader(strings.NewReader("pixels"), iotest.ErrReader(errDisk))), size(6))
		if tr.err != errDisk || tr.out.ReqSize != 0 {
			t.Errorf("%s: an error at the very end: %v, %d bytes sent", to, tr.err, tr.out.ReqSize)
		}
	}
}

func TestCancelComesOutAsItIs(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{}, 1)
	stall := func(answer string) string {
		return rawServer(t, func(c net.Conn, br *bufio.Reader) {
			readRequest(br)
			io.WriteString(c, answer)
			arrived <- struct{}{}
			hang(c)
		})
	}
	for _, answer := range []string{"", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123"} {
		to := stall(answer)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-arrived; cancel() }()
		tr := do(ctx, t, egressTo(t, to, Policy{}), to, strings.NewReader("pixels"))
		if tr.err != context.Canceled || tr.out.ReqSize != 6 {
			t.Errorf("%v, %d bytes out", tr.err, tr.out.ReqSize)
		}
	}
}

func TestGzipStaysAsSent(t *testing.T) {
	t.Parallel()
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	z.Write(make([]byte, 10<<20))
	z.Close()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(bomb.Bytes())
	}))
	t.Cleanup(s.Close)
	tr := do(t.Context(), t, egressTo(t, s.URL, Policy{MaxBody: 64 << 10}), s.URL, nil)
	if tr.err != nil || !bytes.Equal(tr.body, bomb.Bytes()) || tr.header.Get("Content-Encoding") != "gzip" {
		t.Errorf("%d of %d bytes, %v", len(tr.body), bomb.Len(), tr.err)
	}
}

func TestH2BreaksOff(t *testing.T) {
	t.Parallel()
	to, p := secureServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		switch r.Header.Get("Do") {
		case "headless":
			panic(http.ErrAbortHandler)
		case "short":
			fmt.Fprint(w, secret)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		case "stall":
			fmt.Fprint(w, "123")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		case "flood":
			for range 10 * max1xx {
				w.WriteHeader(http.StatusEarlyHints)
			}
		}
	}), nil)
	p.Idle = patience
	for what, want := range map[string]*gantry.Error{
		"headless": {Kind: gantry.Transient, Code: CodeConnectionLost},
		"short":    {Kind: gantry.Transient, Code: CodeConnectionLost},
		"stall":    {Kind: gantry.Timeout, Code: CodeIdleTimeout},
		"flood":    {Kind: gantry.BadResponse, Code: CodeMalformedAnswer},
	} {
		tr := do(t.Context(), t, egressTo(t, to, p), to, strings.NewReader("pixels"), key, func(r *http.Request) { r.Header.Set("Do", what) })
		if tr.want(t, want.Kind, want.Code); tr.out.ReqSize != 6 || !tr.left {
			t.Errorf("%s: %+v", what, tr.out)
		}
	}
}
