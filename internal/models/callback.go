package models

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/gantry-imaging/gantry/internal/auth"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	callbackTries   = 5
	callbackTimeout = 30 * time.Second
	maxPause        = 10 * time.Second // between two tries
)

const codeCallbackRefused gantry.Code = "callback_refused"

// caller sends callbacks: to this machine, and to the addresses that it was allowed.
type caller struct {
	secret auth.Secret
	nets   []netip.Prefix
	client *http.Client
	now    func() time.Time
	pause  time.Duration
}

func newCaller(secret auth.Secret, nets []netip.Prefix) *caller {
	c := &caller{secret: secret, nets: nets, now: time.Now, pause: time.Second}
	dial := &net.Dialer{Timeout: 5 * time.Second, Control: c.reach}
	c.client = &http.Client{
		Transport: &http.Transport{DialContext: dial.DialContext, MaxIdleConnsPerHost: 8, IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
		Timeout: callbackTimeout,
	}
	return c
}

// reach refuses an address that a name stood for and that is not allowed.
func (c *caller) reach(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !c.allowed(at.Addr()) {
		return errors.New("the address is not allowed")
	}
	return nil
}

func (c *caller) allowed(ip netip.Addr) bool {
	ip = ip.Unmap()
	for _, n := range c.nets {
		if n.Contains(ip) {
			return true
		}
	}
	return ip.IsLoopback()
}

// allow says why nothing is sent to a URL.
func (c *caller) allow(to string) error {
	refused := func(why string) error {
		return gantry.Errorf(gantry.Denied, codeCallbackRefused, "no callbacks: %s", why)
	}
	if c.secret.Reveal() == "" {
		return refused("there is no secret to sign them with")
	}
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || len(to) > 2048 {
		return refused("the address is no http URL")
	}
	ip, err := netip.ParseAddr(u.Hostname())
	if err == nil && !c.allowed(ip) || err != nil && u.Hostname() != "localhost" && len(c.nets) == 0 {
		return refused("the address is not allowed")
	}
	return nil
}

// post sends one callback, again while its receiver says "not now" or cannot be reached, a few times. A
// forged one is signed with another secret. It gives the last status; 0 if there was none.
func (c *caller) post(ctx context.Context, to string, status gantry.CallbackStatus, media string, body []byte, forged bool) int {
	secret := c.secret
	if forged {
		secret = auth.NewSecret("not " + secret.Reveal())
	}
	code := 0
	for try := range callbackTries {
		var after time.Duration
		code, after = c.once(ctx, to, status, media, body, secret)
		retry := code == 0 || code >= 500 || code == http.StatusTooManyRequests || code == http.StatusRequestTimeout
		if !retry || !wait(ctx, min(max(after, c.pause<<try), maxPause)) {
			break
		}
	}
	return code
}

// once makes one try and gives the status and the pause that was asked for.
func (c *caller) once(ctx context.Context, to string, status gantry.CallbackStatus, media string, body []byte, secret auth.Secret) (int, time.Duration) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return 0, 0
	}
	if media != "" {
		req.Header.Set("Content-Type", media)
	}
	req.Header.Set("Gantry-Status", string(status))
	req.Header.Set(auth.SignatureHeader, auth.SignCallback(c.now(), body, secret))
	resp, err := c.client.Do(req)
	if err != nil {
		return 0, 0
	}
	defer resp.Body.Close()
	io.CopyN(io.Discard, resp.Body, 64<<10)
	seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
	return resp.StatusCode, time.Duration(max(0, min(seconds, 3600))) * time.Second
}
