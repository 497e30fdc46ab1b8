package chaos

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"
)

// proxy stands between processes and Postgres. While it is armed it lets some statements that write through,
// waits until the server says that they are committed, and cuts the connection with nothing of the answer sent.
type proxy struct {
	net.Listener
	network, server string
	armed           atomic.Bool
	cuts            sync.Map // how often, by the statement's first words
	n               atomic.Int64
}

func newProxy(t *testing.T, network, server string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	p := &proxy{Listener: l, network: network, server: server}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

var writes = regexp.MustCompile(`(?i)\b(insert|update|delete|nextval|commit)\b`)

// session is one connection: what it has prepared, and whether the next answer is to be lost.
type session struct {
	mu       sync.Mutex
	prepared map[string]string // statements by name
	sql      string            // of a statement since the last Sync that writes
	asked    int               // answers that are still to come
	lose     bool
}

func (p *proxy) serve(c net.Conn) {
	defer c.Close()
	s, err := net.Dial(p.network, p.server)
	if err != nil {
		return
	}
	defer s.Close()
	x := &session{prepared: map[string]string{}, asked: 1} // the answer to the greeting
	go func() {
		defer s.Close()
		for first := true; ; first = false {
			m, err := message(c, first)
			if err != nil || p.ask(x, m, first) != nil {
				return
			}
			if _, err := s.Write(m); err != nil {
				return
			}
		}
	}()
	var held []byte // the answer so far
	for {
		m, err := message(s, false)
		if err != nil {
			return
		}
		x.mu.Lock()
		waiting, lose := x.asked > 0, x.lose && x.asked == 1
		if m[0] == 'Z' {
			x.asked--
		}
		x.mu.Unlock()
		held = append(held, m...)
		if m[0] == 'Z' && lose {
			p.n.Add(1)
			n, _ := p.cuts.LoadOrStore(x.sql, new(atomic.Int64))
			n.(*atomic.Int64).Add(1)
			return
		}
		if lose && waiting {
			continue
		}
		if _, err := c.Write(held); err != nil {
			return
		}
		held = nil
	}
}

// ask notes what a client sends. The answer to a Sync or a simple query is lost if anything before it writes.
func (p *proxy) ask(x *session, m []byte, first bool) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if first {
		return nil
	}
	switch f := bytes.Split(m[5:], []byte{0}); m[0] {
	case 'P':
		x.prepared[string(f[0])] = string(f[1])
	case 'B':
		x.note(x.prepared[string(f[1])])
	case 'Q':
		x.note(string(f[0]))
		fallthrough
	case 'S':
		x.asked++
		x.lose = p.armed.Load() && x.asked == 1 && x.sql != "" && rand.IntN(8) == 0
		if !x.lose {
			x.sql = ""
		}
	}
	return nil
}

// note remembers that a statement writes.
func (x *session) note(sql string) {
	if w := writes.FindString(sql); w != "" {
		x.sql += " " + regexp.MustCompile(`\s+`).ReplaceAllString(sql[:min(len(sql), 60)], " ")
	}
}

// message reads one message; the first of a client has no type.
func message(r io.Reader, first bool) ([]byte, error) {
	head := 5
	if first {
		head = 4
	}
	b := make([]byte, head)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(b[head-4:])) - 4
	b = append(b, make([]byte, n)...)
	_, err := io.ReadFull(r, b[head:])
	return b, err
}
