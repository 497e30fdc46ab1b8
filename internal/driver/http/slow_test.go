package http

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// A look and a deletion end by themselves, whatever the service withholds.
func TestSlowJobs(t *testing.T) {
	t.Parallel()
	hang := func(c *net.TCPConn, begin string, done <-chan struct{}) {
		io.WriteString(c, begin)
		<-done
	}
	drip := func(c *net.TCPConn, begin string, done <-chan struct{}) {
		io.WriteString(c, begin)
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			select {
			case <-done:
				return
			case <-tick.C:
				if _, err := io.WriteString(c, " "); err != nil {
					return
				}
			}
		}
	}
	const ok = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	for what, talk := range map[string]func(*net.TCPConn, <-chan struct{}){
		"no answer":           func(c *net.TCPConn, done <-chan struct{}) { hang(c, "", done) },
		"half a header":       func(c *net.TCPConn, done <-chan struct{}) { hang(c, ok, done) },
		"half a body":         func(c *net.TCPConn, done <-chan struct{}) { hang(c, ok+"Content-Length: 60000\r\n\r\n{", done) },
		"a body that drips":   func(c *net.TCPConn, done <-chan struct{}) { drip(c, ok+"Content-Length: 60000\r\n\r\n{", done) },
		"a header that drips": func(c *net.TCPConn, done <-chan struct{}) { drip(c, ok+"X-A: ", done) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			p := rawService(t, talk)
			p.config.Async = patient(func(a *AsyncConfig) { a.Status = "/status" }).Async.withDefaults()
			p.look, p.drain = 100*time.Millisecond, 20*time.Millisecond
			begun := time.Now()
			_, err := p.Poll(t.Context(), gantry.Ticket{ID: "/j"})
			wantError(t, "poll", err, gantry.Timeout, "")
			if strings.HasSuffix(what, "answer") || strings.HasSuffix(what, "header") {
				wantError(t, "abandon", p.Abandon(t.Context(), gantry.Ticket{ID: "/j"}), gantry.Timeout, "")
			} else if err := p.Abandon(t.Context(), gantry.Ticket{ID: "/j"}); err != nil && gantry.KindOf(err) != gantry.Timeout {
				t.Errorf("abandon: %v", err)
			}
			if time.Since(begun) > 10*time.Second {
				t.Error("it took long")
			}
		})
	}
}
