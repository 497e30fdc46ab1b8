package gantry

import (
	"context"
	"io"
	"net"
	"net/http"
	"time"
)

// Egress is the only way from a driver to a socket. It enforces the declared target and fills the
// running call's record; without a running call in ctx it refuses.
type Egress interface {
	// Transport reaches the driver's declared target over HTTP: no redirects, no proxy from the
	// environment, no silent gunzip, capped headers and bodies, TLS 1.2 or later. Its errors are
	// *Error and classified.
	Transport() http.RoundTripper
	// DialContext opens a connection to the declared target for other protocols.
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Source announces objects and reads them.
type Source interface {
	// Watch calls announce for each object, concurrently if it likes, until ctx ends or the source
	// fails for good. An object whose announce returned nil is safe; one whose announce failed is
	// announced again later, and any object may be announced more than once.
	Watch(ctx context.Context, announce func(context.Context, Object) error) error
	// Open reads an object. One that is gone is a NotFound error with code source_gone.
	Open(ctx context.Context, ref string) (io.ReadCloser, error)
}

// InPlace is a Source whose objects can be read where they are, so that they need not be copied.
type InPlace interface {
	Source
	// Locate says how OpenRange finds these very bytes of an announced object later, in any process; empty:
	// they are to be copied. What it says may hold names of people, so it is never logged.
	Locate(ctx context.Context, o Object) (place string, err error)
	// OpenRange reads n bytes from an offset on; both lie within the object. Where other bytes than those
	// that were located would come, or none, it is a NotFound error with code source_gone.
	OpenRange(ctx context.Context, place string, from, n int64) (io.ReadCloser, error)
}

// Tidying is a Source that does something with objects whose tasks have all ended.
type Tidying interface {
	Source
	// After says what it does with those whose tasks ended so, Done or Failed; false if nothing.
	After(ended State) (op Op, ok bool)
	// Mark says how Tidy finds these very bytes of an announced object later, in any process. What it says may hold
	// names of people, so it is never logged.
	Mark(o Object) string
	// Tidy does it. It may be called again, also after it was done. Of an object that is gone or that another took the
	// place of it is NotFound with code source_gone, and changes nothing. An error that is not Retryable
	// will be the same the next time. Where under the object lies a former one, which comes to light when it and what is over it are
	// gone, former is told of that before the object is deleted, which it is only if former returns nil. Its Version is its Layer, or
	// its Sequencer where another may have the same.
	Tidy(ctx context.Context, mark string, ended State, former func(context.Context, Object) error) error
}

// Layered is a Tidying whose objects may lie over former ones.
type Layered interface {
	Tidying
	// Layer gives the source's own name of the version that an announced object is, and what time it is there; empty: it has none. If the object
	// is gone or another took its place it is NotFound with code source_gone.
	Layer(ctx context.Context, o Object) (version string, now time.Time, err error)
}

// Processor is an inference service behind some protocol.
type Processor interface {
	// Process sends one request and hands each output to req.Receive before it returns. It makes
	// one try; errors are *Error with a Kind. It may be called again with the same Key.
	Process(ctx context.Context, req *Request) error
}

// Request is one call of a processor.
type Request struct {
	Key   string     // the Idempotency-Key: the same for every try of the same part
	Of    Submission // which it is of those of a processor that answers later
	Items []Item
	// Open reads the bytes of Items[i] from the start.
	Open func(ctx context.Context, i int) (io.ReadCloser, error)
	// Receive takes one output; size is -1 if not known. It reads body to its end, and never
	// past the limit on answers.
	Receive func(ctx context.Context, media string, size int64, body io.Reader) error
}

// Sink takes a finished task's outputs.
type Sink interface {
	// Deliver makes one output durable at its path. It may be called again with the same path and
	// bytes, and must then change nothing and succeed; other bytes under a path that is taken
	// are a Permanent error with code conflict. The manifest comes last.
	Deliver(ctx context.Context, out Delivery) error
}

// Proving is a Sink that depends on what its server keeps to, and can find that out.
type Proving interface {
	Sink
	// Prove finds it out if it is not known and something was delivered to find it out with. It is called after
	// each delivery, its requests are control traffic, and it costs nothing once all is known. An error
	// says, once, that the server does not keep to it, and that the sink makes up for that.
	Prove(ctx context.Context) error
}

// Probed is a Source or a Sink that can look whether its server does what will be asked of it.
type Probed interface {
	// Probe tries it out and takes away again what it laid down, if it may.
	Probe(ctx context.Context) []Probe
}

// Probe is something that was looked at. Its texts hold no secrets.
type Probe struct {
	Check  string
	Text   string // what was found
	Advice string // what to do about it; empty if all is well
	Bad    bool   // nothing can be taken or delivered so; else, with advice, gantry makes up for it
}

// Delivery is one file for a sink.
type Delivery struct {
	Path     string // slash-separated, below the task's own prefix; made by gantry, safe as it is
	Media    string
	Size     int64
	SHA      Digest
	Manifest bool
	Open     func(ctx context.Context) (io.ReadCloser, error)
	About    About // for sinks that make keys, metadata or tags of it; Path is the default one
}

// Digested is a stream whose bytes were digested on their way here. A reader that passes on exactly
// what it reads forwards it, so that nobody takes the same digest twice.
type Digested interface {
	// Digest gives the SHA-256 and number of all bytes that came, once the stream has ended; false
	// before, and where nobody took it.
	Digest() (Digest, int64, bool)
}

// DigestOf asks r for the digest of what was read from it; false if it knows none.
func DigestOf(r io.Reader) (Digest, int64, bool) {
	if d, ok := r.(Digested); ok {
		return d.Digest()
	}
	return Digest{}, 0, false
}

// Sole is a stream that digests what is read from it, unless it hears that it is all of a call's request: that has a digest
// already, taken on the wire.
type Sole interface {
	// Sole says so, before the first read.
	Sole()
}

// SendAlone tells r that the body of the call's request will be what is read from it, no more and no less.
func SendAlone(r io.Reader) {
	if s, ok := r.(Sole); ok {
		s.Sole()
	}
}

// Sized is a stream that knows how many bytes it has in all; -1 if it does not.
type Sized interface {
	Size() int64
}

// Blobs keeps bytes that nobody else keeps.
type Blobs interface {
	// Stage reads r to its end, at most limit bytes (over it: Illegal, code too_large), without
	// making it durable. size is a hint, -1 if not known.
	Stage(ctx context.Context, r io.Reader, size, limit int64) (Staged, error)
	// Open reads a blob by the location that Commit gave. The digest is checked by whoever reads
	// to the end.
	Open(ctx context.Context, location string) (Blob, error)
}

// Staged is a blob that is complete but not durable.
type Staged interface {
	Size() int64
	// SHA is the digest of the bytes; zero where only their seal is known yet.
	SHA() Digest
	// Inline gives the bytes if there are at most InlineLimit of them, else nil.
	Inline() []byte
	// Commit makes the blob durable and says where it lies. It may be called once.
	Commit(ctx context.Context) (location string, err error)
	// Discard gives up the memory or file of a blob that was not committed. It is safe after Commit.
	Discard()
}

// Blob is an open blob.
type Blob interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// CalledBack is the config of a processor or sink whose service answers by calling us. A process that serves listens for it, one that
// only works does not.
type CalledBack interface {
	// CalledAt says where, and by which name it asks for us; false: it does not call.
	CalledAt() (address, name string, ok bool)
}

// Leaving is a processor or a sink that keeps connections whose end its server is told of.
type Leaving interface {
	// Leave ends those that nobody uses, in bounded time. The driver is not used after that.
	Leave()
}
