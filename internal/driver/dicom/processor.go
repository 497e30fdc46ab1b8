package dicom

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Codes of requests that cannot be sent to a processor. They are Illegal.
const (
	CodeNoInbox   gantry.Code = "no_inbox"   // nobody gave the processor an inbox
	CodeNoItems   gantry.Code = "no_items"   // there is nothing to send
	CodeNoStudy   gantry.Code = "no_study"   // an object has no study, by which its answer would be known
	CodeSyncLater gantry.Code = "later_only" // the processor never answers at once
)

// ProcessorConfig is what a pipeline file says of a processor of kind dicom: a service that takes objects by C-STORE and sends
// what it makes of them to us, by C-STORE on associations of its own.
type ProcessorConfig struct {
	Host    string      `yaml:"host" required:"true" doc:"The service's host name or address."`
	Port    int         `yaml:"port" default:"104" min:"1" max:"65535" doc:"Its port."`
	AET     string      `yaml:"aet" required:"true" doc:"The AE title that it is called by."`
	Calling string      `yaml:"calling" default:"GANTRY" doc:"The AE title that we call with."`
	TLS     TLSConfig   `yaml:"tls" doc:"How it is spoken to over TLS. Without it the association is not encrypted."`
	Await   AwaitConfig `yaml:"await" required:"true" doc:"What it answers, and where."`
}

// Target is the service's address, and as its model the AE title.
func (c ProcessorConfig) Target() gantry.Target { return c.peer().target() }

func (c ProcessorConfig) peer() peerConfig {
	return peerConfig{host: c.Host, port: c.Port, aet: c.AET, calling: c.Calling, tls: c.TLS}
}

// withDefaults fills in what was not said.
func (c ProcessorConfig) withDefaults() ProcessorConfig {
	c.Calling = c.peer().title()
	c.Await.Within, c.Await.Listen = cmp.Or(c.Await.Within, defaultWithin), cmp.Or(c.Await.Listen, defaultListen)
	return c
}

// Check lists what is wrong with the config beyond its types.
func (c ProcessorConfig) Check() []gantry.FieldProblem {
	c = c.withDefaults()
	found := c.peer().check()
	for _, p := range c.Await.Check() {
		found.Add("await."+p.Key, p.Text)
	}
	return found
}

// What stands in for what a file does not say.
const (
	defaultListen = ":11112"
	defaultWithin = 15 * time.Minute
)

// mostSending is how many associations to one service there are at once; the limits of its target bound what is under way.
const mostSending = 16

// lookEvery is how often a ticket is looked at though nothing came: the inbox tells when there is something to see.
const lookEvery = 5 * time.Minute

// processor is one service.
type processor struct {
	config ProcessorConfig
	box    gantry.Inbox
	out    *sender
}

var (
	_ gantry.Awaiting = (*processor)(nil)
	_ gantry.Leaving  = (*processor)(nil)
	_ Called          = (*processor)(nil)
)

// Attend says where answers are kept.
func (p *processor) Attend(box gantry.Inbox) { p.box = box }

// Leave releases the associations that nobody uses.
func (p *processor) Leave() { p.out.close() }

// Deferral says that answers come to an inbox.
func (p *processor) Deferral() *gantry.Deferral {
	return &gantry.Deferral{Poll: lookEvery, Deadline: p.config.Await.Within, Inbox: true}
}

// Process is for services that answer at once.
func (p *processor) Process(context.Context, *gantry.Request) error {
	return gantry.Errorf(gantry.Illegal, CodeSyncLater, "send to DICOM service: its answers come later")
}

// Submit lays down what is awaited and then sends the items: an answer may come before the last of them is sent. What an earlier try
// sent and was answered completely is not sent again.
func (p *processor) Submit(ctx context.Context, req *gantry.Request, _ string) (gantry.Ticket, error) {
	if p.box == nil {
		return gantry.Ticket{}, noInbox()
	}
	heads, err := readHeads(ctx, req)
	if err != nil {
		return gantry.Ticket{}, err
	}
	x := gantry.Awaited{Submission: req.Of, Called: p.config.called(), Calling: p.config.calling(), Class: p.config.Await.SOPClass,
		Modality: p.config.Await.Modality, Count: p.config.Await.count(), Quiet: p.config.Await.Quiet}
	seen := map[string]bool{}
	for _, h := range heads {
		x.Sent = append(x.Sent, h.SOPInstance)
		if !seen[h.StudyInstance] {
			seen[h.StudyInstance], x.Studies = true, append(x.Studies, h.StudyInstance)
		}
	}
	state, err := p.box.Expect(ctx, x)
	if err != nil {
		return gantry.Ticket{}, err
	}
	if state.Ready {
		return gantry.Ticket{ID: state.Ticket, After: time.Millisecond}, nil
	}
	list := make([]outgoing, len(req.Items))
	for i, item := range req.Items {
		list[i] = outgoing{size: item.Size, open: func(ctx context.Context) (io.ReadCloser, error) { return req.Open(ctx, i) }}
	}
	if err := p.out.sendAll(ctx, list, func(int, sent) {}); err != nil {
		return gantry.Ticket{}, err
	}
	return gantry.Ticket{ID: state.Ticket, After: state.In}, nil
}

// readHeads reads who the items are.
func readHeads(ctx context.Context, req *gantry.Request) ([]*dicom.Info, error) {
	if len(req.Items) == 0 {
		return nil, gantry.Errorf(gantry.Illegal, CodeNoItems, "send to DICOM service: there is nothing to send")
	}
	heads := make([]*dicom.Info, len(req.Items))
	for i := range req.Items {
		r, err := req.Open(ctx, i)
		if err != nil {
			return nil, err
		}
		heads[i], err = dicom.Head(r, -1)
		r.Close()
		if err != nil {
			return nil, fmt.Errorf("send to DICOM service: item %d: %w", i, err)
		}
		if heads[i].StudyInstance == "" {
			return nil, gantry.Errorf(gantry.Illegal, CodeNoStudy, "send to DICOM service: item %d has no study", i)
		}
	}
	return heads, nil
}

// Poll looks into the inbox.
func (p *processor) Poll(ctx context.Context, t gantry.Ticket) (gantry.Progress, error) {
	if p.box == nil {
		return gantry.Progress{}, noInbox()
	}
	state, err := p.box.Look(ctx, t.ID)
	return gantry.Progress{Ready: state.Ready, After: state.In}, err
}

// Collect hands on what came, in the order in which it came.
func (p *processor) Collect(ctx context.Context, t gantry.Ticket, req *gantry.Request) error {
	switch state, err := p.Poll(ctx, t); {
	case err != nil:
		return err
	case !state.Ready:
		return gantry.Errorf(gantry.Transient, gantry.CodeNotReady, "collect answers: they are not complete")
	}
	list, err := p.box.Results(ctx, t.ID)
	if err != nil {
		return err
	}
	for _, x := range list {
		if err := p.receive(ctx, x, req); err != nil {
			return err
		}
	}
	return nil
}

func (p *processor) receive(ctx context.Context, x gantry.Incoming, req *gantry.Request) error {
	r, err := p.box.Open(ctx, x)
	if err != nil {
		return err
	}
	defer r.Close()
	return req.Receive(ctx, gantry.MediaDICOM, x.Size, io.Reader(r))
}

// Unpack takes nothing: a service that speaks DICOM calls no URL.
func (p *processor) Unpack(context.Context, gantry.Callback, *gantry.Request) error {
	return gantry.Errorf(gantry.Illegal, CodeSyncLater, "read callback: a DICOM service makes none")
}

// Abandon tells nobody: DICOM has no word for it. What comes later is known to be late.
func (p *processor) Abandon(context.Context, gantry.Ticket) error { return nil }

// NewProcessor makes a processor. It opens nothing. A config that does not Check, or names files that cannot be read, is Illegal
// with code bad_config.
func NewProcessor(_ context.Context, c ProcessorConfig, egress gantry.Egress) (gantry.Processor, error) {
	for _, f := range c.Check() {
		return nil, gantry.Errorf(gantry.Illegal, CodeBadConfig, "open processor: %s: %s", f.Key, f.Text)
	}
	c = c.withDefaults()
	p, err := c.peer().peering()
	if err != nil {
		return nil, err
	}
	p.most = mostSending
	return &processor{config: c, out: newSender(egress, p)}, nil
}
