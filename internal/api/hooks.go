package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Codes of notifications that are refused, beside those of uploads and of the source itself.
const (
	CodeNoSource gantry.Code = "no_source" // NotFound: none of this name takes notifications
	CodeBadToken gantry.Code = "bad_token" // Denied
)

const (
	maxHook   = 256 << 10 // bytes of a body
	hooksSide = 256       // notifications at once; a large object may be copied for each
)

// Hooks takes what the servers of sources send on their own. It may be called concurrently.
type Hooks interface {
	// Hook takes one notification to a source of a kind, PIPELINE.SOURCE, and returns nil once all that it tells of
	// is durable. body is at most 256 KiB, its errors are *gantry.Error and are to be passed on; it is not read before the sender
	// is known. Errors with code no_source are 404, with code bad_token 401, Illegal ones 400; any other is 503.
	Hook(ctx context.Context, kind, source string, h http.Header, body io.Reader) error
}

// hooks serves notifications.
type hooks struct {
	to    Hooks // nil: there is nobody to take any
	slots chan struct{}
	idle  time.Duration // how long a body may stand still, and take before it has to keep up a rate
	limit int64
}

// TakeHooks serves POST /hooks/s3/{source} and leaves all else to next. Without h every source is unknown. Senders are
// told by their tokens, not by where they come from.
func TakeHooks(next http.Handler, h Hooks) http.Handler { return newHooks(h).handler(next) }

func newHooks(h Hooks) *hooks {
	return &hooks{to: h, slots: make(chan struct{}, hooksSide), idle: 10 * time.Second, limit: maxHook}
}

func (h *hooks) handler(next http.Handler) http.Handler { return mount(next, h.routes(), nil) }

func (h *hooks) routes() routes {
	return routes{"POST /hooks/s3/{source}": h.take, "/hooks/": nothing}
}

var hookPattern = regexp.MustCompile(`^[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})?$`)

// take hands one notification on.
func (h *hooks) take(w http.ResponseWriter, r *http.Request) error {
	source := r.PathValue("source")
	if h.to == nil || !hookPattern.MatchString(source) {
		return gantry.Errorf(gantry.NotFound, CodeNoSource, "no source of this name takes notifications here")
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return gantry.Errorf(gantry.Illegal, CodeEncoded, "the body must be the notification itself, not encoded")
	}
	if r.ContentLength > h.limit {
		return tooLong(h.limit)
	}
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	default:
		return gantry.Errorf(gantry.Unavailable, CodeBusy, "there are %d notifications under way", cap(h.slots))
	}
	body := &called{r: r.Body, control: http.NewResponseController(w), idle: h.idle, begun: time.Now(), left: h.limit}
	err := h.to.Hook(r.Context(), "s3", source, r.Header, body)
	switch {
	case err == nil:
		w.Header().Set("Content-Type", gantry.MediaJSON)
		return json.NewEncoder(w).Encode(map[string]string{"verdict": CallbackAccepted.String()})
	case body.err != nil && body.err != io.EOF && errors.Is(err, body.err):
		return body.err
	case gantry.CodeOf(err) == CodeBadToken:
		w.Header().Set("WWW-Authenticate", "Bearer") // RFC 6750 section 3
		refuseAs(w, err, http.StatusUnauthorized)
		return nil
	case gantry.CodeOf(err) == CodeNoSource, gantry.KindOf(err) == gantry.Illegal:
		return err
	}
	// Whatever is wrong with the bucket, the disk or the database, the sender is to keep it and to try again.
	return &gantry.Error{Kind: gantry.Unavailable, Code: gantry.CodeOf(err), RetryAfter: gantry.RetryAfterOf(err), Err: errors.New("the notification was not taken")}
}
