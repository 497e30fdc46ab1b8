package app

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gantry-imaging/gantry/internal/auth"
	"github.com/gantry-imaging/gantry/internal/engine"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Signature checks a callback: all of its body is written to it, then it is asked.
type Signature interface {
	io.Writer
	// Verify gives an error if the body that was written is not what the header was made for, or the header
	// is too old.
	Verify() error
}

// Signatures begins to check a callback against a secret. An error is that the header can hold no valid signature.
type Signatures func(secret string, h http.Header, now time.Time) (Signature, error)

const (
	maxCallback = 2 << 30 // bytes of a body, as of an answer that is waited for
	maxKept     = 4 << 10 // bytes of a header that are kept
)

// Callback takes what a service sent to the address of a submission, and says what becomes of it. Forged
// and late ones are kept on record without their bodies and change nothing; of a token that is not ours there is no record.
// An error is one of ours: Unavailable while the process holds no lease, or that the body could not be
// read or kept.
func (a *App) Callback(ctx context.Context, token string, h http.Header, status gantry.CallbackStatus, body io.Reader) (gantry.Verdict, error) {
	s, ok := gantry.ParseToken(a.Key, token)
	if !ok || a.Signatures == nil {
		a.Metrics.Callback(gantry.CallbackUnknown)
		return gantry.CallbackUnknown, nil
	}
	pipeline, awaited, err := a.Store.Awaited(ctx, s)
	if gantry.KindOf(err) == gantry.NotFound {
		return gantry.CallbackUnknown, nil
	}
	if err != nil {
		return 0, err
	}
	plan, err := a.plans.Plan(ctx, pipeline)
	if err != nil {
		return 0, err
	}
	call, ok := callOf(plan, s.PartKey)
	if !ok || call.Deferred == nil || call.Deferred.Callback == "" {
		return gantry.CallbackUnknown, nil
	}
	x := &gantry.Received{Submission: s, ID: a.ids.New(), Status: status, Heartbeat: call.Deferred.Heartbeat.Microseconds()}
	if err := a.receive(ctx, call.Deferred, h, body, awaited && status != gantry.CallbackRunning, x); err != nil {
		return 0, err
	}
	v, err := a.Store.TakeCallback(ctx, x)
	if err != nil {
		return 0, err
	}
	a.Metrics.Callback(v)
	if v == gantry.CallbackAccepted {
		if session := a.session.Load(); session != nil {
			session.Hasten()
		}
	}
	return v, nil
}

// receive reads a body, checks its signature, and makes it durable if that holds and it is to be kept.
func (a *App) receive(ctx context.Context, d *engine.Deferred, h http.Header, body io.Reader, keep bool, x *gantry.Received) error {
	secret, err := auth.Resolve(d.Callback, a.Lookup)
	if err != nil {
		return gantry.Errorf(gantry.Unavailable, "no_secret", "check callback: %w", err)
	}
	check, err := a.Signatures(secret.Reveal(), h, time.Now())
	if err != nil {
		x.Forged, keep, check = true, false, nil
	}
	sum := sha256.New()
	r := &counter{r: io.TeeReader(body, sum)}
	if check != nil {
		r.r = io.TeeReader(body, io.MultiWriter(sum, check))
	}
	var staged gantry.Staged
	if keep {
		if staged, err = a.stage(ctx, r); err != nil {
			return err
		}
		defer staged.Discard()
	} else if _, err := io.Copy(io.Discard, io.LimitReader(r, maxCallback)); err != nil {
		return err
	}
	x.Size, x.SHA = r.n, gantry.Digest(sum.Sum(nil))
	x.Forged = check == nil || check.Verify() != nil
	if staged == nil || x.Forged {
		return nil
	}
	x.Header = keptOf(h)
	if x.Body = bytes.Clone(staged.Inline()); x.Body == nil {
		x.Location, err = staged.Commit(ctx)
	}
	return err
}

// stage keeps a body until its signature is checked.
func (a *App) stage(ctx context.Context, r io.Reader) (gantry.Staged, error) {
	a.mu.Lock()
	blobs := a.blobs
	a.mu.Unlock()
	if blobs == nil {
		return nil, noLease()
	}
	return counted{blobs, a.Metrics}.Stage(ctx, r, -1, maxCallback)
}

// keptOf is what of a header says how to read the body: its type, and what begins with Gantry-, but for the signature.
func keptOf(h http.Header) http.Header {
	out, size := http.Header{}, 0
	for name, values := range h {
		if name != "Content-Type" && !strings.HasPrefix(name, "Gantry-") || name == "Gantry-Signature" {
			continue
		}
		for _, v := range values {
			if size += len(name) + len(v); size <= maxKept {
				out.Add(name, strings.ToValidUTF8(strings.ReplaceAll(v, "\x00", ""), "?"))
			}
		}
	}
	return out
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

// Read passes bytes on.
func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// side does something for each of a list, a few side by side, and joins the errors.
func side[T any](ctx context.Context, n int, list []T, do func(context.Context, T) error) error {
	g := errgroup.Group{}
	g.SetLimit(n)
	errs := make([]error, len(list))
	for i, x := range list {
		g.Go(func() error { errs[i] = do(ctx, x); return nil })
	}
	g.Wait()
	return errors.Join(errs...)
}
