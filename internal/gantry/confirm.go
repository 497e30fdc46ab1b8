package gantry

import (
	"context"
	"crypto/sha256"
	"slices"
	"time"
)

// Picking is a Sink that takes only some of what a task leaves.
type Picking interface {
	Sink
	// Picks tells whether it takes files of a media type, or manifests. What it does not take is not delivered to it, and is not on
	// record as such.
	Picks(media string, manifest bool) bool
}

// Lasting is a Sink that is not given again what it took once in the same delivery, by the record: its server acknowledges what it keeps, and to
// look whether it is there, or to send it again, would cost or change something. Any other Sink is given everything again when one
// output failed, and makes sure of it.
type Lasting interface {
	Sink
	Lasts()
}

// Confirming is a Sink whose server says later, and on its own, whether it keeps what was delivered, as storage commitment of DICOM
// does (PS3.4 annex J). A task is not done before it has. Each method makes one try; errors are *Error with a Kind.
type Confirming interface {
	Sink
	// Confirmation says how answers are waited for; nil: nobody asks for any, and nothing else is called.
	Confirmation() *Confirmation
	// Confirm asks the server to confirm what was delivered, under an id that is the same whenever the same is asked again. It returns
	// when the server has taken the request; the answer may have come before that.
	Confirm(ctx context.Context, id string, out []Delivery) error
	// NameOf gives the digest by which answers speak of a delivery.
	NameOf(ctx context.Context, d Delivery) (Digest, error)
	// Tell says who takes answers. It is called once, before anything else. take may be called at any time, and again with the same
	// answer; known is false for an answer that nobody asked this server for.
	Tell(take func(ctx context.Context, a Answer) (known bool, err error))
}

// Confirmation says how the answer of a Confirming sink is waited for.
type Confirmation struct {
	Within time.Duration // after that the request is made anew, once
}

// Asking is one request that a sink's server confirm what was delivered to it.
type Asking struct {
	ID string // a UID
	Lease
	Leg      int16
	Delivery int16
	Sink     int16  // its place in the pipeline
	Try      int16  // from 0, for each sink and delivery
	Limiter  int32  // of the sink's target: no other server's answer counts
	Count    int32  // of deliveries
	Names    Digest // of what it is about; see NamesDigest
}

// Asked is an Asking with what came of it so far.
type Asked struct {
	Asking         // without its lease
	Taken  bool    // the server took the request
	Over   bool    // nobody waits for its answer any more; one that comes nevertheless counts
	Answer *Answer // nil: none came
	Waited time.Duration
}

// Answer is what a server said about a request to confirm.
type Answer struct {
	ID     string
	Kept   int32         // how many deliveries it keeps
	Names  Digest        // of these; see NamesDigest
	Failed []Unconfirmed // those that it does not, as it says
}

// Whole tells whether the server keeps everything that it was asked about, and speaks of nothing else.
func (a Asked) Whole() bool {
	return a.Answer != nil && len(a.Answer.Failed) == 0 && a.Answer.Names == a.Names
}

// NamesDigest is the SHA-256 of the names of deliveries, each once, in their order.
func NamesDigest(names []Digest) Digest {
	names = slices.SortedFunc(slices.Values(names), func(a, b Digest) int { return slices.Compare(a[:], b[:]) })
	sum := sha256.New()
	for _, n := range slices.Compact(names) {
		sum.Write(n[:])
	}
	return Digest(sum.Sum(nil))
}

// Unconfirmed is a delivery that a server does not keep.
type Unconfirmed struct {
	Name   Digest // see Confirming.NameOf
	Reason int32  // the protocol's own
}

// CodeNotCommitted: the server of a sink did not say that it keeps what was delivered. It is Permanent.
const CodeNotCommitted Code = "not_committed"

// Bounded is a driver's config that says how many calls its target takes at once, over all processes.
type Bounded interface {
	AtOnce() int
}

// Patient is a sink's config that says for how long a task may wait for what its server confirms; 0: it does not.
type Patient interface {
	Patience() time.Duration
}
