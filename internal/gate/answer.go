package gate

import (
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func tooLarge(to string, limit int64) *gantry.Error {
	return gantry.Errorf(gantry.BadResponse, gantry.CodeTooLarge, "read the answer of %s: over the limit of %d bytes", to, limit)
}

// answerBody is an answer's body on its way in: counted, capped, not left idle, and its errors
// classified. An error stays.
type answerBody struct {
	body   io.ReadCloser
	trip   *trip
	limit  int64
	left   int64
	idle   time.Duration
	timer  *time.Timer
	err    error
	whole  bool // nothing came in before it within the same call
	closed atomic.Bool
}

func newAnswerBody(body io.ReadCloser, t *trip, p Policy) *answerBody {
	before, _ := t.meter.got.total()
	return &answerBody{body: body, trip: t, limit: p.MaxBody, left: p.MaxBody, idle: p.Idle, whole: before == 0}
}

// Read is for one goroutine at a time, as usual.
func (a *answerBody) Read(p []byte) (int, error) {
	if a.err == nil && a.closed.Load() {
		a.err = http.ErrBodyReadAfterClose
	}
	if a.err != nil || len(p) == 0 {
		return 0, a.err
	}
	if int64(len(p)) > a.left+1 {
		p = p[:a.left+1] // one more than allowed, to see whether there is more
	}
	a.watch()
	n, err := a.body.Read(p)
	a.timer.Stop()
	if int64(n) > a.left {
		n, err = int(a.left), tooLarge(a.trip.to, a.limit)
	}
	a.left -= int64(n)
	if !a.trip.meter.got.add(p[:n]) {
		n, err = 0, io.ErrClosedPipe // the call is over
	}
	if err == nil {
		return n, nil
	}
	if a.err = err; err != io.EOF && !a.closed.Load() {
		a.err = a.trip.classify(err)
		a.trip.meter.broken(a.err)
	}
	a.trip.end()
	return n, a.err
}

// Digest is that of the whole body, as the record has it. A call's second answer has none: the
// record's is over all of them.
func (a *answerBody) Digest() (gantry.Digest, int64, bool) {
	if a.err != io.EOF || !a.whole {
		return gantry.Digest{}, 0, false
	}
	n, sum := a.trip.meter.got.total()
	return sum, n, true
}

// watch breaks the trip off if a read waits too long.
func (a *answerBody) watch() {
	if a.timer != nil {
		a.timer.Reset(a.idle)
		return
	}
	a.timer = time.AfterFunc(a.idle, func() {
		a.trip.fail(gantry.Errorf(gantry.Timeout, CodeIdleTimeout, "read the answer of %s: nothing for %s", a.trip.to, a.idle))
	})
}

// Close ends the call. It may run beside Read.
func (a *answerBody) Close() error {
	a.closed.Store(true)
	err := a.body.Close()
	a.trip.end()
	return err
}
