package dimse

import (
	"bytes"
	"cmp"
	"context"
	"io"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func noContext(what string) error {
	return gantry.Errorf(gantry.Permanent, CodeNotOffered, "%s: the peer accepted no presentation context for it", what)
}

// one asks for an operation that has one response.
func (o *operations) one(ctx context.Context, to Accepted, request *command, data io.Reader) (Response, error) {
	c, err := o.begin(ctx, request.field)
	if err != nil {
		return Response{}, err
	}
	if err := o.ask(ctx, to, c, request, data); err != nil {
		return Response{}, err
	}
	a, err := o.await(ctx, c)
	if err != nil {
		return Response{}, err
	}
	return Response{Status: a.command.status, Comment: a.command.comment}, nil
}

func (o *operations) echo(ctx context.Context) (Response, error) {
	to, ok := o.carrier.Find(Verification, "")
	if !ok {
		return Response{}, noContext("C-ECHO")
	}
	return o.one(ctx, to, &command{field: fieldEcho, class: Verification}, nil)
}

func (o *operations) store(ctx context.Context, r StoreRequest) (Response, error) {
	switch {
	case !validUID(r.Class) || !validUID(r.Instance):
		return Response{}, gantry.Errorf(gantry.Illegal, CodeBadUID, "C-STORE: SOP class or instance is no UID")
	case r.Data == nil || len(r.MoveAE) > 16:
		return Response{}, gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "C-STORE: no data set, or an AE title of over 16 characters")
	}
	c, err := o.begin(ctx, fieldStore)
	if err != nil {
		return Response{}, err
	}
	data := &outgoing{r: r.Data, pads: r.Context.Transfer == DeflatedLE, answered: func() bool { return len(c.answers) > 0 }}
	request := &command{field: fieldStore, class: r.Class, instance: r.Instance, priority: r.Priority, moveAE: r.MoveAE, moveID: r.MoveMessageID}
	err = o.ask(ctx, r.Context, c, request, data)
	switch {
	case data.err != nil:
		o.carrier.Abort()
		return Response{}, data.err
	case err != nil:
		return Response{}, err
	}
	a, err := o.await(ctx, c)
	if err != nil {
		return Response{}, err
	}
	if data.cut && a.command.status.Class() != Failure {
		o.carrier.Abort()
		return Response{}, gantry.Errorf(gantry.BadResponse, CodeUnexpected, "C-STORE: the peer took an instance before it had all of it")
	}
	return Response{Status: a.command.status, Comment: a.command.comment}, nil
}

// outgoing is data on its way to a peer. It ends early once the peer has answered.
type outgoing struct {
	r        io.Reader
	answered func() bool
	pads     bool // an odd byte at the end is followed by a zero, as deflated data sets are (PS3.5 section A.5)
	odd      bool // so many bytes have come
	ended    bool // r came to its end
	cut      bool // it ended before r did
	err      error
}

// Read reads from r.
func (o *outgoing) Read(p []byte) (int, error) {
	switch {
	case o.ended || o.cut:
		return 0, io.EOF
	case o.err != nil:
		return 0, o.err
	case o.answered():
		o.cut = true
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	n, err := o.r.Read(p)
	o.odd = o.odd != (n%2 == 1)
	if err == io.EOF {
		return o.end(p, n)
	}
	o.err = err
	return n, err
}

// end brings the data to its end, of which n bytes are in p. Fragments of a data set have an even length (PS3.8 annex E), so an odd data
// set cannot be sent.
func (o *outgoing) end(p []byte, n int) (int, error) {
	switch {
	case o.odd && !o.pads:
		o.err = gantry.Errorf(gantry.Illegal, CodeOddLength, "C-STORE: the data set has an odd number of bytes")
		return n, o.err
	case o.odd && n == len(p):
		return n, nil // the zero goes next time: r says again that it has ended
	case o.odd:
		p[n] = 0
		n++
	}
	o.ended = true
	return n, io.EOF
}

// identifierContext is a context of a class for data sets that are held.
func (o *operations) identifierContext(class string) (Accepted, bool) {
	for _, transfer := range []string{ExplicitLE, ImplicitLE} {
		if to, ok := o.carrier.Find(class, transfer); ok {
			return to, true
		}
	}
	return Accepted{}, false
}

func (o *operations) query(ctx context.Context, class string, identifier Dataset, each func(Dataset) error) (Response, error) {
	to, ok := o.identifierContext(class)
	if !ok {
		return Response{}, noContext("C-FIND")
	}
	b, err := identifier.Encode(to.Transfer)
	if err != nil {
		return Response{}, err
	}
	c, err := o.begin(ctx, fieldFind)
	if err != nil {
		return Response{}, err
	}
	if err := o.ask(ctx, to, c, &command{field: fieldFind, class: class}, bytes.NewReader(b)); err != nil {
		return Response{}, err
	}
	var failed error // of each, or of a match: the rest is waited for, not handed on
	for {
		a, err := o.await(ctx, c)
		switch {
		case a.command == nil: // none came
			o.cancel(ctx, to, c)
			return Response{}, cmp.Or(failed, err)
		case a.command.status.Class() != Pending:
			return Response{Status: a.command.status, Comment: a.command.comment}, failed
		case failed != nil:
			continue
		case err == nil:
			err = each(a.data)
		}
		if failed = err; failed != nil {
			o.cancel(ctx, to, c)
		}
	}
}

// cancel asks the peer to end a query (C-CANCEL-RQ, PS3.7 section 9.3.2.3), if the association is still there. It does not fail:
// the response, or the end of the association, comes anyhow.
func (o *operations) cancel(ctx context.Context, to Accepted, c *call) {
	o.mu.Lock()
	done := o.done
	o.mu.Unlock()
	if !done {
		request := command{field: fieldCancel, respondedTo: c.id}
		_ = o.carrier.send(context.WithoutCancel(ctx), message{context: to.ID, command: request.encode()})
	}
}
