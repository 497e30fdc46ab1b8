package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Codes of callbacks that are refused, beside those of uploads.
const (
	CodeBadStatus    gantry.Code = "bad_status"    // Illegal: Gantry-Status is none of its words
	CodeLate         gantry.Code = "late"          // Permanent: nobody waits for the answer any more
	CodeForged       gantry.Code = "forged"        // Denied: its signature is none, or too old
	CodeUnknownToken gantry.Code = "unknown_token" // NotFound
)

// StatusHeader is the header that says what a callback means; without it, that the work is done.
const StatusHeader = "Gantry-Status"

const (
	maxCallback   = 2 << 30 // bytes of a body, as of an answer that is waited for
	callbacksSide = 64      // callbacks at once
	callbackRate  = 4 << 10 // bytes per second that a body must keep up after its first minute
)

// CallbackVerdict says what became of a callback.
type CallbackVerdict uint8

// The verdicts. The first two are told a service as a success: it need not send the same again.
const (
	CallbackAccepted  CallbackVerdict = iota // 200: it is durable, or was a sign of life
	CallbackDuplicate                        // 200: an answer was taken already
	CallbackLate                             // 410: its part has ended, was given up or has another ticket
	CallbackForged                           // 401: the signature, or its time, is not right
	CallbackUnknown                          // 404: there is no such token
)

var verdictNames = [...]string{"accepted", "duplicate", "late", "forged", "unknown"}

// String gives the verdict's name.
func (v CallbackVerdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return "no verdict"
}

// Callbacks takes what services send on their own. It may be called concurrently.
type Callbacks interface {
	// Callback takes one callback for a token of 16 to 256 letters, digits, dots, dashes and underscores.
	// body is at most 2 GiB, its errors are *gantry.Error and are to be passed on. What is not signed for the
	// token's processor (auth.NewCallbackVerifier over all of body) changes nothing. An error means that
	// nothing was kept: of kind Transient, Timeout or Unavailable it is 503 with Retry-After.
	Callback(ctx context.Context, token string, h http.Header, status gantry.CallbackStatus, body io.Reader) (CallbackVerdict, error)
}

// callbacks serves what services send.
type callbacks struct {
	to    Callbacks // nil: there is nobody to take any
	slots chan struct{}
	idle  time.Duration // how long a body may stand still, and take before it has to keep up a rate
	limit int64
}

// TakeCallbacks serves POST /callbacks/{token} and leaves all else to next. Without c every token is unknown.
// Callers are told by their signatures, not by where they come from.
func TakeCallbacks(next http.Handler, c Callbacks) http.Handler { return newCallbacks(c).handler(next) }

func newCallbacks(c Callbacks) *callbacks {
	return &callbacks{to: c, slots: make(chan struct{}, callbacksSide), idle: time.Minute, limit: maxCallback}
}

func (c *callbacks) handler(next http.Handler) http.Handler { return mount(next, c.routes(), nil) }

func (c *callbacks) routes() routes {
	return routes{"POST /callbacks/{token}": c.take, "/callbacks/": nothing}
}

var tokenPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{16,256}$`)

// take hands one callback on and answers with the verdict.
func (c *callbacks) take(w http.ResponseWriter, r *http.Request) error {
	token := r.PathValue("token")
	if c.to == nil || !tokenPattern.MatchString(token) {
		verdict(w, CallbackUnknown)
		return nil
	}
	status, err := callbackStatus(r.Header)
	if err != nil {
		return err
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return gantry.Errorf(gantry.Illegal, CodeEncoded, "the body must be the answer itself, not encoded")
	}
	if r.ContentLength > c.limit {
		return tooLong(c.limit)
	}
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	default:
		return gantry.Errorf(gantry.Unavailable, CodeBusy, "there are %d callbacks under way", cap(c.slots))
	}
	body := &called{r: r.Body, control: http.NewResponseController(w), idle: c.idle, begun: time.Now(), left: c.limit}
	v, err := c.to.Callback(r.Context(), token, r.Header, status, body)
	switch {
	case err == nil:
		verdict(w, v)
		return nil
	case body.err != nil && body.err != io.EOF && errors.Is(err, body.err):
		return body.err
	}
	// What an implementation says may hold the token.
	return &gantry.Error{Kind: gantry.KindOf(err), Code: gantry.CodeOf(err), RetryAfter: gantry.RetryAfterOf(err), Err: errors.New("the callback was not taken")}
}

// callbackStatus reads what a callback means.
func callbackStatus(h http.Header) (gantry.CallbackStatus, error) {
	switch s := gantry.CallbackStatus(h.Get(StatusHeader)); s {
	case "":
		return gantry.CallbackDone, nil
	case gantry.CallbackRunning, gantry.CallbackDone, gantry.CallbackFailed:
		return s, nil
	}
	return "", gantry.Errorf(gantry.Illegal, CodeBadStatus, "%s is neither running, done nor failed", StatusHeader)
}

// verdict answers with what became of a callback.
func verdict(w http.ResponseWriter, v CallbackVerdict) {
	p := problem{Status: http.StatusInternalServerError, Code: "internal", Kind: gantry.Transient.String(), Detail: "something is wrong here; the log says more"}
	switch v {
	case CallbackAccepted, CallbackDuplicate:
		w.Header().Set("Content-Type", gantry.MediaJSON)
		json.NewEncoder(w).Encode(map[string]string{"verdict": v.String()})
		return
	case CallbackLate:
		p = problem{Status: http.StatusGone, Code: string(CodeLate), Kind: gantry.Permanent.String(), Detail: "nobody waits for this answer any more"}
	case CallbackForged:
		w.Header().Set("WWW-Authenticate", "Gantry-Signature") // RFC 9110 section 15.5.2
		p = problem{Status: http.StatusUnauthorized, Code: string(CodeForged), Kind: gantry.Denied.String(), Detail: "the signature does not fit the body, or is not of this time"}
	case CallbackUnknown:
		p = problem{Status: http.StatusNotFound, Code: string(CodeUnknownToken), Kind: gantry.NotFound.String(), Detail: "nobody waits under this address"}
	}
	p.Title = http.StatusText(p.Status)
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p)
}

func tooLong(limit int64) error {
	return gantry.Errorf(gantry.Illegal, gantry.CodeTooLarge, "the body is over the limit of %d bytes", limit)
}

// called is a callback's body. It may not stand still, nor come in drops, nor be longer than left. An
// error stays.
type called struct {
	r       io.Reader
	control *http.ResponseController
	idle    time.Duration
	begun   time.Time
	got     int64
	left    int64
	err     error
}

// Read reads on.
func (c *called) Read(p []byte) (int, error) {
	if c.err != nil || len(p) == 0 {
		return 0, c.err
	}
	if int64(len(p)) > c.left+1 {
		p = p[:c.left+1] // one more than allowed, to see whether there is more
	}
	late := c.begun.Add(c.idle + time.Duration(float64(c.got)/callbackRate*float64(time.Second)))
	if still := time.Now().Add(c.idle); still.Before(late) {
		late = still
	}
	c.control.SetReadDeadline(late)
	n, err := c.r.Read(p)
	c.got += int64(n)
	switch c.left -= int64(n); {
	case c.left < 0:
		n, c.err = 0, tooLong(c.got+c.left)
	case err == io.EOF: // net/http reads on beside us, to see the caller go away
		c.control.SetReadDeadline(time.Time{})
		c.err = err
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.err = gantry.Errorf(gantry.Timeout, CodeIdle, "read body: it came too slowly")
	case err != nil:
		c.err = broken()
	}
	return n, c.err
}
