package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

type sendCmd struct {
	peerFlags
	Paths        []string      `arg:"" name:"file|dir" help:"Files, and folders with all that is below them. What is DICOM is seen by content."`
	Commit       bool          `help:"Ask the peer for storage commitment of what it took, and wait for its answer."`
	CommitWait   time.Duration `help:"How long to wait for that answer." default:"60s"`
	CommitListen string        `help:"Also wait for it here, for peers that answer on an association of their own." placeholder:"HOST:PORT"`
	JSON         bool          `name:"json" help:"JSON instead of a line per file."`
}

// maxContexts is how many presentation contexts an association may have (PS3.8 section 9.3.2.2).
const maxContexts = 128

// What became of a file.
const (
	wasSent    = "sent"
	wasWarned  = "warning"
	wasFailed  = "failed"
	wasSkipped = "skipped"
)

// delivery is a file on its way.
type delivery struct {
	File      string `json:"file"`
	Class     string `json:"sop_class,omitempty"`
	Instance  string `json:"sop_instance,omitempty"`
	Transfer  string `json:"transfer_syntax,omitempty"`
	Outcome   string `json:"outcome"`          // sent, warning, failed, skipped
	Status    string `json:"status,omitempty"` // of the response, in hexadecimal
	Reason    string `json:"reason,omitempty"` // one word, if there was no response
	Text      string `json:"text,omitempty"`   // for a person
	Committed *bool  `json:"committed,omitempty"`
	Unkept    string `json:"not_committed,omitempty"` // why it is not
}

func (d *delivery) pair() pair { return pair{d.Class, d.Transfer} }

func (d *delivery) fail(err error) {
	d.Outcome, d.Reason, d.Text = wasFailed, codeOf(err), err.Error()
}

// taken tells whether the peer has the instance.
func (d *delivery) taken() bool { return d.Outcome == wasSent || d.Outcome == wasWarned }

// pair is what a presentation context is for: objects are sent as they are, so each transfer syntax has its own.
type pair struct{ class, transfer string }

// Run is called by the parser.
func (s *sendCmd) Run(ctx context.Context, c console) error {
	host, err := s.host()
	if err == nil {
		_, err = s.secure(host)
	}
	if err == nil && (s.CommitListen != "" && !s.Commit || s.CommitWait <= 0) {
		err = usageError{errors.New("--commit-listen needs --commit, and --commit-wait is above 0")}
	}
	if err != nil {
		return err
	}
	list, err := gather(s.Paths)
	if err != nil {
		return err
	}
	t := &transfer{sendCmd: s, told: func(d *delivery) {
		if !s.JSON {
			d.print(c.out)
		}
	}}
	committed, err := t.all(ctx, list)
	if _, wrong := errors.AsType[usageError](err); wrong {
		return err
	}
	if err != nil {
		fmt.Fprintln(c.err, "gantry:", err)
	}
	if s.JSON {
		if err := printJSON(c.out, orEmpty(list)); err != nil {
			return err
		}
	} else {
		summarize(c.out, list, committed)
	}
	if err != nil || !slices.ContainsFunc(list, (*delivery).taken) || slices.ContainsFunc(list, (*delivery).wanting) {
		return quietError(exitFailed)
	}
	return nil
}

// wanting tells whether something is wrong with a file: it was not taken, or not committed though that was asked for.
func (d *delivery) wanting() bool {
	return d.Outcome == wasFailed || d.Committed != nil && !*d.Committed
}

// transfer is one run of the command.
type transfer struct {
	*sendCmd
	told func(*delivery)
}

// all sends the list, on as many associations as its presentation contexts ask for, and asks for commitment. The error is why not all
// that could be tried was tried.
func (t *transfer) all(ctx context.Context, list []*delivery) (committed bool, err error) {
	var keeper *keeper
	if t.Commit {
		if keeper, err = t.keep(ctx); err != nil {
			return false, err
		}
		defer keeper.close()
	}
	var todo []*delivery
	for _, d := range list {
		if d.Outcome == "" {
			todo = append(todo, d)
		} else {
			t.told(d)
		}
	}
	for len(todo) > 0 && err == nil {
		var batch, rest []*delivery
		batch, rest = batchOf(todo)
		var left []*delivery
		left, err = t.batch(ctx, batch)
		todo = append(left, rest...)
	}
	for _, d := range todo {
		d.fail(gantry.Errorf(gantry.KindOf(err), gantry.CodeOf(err), "not tried"))
		t.told(d)
	}
	if keeper == nil || err != nil {
		return false, err
	}
	return true, keeper.confirm(ctx, list)
}

// batchOf splits off the files that one association has contexts for.
func batchOf(todo []*delivery) (batch, rest []*delivery) {
	known := map[pair]bool{}
	for _, d := range todo {
		p := d.pair()
		if !known[p] && len(known) == maxContexts {
			rest = append(rest, d)
			continue
		}
		known[p] = true
		batch = append(batch, d)
	}
	return batch, rest
}

// batch sends files on one association. If that breaks after the peer has answered on it, those that were not tried are left for
// another. The error is that of an association that could not be had, or on which nothing was answered.
func (t *transfer) batch(ctx context.Context, list []*delivery) (left []*delivery, err error) {
	var contexts []dimse.Context
	known := map[pair]bool{}
	for _, d := range list {
		if p := d.pair(); !known[p] {
			known[p] = true
			contexts = append(contexts, dimse.Context{Abstract: p.class, Transfer: []string{p.transfer}})
		}
	}
	a, err := t.associate(ctx, contexts)
	if err != nil {
		return list, err
	}
	defer a.Abort()
	answered := false
	for i, d := range list {
		err := t.store(ctx, a, d)
		t.told(d)
		answered = answered || d.Status != ""
		if err == nil {
			continue
		}
		if ctx.Err() != nil || !answered && !ofFile(err) {
			return list[i+1:], err
		}
		return list[i+1:], nil
	}
	release(a, t.Timeout)
	return nil, nil
}

// ofFile tells whether an association was given up for what is wrong with a file, and not with the peer.
func ofFile(err error) bool {
	_, reading := errors.AsType[*fs.PathError](err)
	return reading || gantry.KindOf(err) == gantry.Illegal
}

// store sends one file. Its error is one of the association, which is of no use any more.
func (t *transfer) store(ctx context.Context, a *dimse.Association, d *delivery) error {
	to, ok := a.Find(d.Class, d.Transfer)
	if !ok {
		d.fail(gantry.Errorf(gantry.Permanent, dimse.CodeNotOffered, "the peer accepted no presentation context for SOP class %s in transfer syntax %s", d.Class, d.Transfer))
		return nil
	}
	f, err := os.Open(d.File)
	if err != nil {
		d.fail(err)
		return nil
	}
	defer f.Close()
	o, data, err := dicom.Split(f)
	if err == nil && (o.Class != d.Class || o.Instance != d.Instance || o.Transfer != d.Transfer) {
		err = gantry.Errorf(gantry.Illegal, gantry.CodeConflict, "the file was changed while it was to be sent")
	}
	if err != nil {
		d.fail(err)
		return nil
	}
	r, err := a.Store(ctx, dimse.StoreRequest{Context: to, Class: d.Class, Instance: d.Instance, Data: data})
	if err != nil {
		d.fail(err)
		return err
	}
	d.answered(r)
	return nil
}

// answered notes the peer's response.
func (d *delivery) answered(r dimse.Response) {
	d.Status, d.Text = fmt.Sprintf("%04X", uint16(r.Status)), answerText(r)
	switch r.Status.Class() {
	case dimse.Success:
		d.Outcome, d.Text = wasSent, ""
	case dimse.Warning:
		d.Outcome = wasWarned
	default:
		d.Outcome = wasFailed
	}
}
