package app

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	dicomdriver "github.com/gantry-imaging/gantry/internal/driver/dicom"
	"github.com/gantry-imaging/gantry/internal/fail"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// came is an object that came with its bytes.
type came struct {
	gantry.Inbound
	known   bool            // these bytes were on record
	receipt *gantry.Receipt // to be written with what is made of it; nil: nothing is yet
}

// settle makes the bytes durable, unless they are kept already, and begins the record that they came. What is gathered is known
// again there: only a feed of which things come twice is asked about first, so that nothing is written twice.
func (c *came) settle(ctx context.Context, in *intake, f *feed, a *gantry.Arrival, gathered bool) error {
	var kept postgres.Kept
	var err error
	a.Once = c.Once // which the database holds it to: others may be taking it
	if c.Once || (!gathered || f.repeats.likely(time.Now())) && !fresh(ctx, c.Ahead) {
		if kept, err = in.keepings.kept(ctx, postgres.Version{Source: a.Source, RefMAC: a.RefMAC, Version: a.Version}); err != nil {
			return err
		}
	}
	arrival := a.ID
	switch {
	case kept.Arrival != 0:
		c.known, arrival = true, kept.Arrival
		a.SHA, a.Size, a.Location = kept.SHA, kept.Size, kept.Location
	case kept.Others && c.Once:
		return gantry.Errorf(gantry.Illegal, gantry.CodeDuplicate, "take object: other bytes are kept under its name")
	default:
		a.SHA, a.Size = c.Staged.SHA(), c.Staged.Size()
		if a.Location, err = c.Staged.Commit(ctx); err != nil {
			return err
		}
	}
	in.app.scans.passed(a.Location, c.Warning)
	fail.Point("after_received")
	intent := gantry.Intent{Boundary: gantry.AtSource, Op: gantry.OpGet, Limiter: f.limiter, Arrival: arrival, Pipeline: f.plan.ID,
		Part: gantry.PartKey{Processor: f.index}, Try: 1}
	out := gantry.Outcome{Took: c.Took, RespSize: c.Size, RespSHA: c.SHA}
	c.receipt, err = in.gate.Receipt(in.as, intent, out)
	return err
}

// receiving takes what a feed's source receives.
type receiving struct {
	app  *App
	feed *feed
}

var _ gantry.Receiver = (*receiving)(nil)

// Coming asks what is kept of an object, if anything is to be expected.
func (r *receiving) Coming(ctx context.Context, ref string) gantry.Ahead {
	if r.feed.gathers() && !r.feed.repeats.likely(time.Now()) {
		return nil
	}
	in, _, done, err := r.app.desk.now(ctx)
	if err != nil {
		return nil
	}
	done()
	return in.keepings.begin(postgres.Version{Source: r.feed.name, RefMAC: gantry.MAC(r.app.Key, "ref", r.feed.name, ref)})
}

// Received makes an object durable, and what is made of it, with its record.
func (r *receiving) Received(ctx context.Context, x gantry.Inbound) (known bool, err error) {
	began := time.Now()
	in, ctx, done, err := r.app.desk.now(ctx)
	if err != nil {
		return false, err
	}
	defer done()
	c := &came{Inbound: x}
	o := offer{Object: gantry.Object{Ref: x.Ref, Name: x.Name, Version: x.Version, Size: x.Staged.Size(), At: x.Began}, limit: maxOriginal, came: c}
	got, err := in.take(ctx, r.feed, o, "")
	switch {
	case err != nil:
		return false, err
	case got.away != "":
		return false, gantry.Errorf(gantry.Illegal, got.away, "take object: no pipeline takes it")
	}
	if c.receipt != nil { // nil: what a pipeline takes for a marker
		in.gate.Written(ctx, c.receipt)
	}
	if c.known {
		r.feed.repeats.saw(time.Now())
	}
	if got.new {
		r.feed.ledger.took(string(gantry.ChannelStore), o.Object, time.Now())
	}
	if got.id != "" {
		r.app.Log.Info("accepted", "source", r.feed.name, "task", got.id)
	}
	r.app.Metrics.Received(r.feed.name, c.known, x.Size, x.Took+time.Since(began))
	return c.known, nil
}

// OnRecord tells which objects are kept.
func (r *receiving) OnRecord(ctx context.Context, refs []string) ([]bool, error) {
	list := make([]postgres.Version, len(refs))
	mac := gantry.MACs(r.app.Key, "ref", r.feed.name)
	for i, ref := range refs {
		list[i] = postgres.Version{Source: r.feed.name, RefMAC: mac(ref)}
	}
	kept, err := r.app.Store.Kept(ctx, list)
	if err != nil {
		return nil, err
	}
	out := make([]bool, len(refs))
	for i, x := range kept {
		out[i] = x.Others || x.Arrival != 0
	}
	return out, nil
}

// Visited puts a step of a peer's stay on record.
func (r *receiving) Visited(v gantry.Visit) {
	r.app.Metrics.Visited(r.feed.name, v)
	r.feed.ledger.visited(v)
	x := gantry.Control{ControlKey: r.feed.control(), To: v.At, Took: v.Took, RespSize: v.Size, Kind: v.Kind, Code: v.Code}
	if v.Step != gantry.VisitBegan {
		r.app.control.Count(x)
	}
	if v.Step == gantry.VisitNotTaken {
		r.app.Log.Warn("instance not taken", "source", r.feed.name, "code", string(v.Code))
		return
	}
	if v.Step == gantry.VisitUnanswered {
		r.app.Log.Warn("storage commitment not reported", "source", r.feed.name, "code", string(v.Code))
		return
	}
	log := r.app.Log.Info
	if v.Code != "" {
		log = r.app.Log.Warn
	}
	log("association "+v.Step.String(), "source", r.feed.name, "code", string(v.Code), "taken", v.In, "refused", v.Not, "bytes", v.Size,
		"took", v.Took.Round(time.Millisecond))
}

// partAssociation is a part of a source of kind dicom: a peer begins an association, and releases it.
const partAssociation = "association"

// visited keeps a step for the status of the source.
func (l *ledger) visited(v gantry.Visit) {
	l.change(func(r *postgres.SourceReport) {
		channel := v.Step.String()
		c := l.channels[channel]
		if c == nil {
			c = &postgres.ChannelReport{Channel: channel}
			l.channels[channel] = c
		}
		c.Told++
		if v.At.After(c.At) {
			c.At = v.At
		}
		if v.Code != "" {
			l.fail(partAssociation, v.Code, v.Kind, v.At)
		}
	})
	if v.Code == "" && v.Step == gantry.VisitLeft {
		l.Worked(partAssociation)
	}
}

// openPort makes the port on which peers call this process.
func (a *App) openPort() {
	a.port = dicomdriver.NewPort(dicomdriver.Options{Blobs: a.desk.blobs, Grace: a.Grace, Log: a.Log, Now: time.Now})
}

// call gives a driver that peers call its place on the port, in a process that has one.
func (a *App) call(driver any) error {
	c, ok := driver.(dicomdriver.Called)
	if !ok {
		return nil
	}
	if a.port == nil {
		if place, _, called := c.Called(); called {
			a.Log.Info("peers call a process that serves, not this one", "listen", place.Listen, "aet", place.AET)
		}
		return nil
	}
	return a.port.Add(c)
}

// seat gives a feed's source, if objects are sent to it, somebody who takes them, and its place on the port.
func (a *App) seat(f *feed) error {
	if s, ok := f.source.(gantry.Receiving); ok && a.port != nil {
		s.Receive(&receiving{a, f})
	}
	return a.call(f.source)
}

// answering works while peers can call, and for as long after ctx ends as what they began is under way.
func (a *App) answering(ctx context.Context, work func(context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g.Go(func() error {
		defer stop()
		return a.port.Serve(ctx)
	})
	g.Go(func() error { return work(working) })
	return g.Wait()
}

// reachable does something while peers can call, if there is anybody whom they call. Where others work on the same database, one of
// these may be called at the same address: what comes there is found all the same.
func (a *App) reachable(ctx context.Context, in *intake, do func(context.Context) error) error {
	if a.port.Empty() {
		return do(ctx)
	}
	a.desk.begin(ctx, in)
	defer a.desk.end(in)
	g, gctx := errgroup.WithContext(ctx)
	ctx, stop := context.WithCancel(gctx)
	defer stop()
	g.Go(func() error {
		err := a.port.Serve(ctx)
		if gantry.CodeOf(err) == dicomdriver.CodeListen && a.plans.keep {
			a.Log.Warn("peers do not reach this process", "err", err)
			return nil
		}
		return err
	})
	g.Go(func() error { defer stop(); return do(ctx) })
	return g.Wait()
}

// blobs gives where bytes that come are staged.
func (d *desk) blobs() (gantry.Blobs, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.in == nil {
		return nil, noLease()
	}
	return d.in.blobs, nil
}
