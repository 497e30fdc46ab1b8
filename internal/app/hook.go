package app

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"strings"

	"github.com/gantry-imaging/gantry/internal/api"
	"github.com/gantry-imaging/gantry/internal/auth"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/gate"
)

// queues bounds what the further targets of sources may do to us: their answers are small, and may be long in coming.
var queues = gate.Policy{MaxBody: 16 << 20}

// hooked lists the feeds that take notifications, by pipeline.source; shared ones by their name.
func hooked(feeds []*feed) map[string]*feed {
	out := map[string]*feed{}
	for _, f := range feeds {
		if h, ok := f.source.(gantry.Hooked); ok && h.HookToken() != "" {
			out[strings.Replace(f.name, "/", ".", 1)] = f
		}
	}
	return out
}

func (f *feed) control() gantry.ControlKey {
	return gantry.ControlKey{Boundary: gantry.AtSource, Limiter: f.limiter, Pipeline: f.plan.ID, Index: f.index}
}

// Hook takes a notification that the server of a source of a kind sent; source is PIPELINE.SOURCE, the name alone of one that pipelines share. It returns nil once
// all that it tells of is durable, or nothing is to be done. The work goes on though the sender hangs up. Errors: NotFound
// with code no_source, Denied with code bad_token, Illegal for what nobody understands; any other means that the
// sender should send it again.
func (a *App) Hook(ctx context.Context, kind, source string, h http.Header, body io.Reader) error {
	a.desk.mu.Lock()
	begun, f := a.desk.hooks != nil, a.desk.hooks[source]
	a.desk.mu.Unlock()
	if !begun {
		return noLease()
	}
	if f == nil || f.plan.Pipeline.Sources[f.index].Kind != kind {
		return gantry.Errorf(gantry.NotFound, api.CodeNoSource, "no source of this name takes notifications here")
	}
	driver := f.source.(gantry.Hooked)
	if err := a.knowsToken(driver.HookToken(), h.Get("Authorization")); err != nil {
		if gantry.KindOf(err) != gantry.Denied { // ours, not the sender's
			f.ledger.Failed(string(gantry.ChannelWebhook), err)
			a.Log.Warn("hook", "source", f.name, "code", string(gantry.CodeOf(err)), "err", err)
		}
		return err
	}
	b, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	ctx = a.control.WithControl(context.WithoutCancel(ctx), f.control())
	announce := func(context.Context, gantry.Object) error { return noLease() } // a test message needs none
	if in, living, done, err := a.desk.now(ctx); err == nil {
		defer done()
		ctx, announce = living, a.announcing(in, f)
	}
	err = driver.Hook(ctx, h, b, announce)
	if code := gantry.CodeOf(err); err != nil && gantry.KindOf(err) != gantry.Illegal && code != CodeNoLease {
		a.Log.Warn("hook", "source", f.name, "code", string(code))
	}
	return err
}

// knowsToken holds what a sender says to a secret: Bearer TOKEN (RFC 6750), the token alone, as some servers send what
// they were given, or Basic with it as the password (RFC 7617), as of servers that know nothing but a URL.
func (a *App) knowsToken(ref gantry.SecretRef, said string) error {
	secret, err := auth.Resolve(ref, a.Lookup)
	if err != nil {
		return gantry.Errorf(gantry.Unavailable, "no_secret", "check notification: %w", err)
	}
	want := sha256.Sum256([]byte(secret.Reveal()))
	got := sha256.Sum256([]byte(tokenOf(said)))
	if !hmac.Equal(want[:], got[:]) {
		return gantry.Errorf(gantry.Denied, api.CodeBadToken, "the notification does not come with the source's token")
	}
	return nil
}

// tokenOf reads the token out of an Authorization header.
func tokenOf(said string) string {
	scheme, rest, ok := strings.Cut(said, " ")
	switch {
	case ok && strings.EqualFold(scheme, "Bearer"):
		return strings.TrimSpace(rest)
	case ok && strings.EqualFold(scheme, "Basic"):
		b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(rest))
		if err != nil {
			return ""
		}
		_, password, _ := strings.Cut(string(b), ":")
		return password
	}
	return said
}

// announcing gives what a source announces its objects to.
func (a *App) announcing(in *intake, f *feed) func(context.Context, gantry.Object) error {
	return func(ctx context.Context, o gantry.Object) error {
		if err := f.ledger.room(ctx, o); err != nil {
			return err
		}
		got, err := in.accept(ctx, f, o, "")
		f.ledger.ended(ctx, in, o, got, err)
		switch {
		case err != nil && ctx.Err() == nil:
			a.Log.Warn("accept", "source", f.name, "code", string(gantry.CodeOf(err)), "err", err)
		case got.id != "":
			a.Log.Info("accepted", "source", f.name, "task", got.id)
		}
		return err
	}
}

// turnAway puts an object on record that an event tells of and that no task is made from: it is no longer there,
// another state of it came, or a later event did.
func (in *intake) turnAway(ctx context.Context, f *feed, o gantry.Object) (away bool, err error) {
	if o.Status == gantry.Accepted && o.Event == "" {
		return false, nil
	}
	a := gantry.Arrival{Source: f.name, RefMAC: gantry.MAC(in.app.Key, "ref", f.name, o.Ref), Name: clean(o.Name), Version: clean(o.Version),
		Size: o.Size, Status: o.Status, Event: o.Event}
	if o.Event != "" {
		newest, err := in.app.Store.NewestEvent(ctx, a.Source, a.RefMAC)
		if err != nil {
			return false, err
		}
		if o.Event < newest {
			a.Status = gantry.Superseded
		}
	}
	if a.Status == gantry.Accepted {
		return false, nil
	}
	a.Reason = gantry.Code(a.Status.String())
	if err := in.away(ctx, f, a); err != nil {
		return false, err
	}
	in.app.Log.Info("turned away", "source", f.name, "code", string(a.Reason))
	return true, nil
}

// away puts an arrival on record that no task is made from, and counts it if it is new.
func (in *intake) away(ctx context.Context, f *feed, a gantry.Arrival) (err error) {
	if a.ID, err = in.nextID(ctx); err != nil {
		return err
	}
	made, err := in.app.Store.TurnAway(ctx, []gantry.Arrival{a})
	if len(made) > 0 {
		in.app.Metrics.Arrived(f.name, a.Status)
	}
	return err
}

// noting gives what a source tells what it hears to. Messages that nobody understands are kept, and logged by their
// code alone.
func (a *App) noting(f *feed) func(context.Context, gantry.Notice) error {
	return func(ctx context.Context, n gantry.Notice) error {
		switch {
		case n.Err != nil:
			f.ledger.Failed(string(n.Channel), n.Err)
			a.Log.Warn("channel", "source", f.name, "channel", string(n.Channel), "code", string(gantry.CodeOf(n.Err)), "err", n.Err)
			return nil
		case n.Code == "":
			f.ledger.Worked(string(n.Channel))
			return nil
		}
		a.Log.Warn("message not understood", "source", f.name, "channel", string(n.Channel), "code", string(n.Code))
		return a.Store.KeepMessage(ctx, f.name, n)
	}
}

// branched gives a driver's way out branches to the further targets of its config, signed as that is. What goes through one
// is counted under the limit of its target, which limiter gives by the target's key.
func (p *plans) branched(e gantry.Endpoint, out gantry.Egress, limiter func(key string) (int32, error)) (gantry.Egress, error) {
	c, ok := e.Config.(gantry.Reaching)
	if !ok {
		return out, nil
	}
	b := branches{out, map[gantry.Target]gantry.Egress{}}
	for _, t := range c.Further() {
		under, err := limiter(t.Key())
		if err != nil {
			return nil, err
		}
		way := gate.NewEgress(t.Target, queues)
		rt, err := auth.WrapService(way.Transport(), e.Auth, t.Service, p.app.Lookup)
		if err != nil {
			return nil, err
		}
		b.ways[t.Target] = signed{way, aside{rt, under}}
	}
	return b, nil
}

// branches is an Egress with further ways.
type branches struct {
	gantry.Egress
	ways map[gantry.Target]gantry.Egress
}

// Branch gives the way to a further target.
func (b branches) Branch(t gantry.Target) (gantry.Egress, bool) {
	way, ok := b.ways[t]
	return way, ok
}

// aside counts control traffic under the limit of its own target.
type aside struct {
	next    http.RoundTripper
	limiter int32
}

// RoundTrip sends a request.
func (s aside) RoundTrip(req *http.Request) (*http.Response, error) {
	return s.next.RoundTrip(req.WithContext(gate.WithControlOf(req.Context(), s.limiter)))
}
