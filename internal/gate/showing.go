package gate

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// showing says what a call showed of its target. One that we broke off, or that ended for a reason of ours
// before it reached the target, shows nothing; a target that refuses what it was sent, or asks to be left
// alone for a time, lives.
func showing(ctx context.Context, began, now time.Time, m *Meter, err error) gantry.Showing {
	x := gantry.Showing{Began: began, Took: now.Sub(began), Verdict: gantry.Alive}
	e, classified := errors.AsType[*gantry.Error](err)
	switch {
	case err == nil:
	case ctx.Err() != nil, !classified, !m.HasBegun() && !onTheWay(e.Code):
		x.Verdict = gantry.Unknown
	case e.Kind == gantry.Unavailable && e.RetryAfter > 0:
		x.Wait, x.Busy = min(e.RetryAfter, gantry.MaxRest), true
	case e.Kind == gantry.Transient, e.Kind == gantry.Timeout, e.Kind == gantry.Unavailable:
		x.Verdict, x.Busy = gantry.Failing, e.Kind != gantry.Transient
	}
	return x
}

// onTheWay tells whether a call that sent nothing failed at its target's door.
func onTheWay(c gantry.Code) bool {
	switch c {
	case CodeDNS, CodeConnectionRefused, CodeConnectionReset, CodeConnectionClosed, CodeConnectionLost, CodeUnreachable, CodeDialTimeout, CodeTLSTimeout, CodeTLS:
		return true
	}
	return false
}

// refused tells whether the target answered that it has no room now (RFC 6585 section 4, RFC 9110 section
// 15.6.4).
func (m *Meter) refused() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.status == http.StatusTooManyRequests || m.status == http.StatusServiceUnavailable
}
