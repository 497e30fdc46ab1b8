package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/dimse"
)

// maxCommit is how many instances one request for commitment speaks of.
const maxCommit = 2000

// keeper asks for storage commitment (PS3.4 annex J), and hears the answers: on the association on which it asked, or where it listens.
type keeper struct {
	*transfer
	answers chan dimse.Commitment
	stop    context.CancelFunc
	done    chan struct{} // closed when it listens no more
}

// keep makes a keeper, which listens if that is asked for.
func (t *transfer) keep(ctx context.Context) (*keeper, error) {
	k := &keeper{transfer: t, answers: make(chan dimse.Commitment, 16), stop: func() {}, done: make(chan struct{})}
	if t.CommitListen == "" {
		close(k.done)
		return k, nil
	}
	l, err := net.Listen("tcp", t.CommitListen)
	if err != nil {
		return nil, usageError{fmt.Errorf("--commit-listen: %w", err)}
	}
	ctx, k.stop = context.WithCancel(ctx)
	server := &dimse.Server{Admit: k.admit, Most: 8}
	go func() {
		defer close(k.done)
		_ = server.Serve(ctx, l, time.Second) // it ends with the command
	}()
	return k, nil
}

func (k *keeper) close() {
	k.stop()
	<-k.done
}

// admit lets in who calls us by our title, for commitment and echoes alone.
func (k *keeper) admit(_ context.Context, p dimse.Proposal) (dimse.Terms, error) {
	if p.Called != k.Calling {
		return dimse.Terms{}, &dimse.Rejection{Source: 1, Reason: 7}
	}
	return dimse.Terms{Handler: k, Accept: func(c dimse.Context) int {
		if c.Abstract != dimse.StorageCommitment && c.Abstract != dimse.Verification {
			return -1
		}
		for i, t := range c.Transfer {
			if t == dimse.ExplicitLE || t == dimse.ImplicitLE {
				return i
			}
		}
		return -2
	}}, nil
}

// Store takes nothing.
func (k *keeper) Store(context.Context, dimse.StoreRequest) dimse.Response {
	return dimse.Response{Status: dimse.StatusNotSupported}
}

// Commit promises nothing.
func (k *keeper) Commit(context.Context, dimse.Commitment) dimse.Response {
	return dimse.Response{Status: dimse.StatusNotAuthorized}
}

// Reported hears an answer. It is passed on when the peer has been told so, since the association is released then.
func (k *keeper) Reported(ctx context.Context, c dimse.Commitment) dimse.Response {
	context.AfterFunc(ctx, func() {
		select {
		case k.answers <- c:
		default: // nobody asked so often
		}
	})
	return dimse.Response{}
}

// Ended is of no interest: who waits for an answer sees the association's end itself.
func (k *keeper) Ended(error) {}

// confirm asks for what the peer has taken, and notes its answers. The error says what was not answered.
func (k *keeper) confirm(ctx context.Context, list []*delivery) error {
	var taken []*delivery
	for _, d := range list {
		if d.taken() {
			taken = append(taken, d)
		}
	}
	for len(taken) > 0 {
		n := min(len(taken), maxCommit)
		if err := k.ask(ctx, taken[:n]); err != nil {
			for _, d := range taken {
				d.unkept(err.Error())
			}
			return err
		}
		taken = taken[n:]
	}
	return nil
}

func (d *delivery) unkept(why string) {
	no := false
	d.Committed, d.Unkept = &no, why
}

// ask makes one request and waits for its answer.
func (k *keeper) ask(ctx context.Context, list []*delivery) error {
	a, err := k.associate(ctx, []dimse.Context{{Abstract: dimse.StorageCommitment, Transfer: []string{dimse.ExplicitLE, dimse.ImplicitLE}}})
	if err != nil {
		return fmt.Errorf("storage commitment: %w", err)
	}
	defer a.Abort()
	a.Handle(k)
	request := dimse.Commitment{Transaction: transaction()}
	for _, d := range list {
		request.Instances = append(request.Instances, dimse.Reference{Class: d.Class, Instance: d.Instance})
	}
	r, err := a.Commit(ctx, request)
	switch {
	case err != nil:
		return fmt.Errorf("storage commitment: %w", err)
	case r.Status != dimse.StatusSuccess:
		return fmt.Errorf("storage commitment: the peer refuses: %s", answerText(r))
	}
	answer, err := k.wait(ctx, a, request.Transaction)
	if err != nil {
		return err
	}
	note(list, answer)
	release(a, k.Timeout)
	return nil
}

// transaction is a UID that nobody has used (PS3.5 section B.2).
func transaction() string {
	var space [16]byte
	_, _ = io.ReadFull(rand.Reader, space[:]) // it does not fail
	return dicom.ResultUID(space, "transaction")
}

// wait waits for the answer to a transaction. Without a place to listen at it comes on the association or not at all.
func (k *keeper) wait(ctx context.Context, a *dimse.Association, transaction string) (dimse.Commitment, error) {
	timer := time.NewTimer(k.CommitWait)
	defer timer.Stop()
	gone := a.Done()
	if k.CommitListen != "" {
		gone = nil
	}
	for {
		select {
		case c := <-k.answers:
			if c.Transaction == transaction {
				return c, nil
			}
		case <-gone:
			return dimse.Commitment{}, errors.New("storage commitment: the peer ended the association without an answer; it may answer on one of its own: see --commit-listen")
		case <-timer.C:
			return dimse.Commitment{}, fmt.Errorf("storage commitment: no answer within %s", k.CommitWait)
		case <-ctx.Done():
			return dimse.Commitment{}, context.Cause(ctx)
		}
	}
}

// note tells each file what the peer says of it. What it does not speak of is not committed.
func note(list []*delivery, c dimse.Commitment) {
	kept, failed := map[dimse.Reference]bool{}, map[dimse.Reference]uint16{}
	for _, r := range c.Instances {
		kept[r] = true
	}
	for _, f := range c.Failed {
		failed[f.Reference] = f.Reason
	}
	for _, d := range list {
		r := dimse.Reference{Class: d.Class, Instance: d.Instance}
		why, no := failed[r]
		switch {
		case no:
			d.unkept(commitReason(why))
		case kept[r]:
			yes := true
			d.Committed = &yes
		default:
			d.unkept("the peer's answer does not speak of it")
		}
	}
}

// commitReason is a failure reason in words (PS3.3 section C.14.1.1).
func commitReason(why uint16) string {
	switch why {
	case 0x0213:
		return "resource limitation (0x0213)"
	case 0x0122:
		return "SOP class not supported (0x0122)"
	case 0x0119:
		return "class and instance conflict (0x0119)"
	case 0x0131:
		return "duplicate transaction (0x0131)"
	case 0x0112:
		return "no such instance (0x0112)"
	case 0x0110:
		return "processing failure (0x0110)"
	}
	return "reason 0x" + strconv.FormatUint(uint64(why), 16)
}
