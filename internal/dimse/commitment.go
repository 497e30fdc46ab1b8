package dimse

import (
	"bytes"
	"context"
	"encoding/binary"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Reference names an instance (PS3.3 section 10.8).
type Reference struct{ Class, Instance string }

// Failed is an instance that was not committed, with why (PS3.3 section C.14).
type Failed struct {
	Reference
	Reason uint16
}

// Commitment is a request for storage commitment, or the answer to one (PS3.4 annex J).
type Commitment struct {
	Transaction string // UID
	Instances   []Reference
	Failed      []Failed // of an answer
}

// The one action of storage commitment, and its events (PS3.4 sections J.3.2 and J.3.3).
const (
	actionCommit    = 1
	eventCommitted  = 1
	eventIncomplete = 2
)

func (o *operations) commit(ctx context.Context, c Commitment) (Response, error) {
	return o.commitment(ctx, "N-ACTION", &command{field: fieldAction, action: actionCommit}, Commitment{Transaction: c.Transaction, Instances: c.Instances})
}

func (o *operations) report(ctx context.Context, c Commitment) (Response, error) {
	event := uint16(eventCommitted)
	if len(c.Failed) > 0 {
		event = eventIncomplete
	}
	return o.commitment(ctx, "N-EVENT-REPORT", &command{field: fieldReport, event: event}, c)
}

func (o *operations) commitment(ctx context.Context, what string, request *command, c Commitment) (Response, error) {
	to, ok := o.identifierContext(StorageCommitment)
	if !ok {
		return Response{}, noContext(what)
	}
	set, err := c.dataset()
	if err != nil {
		return Response{}, err
	}
	b, err := set.Encode(to.Transfer)
	if err != nil {
		return Response{}, err
	}
	request.class, request.instance = StorageCommitment, StorageCommitmentInstance
	return o.one(ctx, to, request, bytes.NewReader(b))
}

// dataset is the action or event information. Errors: Illegal bad_uid.
func (c Commitment) dataset() (Dataset, error) {
	d := Dataset{Text(0x0008, 0x1195, "UI", c.Transaction)}
	good := validUID(c.Transaction)
	var failed, instances []Dataset
	for _, f := range c.Failed {
		reason := Element{Group: 0x0008, Number: 0x1197, VR: "US", Value: binary.LittleEndian.AppendUint16(nil, f.Reason)}
		failed = append(failed, append(f.dataset(), reason))
		good = good && f.valid()
	}
	for _, r := range c.Instances {
		instances = append(instances, r.dataset())
		good = good && r.valid()
	}
	if !good {
		return nil, gantry.Errorf(gantry.Illegal, CodeBadUID, "storage commitment: transaction, SOP class or instance is no UID")
	}
	if len(failed) > 0 {
		d = append(d, sequence(0x0008, 0x1198, failed...))
	}
	if len(instances) > 0 {
		d = append(d, sequence(0x0008, 0x1199, instances...))
	}
	return d, nil
}

func (r Reference) valid() bool { return validUID(r.Class) && validUID(r.Instance) }

func (r Reference) dataset() Dataset {
	return Dataset{Text(0x0008, 0x1150, "UI", r.Class), Text(0x0008, 0x1155, "UI", r.Instance)}
}

// commitmentOf reads action or event information. Errors: BadResponse malformed_dataset for one without valid UIDs.
func commitmentOf(d Dataset) (c Commitment, err error) {
	c.Transaction = d.Get(0x0008, 0x1195)
	good := validUID(c.Transaction)
	reference := func(item Dataset) Reference {
		r := Reference{Class: item.Get(0x0008, 0x1150), Instance: item.Get(0x0008, 0x1155)}
		good = good && r.valid()
		return r
	}
	if e := d.find(0x0008, 0x1199); e != nil {
		for _, item := range e.Items {
			c.Instances = append(c.Instances, reference(item))
		}
	}
	if e := d.find(0x0008, 0x1198); e != nil {
		for _, item := range e.Items {
			f := Failed{Reference: reference(item), Reason: uint16(StatusProcessing)}
			if why := item.find(0x0008, 0x1197); why != nil && len(why.Value) == 2 {
				f.Reason = binary.LittleEndian.Uint16(why.Value)
			}
			c.Failed = append(c.Failed, f)
		}
	}
	if !good {
		return c, badDataset("storage commitment: transaction, SOP class or instance is no UID")
	}
	return c, nil
}
