package s3

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"sync/atomic"

	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// CodeNotConditional says, Permanent, that a server takes a put with If-None-Match: * for one without.
const CodeNotConditional gantry.Code = "not_conditional"

// word is what is known of a server's conditional puts.
type word int32

const (
	wordUnknown word = iota // it is looked before and after each put, as if it were not kept
	wordKept                // a key that is taken is refused
	wordBroken              // the condition is taken and not kept: it is looked before and after each put
	wordRefused             // the condition is refused, or we were told not to send it: so too
)

// errAgain is a put that was refused for its condition alone, by a server that knows none.
var errAgain = errors.New("again without the condition")

// maxProofs is how often a process tries to learn what a server does.
const maxProofs = 3

// server is what a sink has learnt of its server.
type server struct {
	word   atomic.Int32
	proofs atomic.Int32
	sample atomic.Pointer[sample]
}

// sample is a small object that was delivered, so that putting it again changes nothing whatever the server does.
type sample struct {
	in   sdk.PutObjectInput
	body []byte
	sum  gantry.Digest
}

func (s *server) is() word { return word(s.word.Load()) }

// learn keeps the first thing that is learnt.
func (s *server) learn(w word) bool { return s.word.CompareAndSwap(int32(wordUnknown), int32(w)) }

// condition is the If-None-Match of a put.
func (s *sink) condition() *string {
	if s.server.is() == wordRefused {
		return nil
	}
	return s.guard
}

// before looks whether a key is taken where the server's refusal cannot be relied upon. While nothing is known of
// it, credentials that may not look go by its word.
func (s *sink) before(ctx context.Context, key string, p piece) (there bool, err error) {
	w := s.server.is()
	if w == wordKept {
		return false, nil
	}
	there, err = s.compare(ctx, key, p)
	if w == wordUnknown && gantry.KindOf(err) == gantry.Denied {
		return false, nil
	}
	return there, err
}

// after reads back what a put left, where another may have been put over it.
func (s *sink) after(ctx context.Context, key string, p piece) error {
	there, err := s.before(ctx, key, p)
	if w := s.server.is(); there || err != nil || w == wordKept || w == wordUnknown {
		return err
	}
	return gantry.Errorf(gantry.Transient, CodeServerError, "deliver: the object is not there after it was put")
}

// Prove puts again, with its very bytes, a small object that was just delivered. A server that keeps to the condition
// refuses; one that does not is NotConditional, and is not relied upon from then on.
func (s *sink) Prove(ctx context.Context) error {
	if s.server.is() != wordUnknown {
		return nil
	}
	x := s.server.sample.Swap(nil)
	if x == nil || s.server.proofs.Add(1) > maxProofs {
		return nil
	}
	in := x.in
	in.Body = bytes.NewReader(x.body)
	err := s.client.put(ctx, &in, x.sum)
	switch code := status(err); {
	case code == http.StatusPreconditionFailed:
		s.server.learn(wordKept)
	case err == nil && s.server.learn(wordBroken):
		return gantry.Errorf(gantry.Permanent, CodeNotConditional, "prove conditional puts: the server replaces an object though it is told not to (If-None-Match)")
	}
	return nil
}

// sampleOf makes of what was put a sample to prove the server with; nil if it is no small object, or nothing is left to prove.
func (s *sink) sampleOf(in *sdk.PutObjectInput, body []byte, sum gantry.Digest) *sample {
	if s.server.is() != wordUnknown || len(body) == 0 || in.IfNoneMatch == nil {
		return nil
	}
	return &sample{in: *in, body: body, sum: sum}
}

// putAgain tells whether a put was refused for its condition alone, as by servers that know none.
func (s *sink) putAgain(err error, condition *string) bool {
	if condition == nil || status(err) != http.StatusNotImplemented {
		return false
	}
	s.server.learn(wordRefused)
	return s.server.is() == wordRefused
}
