package dicom

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// statusDuplicateTransaction: the peer knows the request for storage commitment already (PS3.7 annex C). So it was taken.
const statusDuplicateTransaction dimse.Status = 0x0131

// CodeOnlyDICOM is Illegal: a file that is no DICOM object was delivered to an archive.
const CodeOnlyDICOM gantry.Code = "only_dicom"

// sink is an archive.
type sink struct {
	config SinkConfig
	out    *sender
	take   atomic.Pointer[func(context.Context, gantry.Answer) (bool, error)]
}

var (
	_ gantry.Confirming = (*sink)(nil)
	_ gantry.Picking    = (*sink)(nil)
	_ gantry.Lasting    = (*sink)(nil)
	_ gantry.Probed     = (*sink)(nil)
	_ gantry.Leaving    = (*sink)(nil)
	_ Called            = (*sink)(nil)
	_ Desk              = (*sink)(nil)
)

// NewSink makes a sink. It opens nothing. A config that does not Check, or names files that cannot be read, is Illegal with code
// bad_config.
func NewSink(_ context.Context, c SinkConfig, egress gantry.Egress) (gantry.Sink, error) {
	for _, p := range c.Check() {
		return nil, gantry.Errorf(gantry.Illegal, CodeBadConfig, "open sink: %s: %s", p.Key, p.Text)
	}
	p, err := c.peer().peering()
	if err != nil {
		return nil, err
	}
	s := &sink{config: c}
	if p.most = c.AtOnce(); c.Commit {
		p.handler = onOurs{s}
	}
	s.out = newSender(egress, p)
	return s, nil
}

// Picks takes DICOM objects alone.
func (s *sink) Picks(media string, manifest bool) bool {
	return !manifest && media == gantry.MediaDICOM
}

// Lasts says that an object that was answered with success or a warning is not sent again: whether the archive has it yet is a question for
// storage commitment.
func (s *sink) Lasts() {}

// Deliver sends one object by C-STORE: its data set is the file's, byte for byte. What is sent again under the same SOP Instance UID
// is the same object, so that an archive which has it is content; whether it keeps the first or the second it does not say, and
// other bytes under the UID cannot be told by it. The path means nothing there. Errors are those of sending; see storeError.
func (s *sink) Deliver(ctx context.Context, out gantry.Delivery) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !s.Picks(out.Media, out.Manifest) {
		return gantry.Errorf(gantry.Illegal, CodeOnlyDICOM, "send: it is no DICOM object")
	}
	_, err := s.out.send(ctx, fileOf(out))
	return err
}

func fileOf(out gantry.Delivery) outgoing {
	return outgoing{size: out.Size, sha: out.SHA, open: out.Open}
}

// Confirmation says how storage commitment is waited for; nil without it.
func (s *sink) Confirmation() *gantry.Confirmation {
	if !s.config.Commit {
		return nil
	}
	return &gantry.Confirmation{Within: s.config.within()}
}

// Confirm asks the archive to keep objects safe: one N-ACTION under a transaction UID (PS3.4 section J.3.2). That it has taken the
// same request before is success.
func (s *sink) Confirm(ctx context.Context, id string, out []gantry.Delivery) (err error) {
	c := dimse.Commitment{Transaction: id}
	known := map[dimse.Reference]bool{}
	for _, d := range out {
		o, err := objectOf(ctx, fileOf(d))
		if err != nil {
			return err
		}
		if r := (dimse.Reference{Class: o.Class, Instance: o.Instance}); !known[r] {
			known[r], c.Instances = true, append(c.Instances, r)
		}
	}
	t := &trip{sender: s.out}
	defer func() { t.end(err) }()
	if err := t.on(ctx, pairCommit); err != nil {
		return err
	}
	if !t.line.accepts(pairCommit) {
		return declined{gantry.Errorf(gantry.Permanent, CodeNotAccepted, "confirm: the peer knows no storage commitment")}
	}
	resp, err := t.line.Commit(ctx, c)
	if err != nil {
		return broken(ctx, err)
	}
	return t.judge(resp.Status, commitError)
}

// commitError says what the status of an N-ACTION response means (PS3.7 section 10.1.4.1.10).
func commitError(s dimse.Status) *gantry.Error {
	if s == statusDuplicateTransaction {
		return nil
	}
	return commonError(s)
}

// NameOf is the SHA-256 of an object's SOP Instance UID.
func (s *sink) NameOf(ctx context.Context, d gantry.Delivery) (gantry.Digest, error) {
	o, err := objectOf(ctx, fileOf(d))
	return instanceName(o.Instance), err
}

func instanceName(instance string) gantry.Digest { return sha256.Sum256([]byte(instance)) }

// Leave releases the associations that nobody uses.
func (s *sink) Leave() { s.out.close() }

// Tell says who takes what archives report.
func (s *sink) Tell(take func(context.Context, gantry.Answer) (bool, error)) { s.take.Store(&take) }

// Called is where the archive reports, if it is asked to.
func (s *sink) Called() (Place, Desk, bool) { return s.config.place(), s, s.config.Commit }

// Take takes no objects.
func (s *sink) Take(context.Context, *Instance) (bool, dimse.Response) {
	return false, dimse.Response{}
}

// Commit commits to nothing.
func (s *sink) Commit(context.Context, dimse.Peer, dimse.Commitment) (bool, dimse.Response) {
	return false, dimse.Response{}
}

// Reported takes what the archive says about a request of ours, in whatever process that was made. It is ours if the archive was
// asked under its transaction; a report that cannot be kept is answered with a failure, after which an archive may try again.
func (s *sink) Reported(ctx context.Context, _ dimse.Peer, c dimse.Commitment) (bool, dimse.Response) {
	take := s.take.Load()
	if take == nil {
		return false, dimse.Response{}
	}
	names := make([]gantry.Digest, len(c.Instances))
	for i, r := range c.Instances {
		names[i] = instanceName(r.Instance)
	}
	a := gantry.Answer{ID: c.Transaction, Kept: int32(len(c.Instances)), Names: gantry.NamesDigest(names)}
	for _, f := range c.Failed {
		a.Failed = append(a.Failed, gantry.Unconfirmed{Name: instanceName(f.Instance), Reason: int32(f.Reason)})
	}
	known, err := (*take)(ctx, a)
	switch {
	case err != nil:
		return true, dimse.Response{Status: dimse.StatusProcessing}
	case !known:
		return false, dimse.Response{}
	}
	return true, dimse.Response{Status: dimse.StatusSuccess}
}

// onOurs takes what the archive reports on an association that we asked for.
type onOurs struct{ *sink }

// Store takes nothing.
func (onOurs) Store(context.Context, dimse.StoreRequest) dimse.Response {
	return dimse.Response{Status: dimse.StatusNotSupported}
}

// Commit commits to nothing.
func (onOurs) Commit(context.Context, dimse.Commitment) dimse.Response {
	return dimse.Response{Status: dimse.StatusNotSupported}
}

// Reported takes an answer.
func (o onOurs) Reported(ctx context.Context, c dimse.Commitment) dimse.Response {
	mine, r := o.sink.Reported(ctx, dimse.Peer{}, c)
	if !mine {
		return dimse.Response{Status: dimse.StatusNoSuchInstance}
	}
	return r
}

// Ended needs nothing: whoever uses the association sees its end.
func (onOurs) Ended(error) {}

// Probe asks the archive whether it is there (C-ECHO), and whether it knows storage commitment if that will be asked for.
func (s *sink) Probe(ctx context.Context) []gantry.Probe {
	const check = "C-ECHO"
	t := &trip{sender: s.out}
	began := time.Now()
	status, err := s.echo(ctx, t)
	took := time.Since(began).Round(10 * time.Microsecond)
	defer func() { t.end(err) }()
	switch {
	case err != nil:
		return []gantry.Probe{{Check: check, Text: fmt.Sprintf("%v (%s)", err, gantry.CodeOf(err)), Bad: true,
			Advice: "look whether the archive runs, and whether it knows the AE titles aet and calling, and this machine's address"}}
	case status != dimse.StatusSuccess:
		return []gantry.Probe{{Check: check, Text: fmt.Sprintf("status %04X", uint16(status)), Bad: true, Advice: "look into the archive's log"}}
	}
	found := []gantry.Probe{{Check: check, Text: fmt.Sprintf("answered in %s", took)}}
	if s.config.Commit && !t.line.accepts(pairCommit) {
		found = append(found, gantry.Probe{Check: "storage commitment", Text: "the archive does not know it", Bad: true,
			Advice: "switch it on there for this AE title, or take commit out of the sink"})
	} else if s.config.Commit {
		found = append(found, gantry.Probe{Check: "storage commitment", Text: "the archive knows it"})
	}
	return found
}

func (s *sink) echo(ctx context.Context, t *trip) (dimse.Status, error) {
	var also []pair
	if s.config.Commit {
		also = []pair{pairCommit}
	}
	if err := t.on(ctx, pairEcho, also...); err != nil {
		return 0, err
	}
	if !t.line.accepts(pairEcho) {
		return 0, declined{gantry.Errorf(gantry.Permanent, CodeNotAccepted, "echo: the peer does not answer C-ECHO")}
	}
	r, err := t.line.Echo(ctx)
	return r.Status, broken(ctx, err)
}
