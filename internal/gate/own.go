package gate

import (
	"net/http"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Own is the way to a store that belongs to the installation itself, as its database does: its blob store in a
// bucket. What goes there is no call of a task and is not on record; all else is as with Egress: the one target,
// no proxy, no redirects, TLS 1.2 or later, capped headers and bodies, each request at most once.
type Own struct {
	egress *Egress
	now    func() time.Time
}

// NewOwn makes the way to target. It opens nothing.
func NewOwn(target gantry.Target, p Policy, now func() time.Time) *Own {
	return &Own{NewEgress(target, p), now}
}

// RoundTrip sends one request. If a call is running in its ctx, the request is no part of that.
func (o *Own) RoundTrip(req *http.Request) (*http.Response, error) {
	return o.egress.Transport().RoundTrip(req.WithContext(WithMeter(req.Context(), NewMeter(o.now))))
}

// Close closes the connections that no request uses.
func (o *Own) Close() { o.egress.Close() }
