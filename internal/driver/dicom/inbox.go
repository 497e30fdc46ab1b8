package dicom

import (
	"bytes"
	"context"
	"io"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Called says where the service sends its answers, and that the processor takes them before any source does.
// Without an inbox nobody calls it.
func (p *processor) Called() (Place, Desk, bool) {
	return p.config.place(), (*answers)(p), p.box != nil
}

// answers is the desk at which a service hands in what it answers.
type answers processor

var _ Watching = (*answers)(nil)

// Take keeps an instance that a task waits for, or did of late. What cannot be one, by its class and by who sent it, costs nothing.
func (a *answers) Take(ctx context.Context, in *Instance) (mine bool, r dimse.Response) {
	c := a.config
	if from := c.calling(); from != "" && in.Peer.Calling != from || c.Await.SOPClass != "" && in.Class != c.Await.SOPClass ||
		c.Await.Modality != "" && in.Tags["Modality"] != c.Await.Modality || in.Tags["StudyInstanceUID"] == "" {
		return false, dimse.Response{}
	}
	x := gantry.Incoming{Called: in.Peer.Called, Calling: in.Peer.Calling, Class: in.Class, Modality: in.Tags["Modality"],
		Study: in.Tags["StudyInstanceUID"], Instance: in.UID, Size: in.Staged.Size(), SHA: in.SHA}
	if wanted, err := a.box.Wanted(ctx, x); err != nil {
		return true, refusal(err)
	} else if !wanted {
		return false, dimse.Response{}
	}
	if err := a.keep(ctx, in, &x); err != nil {
		return true, refusal(err)
	}
	of, err := a.box.Take(ctx, x)
	if err != nil {
		return true, refusal(err)
	}
	return of != gantry.Nobodys, dimse.Response{Status: dimse.StatusSuccess}
}

// keep makes an instance durable and reads what it refers to. One that turns out to be nobody's is left to the next desk as it
// is then: where it lies is known.
func (a *answers) keep(ctx context.Context, in *Instance, x *gantry.Incoming) (err error) {
	var r io.Reader
	if x.Body = bytes.Clone(in.Staged.Inline()); x.Body != nil {
		r = bytes.NewReader(x.Body)
	} else {
		if x.Location, err = in.Staged.Commit(ctx); err != nil {
			return err
		}
		in.Staged = committed{in.Staged, x.Location}
		blob, err := a.box.Blob(ctx, x.Location)
		if err != nil {
			return err
		}
		defer blob.Close()
		r = io.NewSectionReader(blob, 0, blob.Size())
	}
	x.Refers, err = dicom.References(r, x.Size)
	return err
}

// committed is a staged blob that is durable already.
type committed struct {
	gantry.Staged
	location string
}

// Commit says where it lies.
func (c committed) Commit(context.Context) (string, error) { return c.location, nil }

// Commit takes no request for storage commitment: what a service answers is not an archive's business.
func (a *answers) Commit(context.Context, dimse.Peer, dimse.Commitment) (bool, dimse.Response) {
	return false, dimse.Response{}
}

// Reported takes no answer to one: the processor asks for none.
func (a *answers) Reported(context.Context, dimse.Peer, dimse.Commitment) (bool, dimse.Response) {
	return false, dimse.Response{}
}

// Visited puts on record who came, and who was turned away.
func (a *answers) Visited(v gantry.Visit) { a.box.Visited(v) }

// noInbox is the error of a processor that nobody gave an inbox.
func noInbox() error {
	return gantry.Errorf(gantry.Illegal, CodeNoInbox, "await answers: there is no inbox")
}
