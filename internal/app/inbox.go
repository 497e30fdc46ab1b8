package app

import (
	"bytes"
	"context"
	"io"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/gate"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// inbox keeps what services send on connections of their own: rows in the database, bytes in the blob store. It is a gantry.Inbox.
type inbox struct {
	a   *App
	key gantry.ControlKey // of the processor
}

var _ gantry.Inbox = inbox{}

// attend gives a processor its inbox, if it is one whose service answers so.
func (a *App) attend(p gantry.Processor, key gantry.ControlKey) {
	if x, ok := p.(gantry.Awaiting); ok {
		x.Attend(inbox{a, key})
	}
}

// studies and instances give the codes of UIDs, which is all that the database is told.
func (b inbox) studies() func(string) string   { return b.codes("study of an answer") }
func (b inbox) instances() func(string) string { return b.codes("instance of an answer") }

func (b inbox) codes(of string) func(string) string {
	mac := gantry.MACs(b.a.Key, of)
	return func(uid string) string {
		sum := mac(uid)
		return string(sum[:postgres.CodeBytes])
	}
}

// each makes a list of what f gives.
func each(list []string, f func(string) string) []string {
	out := make([]string, len(list))
	for i, x := range list {
		out[i] = f(x)
	}
	return out
}

// Expect lays down what a submission waits for.
func (b inbox) Expect(ctx context.Context, x gantry.Awaited) (gantry.AwaitedState, error) {
	x.Studies, x.Sent = each(x.Studies, b.studies()), each(x.Sent, b.instances())
	return b.a.Store.ExpectAnswer(ctx, x)
}

// Look says how far the answer of a ticket is.
func (b inbox) Look(ctx context.Context, ticket string) (gantry.AwaitedState, error) {
	return b.a.Store.AwaitedAnswer(ctx, ticket)
}

// Results takes what came for a ticket.
func (b inbox) Results(ctx context.Context, ticket string) ([]gantry.Incoming, error) {
	return b.a.Store.TakeAnswers(ctx, ticket)
}

// Open reads one of them as the answer of the running call: its bytes came before, over another connection.
func (b inbox) Open(ctx context.Context, x gantry.Incoming) (io.ReadCloser, error) {
	if x.Location == "" {
		return gate.Local(ctx, io.NopCloser(bytes.NewReader(x.Body)), false), nil
	}
	blob, err := b.Blob(ctx, x.Location)
	if err != nil {
		return nil, err
	}
	return gate.Local(ctx, struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(blob, 0, blob.Size()), blob}, false), nil
}

// Blob reads bytes that are durable.
func (b inbox) Blob(ctx context.Context, location string) (gantry.Blob, error) {
	b.a.mu.Lock()
	blobs := b.a.blobs
	b.a.mu.Unlock()
	if blobs == nil {
		return nil, noLease()
	}
	return blobs.Open(ctx, location)
}

// Wanted tells whether something that came may belong to a submission.
func (b inbox) Wanted(ctx context.Context, x gantry.Incoming) (bool, error) {
	return b.a.Store.AnswerWanted(ctx, b.coded(x))
}

// Take keeps what came, and has the task that waits for it taken up at once.
func (b inbox) Take(ctx context.Context, x gantry.Incoming) (gantry.Belongs, error) {
	of, woken, err := b.a.Store.KeepAnswer(ctx, b.coded(x))
	if err != nil {
		return of, err
	}
	if s := b.a.session.Load(); woken && s != nil {
		s.Hasten()
	}
	if of == gantry.TooLate {
		b.a.Log.Warn("an answer came late", "called", x.Called)
	}
	return of, nil
}

func (b inbox) coded(x gantry.Incoming) gantry.Incoming {
	instance := b.instances()
	x.Study, x.Instance, x.Refers = b.studies()(x.Study), instance(x.Instance), each(x.Refers, instance)
	return x
}

// Visited puts a step of a service's stay on record, as control traffic of its processor.
func (b inbox) Visited(v gantry.Visit) {
	if v.Step != gantry.VisitBegan {
		b.a.control.Count(gantry.Control{ControlKey: b.key, To: v.At, Took: v.Took, RespSize: v.Size, Kind: v.Kind, Code: v.Code})
	}
}
