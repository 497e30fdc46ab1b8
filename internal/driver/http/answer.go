package http

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Codes of answers. Beside them stands http_NNN for each status that is no success.
const (
	CodeRedirect       gantry.Code = "redirect"              // BadResponse
	CodeMediaType      gantry.Code = "unexpected_media_type" // BadResponse
	CodeEncoded        gantry.Code = "unexpected_encoding"   // BadResponse: compressed though identity was asked for
	CodeAnsweredEarly  gantry.Code = "answered_early"        // BadResponse: a success before the input was sent
	CodeConnectionLost gantry.Code = "connection_lost"       // Transient
)

const (
	drainLimit    = 64 << 10 // what is read of an answer that nobody wants, in bytes
	maxRetryAfter = 10 * time.Minute
)

// answer judges an answer and hands its body on. cancel ends the request; sent, if there is one, says whether
// an answer may be there already.
func (p *processor) answer(ctx context.Context, cancel func(), resp *http.Response, sent func(context.Context) error, req *gantry.Request) error {
	if err := refusal("post", resp, p.now()); err != nil {
		p.forget(cancel, resp)
		return err
	}
	body := &answerBody{ctx: ctx, r: resp.Body}
	if claim := claimed(resp.Header.Values("Content-Digest")); claim != nil {
		body.r = newChecked(ctx, resp.Body, claim, gantry.BadResponse)
	}
	buffered := buffers.Get().(*bufio.Reader)
	buffered.Reset(body)
	defer func() { buffered.Reset(nil); buffers.Put(buffered) }()
	_, err := buffered.Peek(1)
	if err != nil && err != io.EOF {
		return err
	}
	if sent != nil {
		if early := sent(ctx); early != nil {
			return early
		}
	}
	if err == io.EOF { // nothing to say, as with 204
		return nil
	}
	return p.hand(ctx, resp, peeked{buffered, body}, req)
}

// forget reads a little of an answer that nobody wants, so that its connection can be used again.
func (p *processor) forget(cancel func(), resp *http.Response) {
	stop := time.AfterFunc(p.drain, cancel)
	defer stop.Stop()
	io.CopyN(io.Discard, resp.Body, drainLimit)
}

// arrived says why an answer cannot be there yet: the input broke off, or is not all sent.
func (i *input) arrived(ctx context.Context) error {
	if failed := i.failure(ctx); failed != nil {
		return failed
	}
	if !i.isWhole() {
		return gantry.Errorf(gantry.BadResponse, CodeAnsweredEarly, "read answer: it came before the input was sent")
	}
	return nil
}

// buffers hold the beginning of an answer.
var buffers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, bufferSize) }}

// peeked is a body whose beginning was looked at.
type peeked struct {
	r    *bufio.Reader
	body *answerBody
}

// Read reads the body from its beginning.
func (p peeked) Read(b []byte) (int, error) { return p.r.Read(b) }

// Digest is that of the body, which this passes on whole.
func (p peeked) Digest() (gantry.Digest, int64, bool) { return gantry.DigestOf(p.body.r) }

// hand gives what the body holds to req.Receive.
func (p *processor) hand(ctx context.Context, resp *http.Response, r peeked, req *gantry.Request) error {
	if err := encoding(resp.Header.Get("Content-Encoding")); err != nil {
		return err
	}
	media, boundary, err := p.mediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	switch {
	case boundary != "":
		err = newParts(r.r, boundary).hand(ctx, req)
	case p.config.Answer == answerBase64:
		err = (&outputs{r: r.r, receive: receiver(ctx, req)}).hand()
	default:
		return receive(ctx, req, media, resp.ContentLength, r, r.body.ended)
	}
	if err != nil {
		return err
	}
	return r.body.ended()
}

// receive gives one output to req.Receive. ended tells whether r was read to its end.
func receive(ctx context.Context, req *gantry.Request, media string, size int64, r io.Reader, ended func() error) error {
	if media == gantry.MediaJSON {
		checked := newJSONReader(r)
		r, ended = checked, checked.ended
	}
	if err := req.Receive(ctx, media, size, r); err != nil {
		return err
	}
	return ended() // whatever Receive made of it, a body that broke off is no success
}

// refusal is the error that a status stands for; nil for a success.
//
// 202 and 206 are successes that bring no result: it comes later, or is a part of one.
func refusal(doing string, resp *http.Response, now time.Time) error {
	status := resp.StatusCode
	if status >= 200 && status < 300 && status != http.StatusAccepted && status != http.StatusPartialContent {
		return nil
	}
	e := gantry.Errorf(gantry.Permanent, gantry.Code(fmt.Sprintf("http_%03d", status)), "%s: status %d", doing, status)
	switch {
	case status < 300, status > 599:
		e.Kind = gantry.BadResponse
	case status < 400:
		e.Kind, e.Code = gantry.BadResponse, CodeRedirect
	case status == http.StatusRequestTimeout:
		e.Kind = gantry.Timeout
	case status == http.StatusTooEarly, status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		e.Kind, e.RetryAfter = gantry.Unavailable, retryAfter(resp.Header.Get("Retry-After"), now)
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		e.Kind = gantry.Denied
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed, status == http.StatusGone:
		e.Kind = gantry.NotFound
	case status >= 500:
		e.Kind = gantry.Transient
	}
	return e
}

// retryAfter reads Retry-After, seconds or a date (RFC 9110 section 10.2.3), up to ten minutes. What
// makes no sense counts as nothing.
func retryAfter(s string, now time.Time) time.Duration {
	s = strings.TrimSpace(s)
	if s != "" && strings.Trim(s, "0123456789") == "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n > int64(maxRetryAfter/time.Second) {
			return maxRetryAfter
		}
		return time.Duration(n) * time.Second
	}
	at, err := http.ParseTime(s)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}

// encoding refuses an answer that is not sent as it is.
func encoding(e string) error {
	if e != "" && !strings.EqualFold(e, "identity") {
		return gantry.Errorf(gantry.BadResponse, CodeEncoded, "read answer: its body is encoded")
	}
	return nil
}

// mediaType gives the type of an answer that may be taken, and the boundary of one that is
// multipart.
func (p *processor) mediaType(contentType string) (media, boundary string, err error) {
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		media = ""
	}
	multi := media == mediaMixed || media == mediaForm
	switch {
	case multi && p.config.Answer != answerBase64:
		boundary, err = checkBoundary(params["boundary"])
		return media, boundary, err
	case isOutput(media) && p.config.Answer == answerAuto, media == gantry.MediaJSON && p.config.Answer == answerBase64:
		return media, "", nil
	}
	return "", "", notTaken(media, p.config.accept())
}

// isOutput tells the types that an output may have.
func isOutput(media string) bool {
	switch media {
	case gantry.MediaPNG, gantry.MediaJPEG, gantry.MediaDICOM, gantry.MediaJSON, gantry.MediaNPY:
		return true
	}
	return false
}

// notTaken refuses a type, which is quoted if the word is one of ours.
func notTaken(media, only string) error {
	switch media {
	case "text/html", "text/plain", mediaOctets, gantry.MediaZIP, mediaMixed, mediaForm:
	default:
		if !isOutput(media) {
			media = "another or no media type"
		}
	}
	return gantry.Errorf(gantry.BadResponse, CodeMediaType, "read answer: %s; only %s", media, only)
}

// answerBody classifies the errors of an answer's body and keeps the first.
type answerBody struct {
	ctx context.Context
	r   io.Reader
	err error
}

// Read reads the body.
func (b *answerBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.r.Read(p)
	if err != nil && err != io.EOF {
		err = classify(b.ctx, "read answer", err)
	}
	b.err = err
	return n, err
}

// ended is nil if the body was read to its end.
func (b *answerBody) ended() error { return unended(b.err) }

// unended says what is wrong with a body whose last Read said err.
func unended(err error) error {
	switch err {
	case io.EOF:
		return nil
	case nil:
		return gantry.Errorf(gantry.Transient, CodeConnectionLost, "read answer: it was not read to its end")
	}
	return err
}

// classify gives a meaning to an error of a transport that has none. Its text is ours: theirs
// quote answers.
func classify(ctx context.Context, doing string, err error) error {
	if own, ok := errors.AsType[*gantry.Error](err); ok {
		return own
	}
	var timed net.Error
	switch cause := ctx.Err(); {
	case errors.Is(cause, context.Canceled), errors.Is(err, context.Canceled):
		return context.Canceled
	case cause != nil, errors.As(err, &timed) && timed.Timeout():
		return gantry.Errorf(gantry.Timeout, "", "%s: %w", doing, context.DeadlineExceeded)
	}
	return gantry.Errorf(gantry.Transient, CodeConnectionLost, "%s: the connection broke off", doing)
}
