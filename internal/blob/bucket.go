package blob

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Codes of a store in a bucket.
const (
	CodeBucketMissing   gantry.Code = "bucket_missing"   // NotFound
	CodeAccessDenied    gantry.Code = "access_denied"    // Denied
	CodeExpired         gantry.Code = "expired_token"    // Unavailable: the credentials ran out, and are taken anew for the next try
	CodeSlowDown        gantry.Code = "slow_down"        // Unavailable
	CodeServerError     gantry.Code = "server_error"     // Transient
	CodeRefused         gantry.Code = "refused"          // Permanent, or Illegal: the server does not take this request
	CodeMalformedAnswer gantry.Code = "malformed_answer" // BadResponse
	CodeChanged         gantry.Code = "blob_changed"     // Transient: another object took the place of the one that was opened
	CodeLeaving         gantry.Code = "blob_leaving"     // Unavailable: garbage of the same bytes is being deleted
)

const (
	identityKey = "gantry-blobs.json" // below the prefix
	blobTries   = 4                   // of one request
	pauseMost   = 2 * time.Second     // between two tries; a server that asks for longer gets no other
	smallTime   = 30 * time.Second    // for a request without a large body
	largeTime   = 10 * time.Minute    // for a piece
	rangeTime   = time.Minute         // for the blocks of one read
)

// BucketOptions say where a store in a bucket lies and how it is reached.
type BucketOptions struct {
	Place
	Worker gantry.WorkerID // stands in the rows of what this process commits; above 0
	Key    []byte          // the deployment key. The bucket keeps no copy of it: who reads the bucket could make its ids.
	// Transport sends requests, signs them, and tries none a second time by itself.
	Transport http.RoundTripper
	Scratch   string // a folder for what is staged and finds no room in memory; empty: the system's
	// MemoryLimit bounds the bytes that staged blobs over gantry.InlineLimit hold in memory; 0 means 128 MiB.
	MemoryLimit int64
	Ledger      Ledger // nil: nothing is noted, and garbage must not be collected
	// Database is the id of the database whose rows refer to the blobs. A store that belongs to another is refused with code
	// other_database; one that belongs to none belongs to it from then on. Empty: it is not looked at, and no garbage is collected.
	Database string
}

// Bucket is a blob store in a bucket of S3 or of a server that speaks its protocol, shared by any number of
// processes on any number of machines. A blob is one object, named by its digest. It is safe for concurrent use.
type Bucket struct {
	BucketOptions
	id     string
	client *sdk.Client
	mem    *memory
	piece  int64 // what is larger, in bytes, is put in pieces of this size
	pause  time.Duration
	cached atomic.Int64 // blocks that open blobs hold
	closed atomic.Bool
}

var _ gantry.Blobs = (*Bucket)(nil)

// OpenBucket opens the store, and makes its identity if it is new. A store that was made under another key is
// refused with code wrong_key. The bucket itself has to be there.
func OpenBucket(ctx context.Context, o BucketOptions) (*Bucket, error) {
	return openBucket(ctx, o, systemEnv())
}

func openBucket(ctx context.Context, o BucketOptions, e env) (*Bucket, error) {
	if o.Worker <= 0 || o.Transport == nil || o.MemoryLimit < 0 {
		return nil, gantry.Errorf(gantry.Illegal, "", "open blob store: it needs a worker above 0, a transport, and no negative size")
	}
	if len(o.Key) < minKey {
		return nil, gantry.Errorf(gantry.Illegal, CodeWrongKey, "open blob store: a bucket keeps no copy of the deployment key; configure one of %d bytes or more", minKey)
	}
	if err := o.Place.Check(); err != nil {
		return nil, err
	}
	if o.MemoryLimit == 0 {
		o.MemoryLimit = defaultMemory
	}
	b := &Bucket{BucketOptions: o, client: newClient(o.Place, o.Transport), mem: newMemory(o.MemoryLimit, e.patience), piece: 64 << 20, pause: 100 * time.Millisecond}
	var err error
	if b.id, err = b.openIdentity(ctx, e); err == nil && b.Database != "" {
		err = own(ctx, b, b.id, b.Database, e.now)
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

// InspectBucket reads the identity of a store in a bucket and holds key to it. It changes nothing. A store that was never
// opened is NotFound with code blob_missing; another key is Illegal with code wrong_key.
func InspectBucket(ctx context.Context, p Place, rt http.RoundTripper, key []byte) (About, error) {
	b := looking(p, rt)
	b.Key = key
	x, err := b.readIdentity(ctx)
	if err == nil {
		err = b.holdKey(x)
	}
	if err != nil {
		return About{ID: x.ID}, err
	}
	o, err := b.readOwner(ctx)
	return About{x.ID, o}, err
}

// looking is a store of which nothing but its own small objects is read and written.
func looking(p Place, rt http.RoundTripper) *Bucket {
	return &Bucket{BucketOptions: BucketOptions{Place: p, Transport: rt}, client: newClient(p, rt), pause: 100 * time.Millisecond}
}

// ID is the identity that the store got when it was made. A worker that knew the store under another one must
// not use it.
func (b *Bucket) ID() string { return b.id }

// Close lets nothing more begin. Blobs that are open stay readable until they are closed themselves.
func (b *Bucket) Close() error {
	b.closed.Store(true)
	return nil
}

func (b *Bucket) checkOpen() error {
	if b.closed.Load() {
		return errClosed()
	}
	return nil
}

// Stage reads r to its end into memory or, if it is large or memory is short, into a file of the scratch folder
// that has no name. Its errors are those of Dir.Stage.
func (b *Bucket) Stage(ctx context.Context, r io.Reader, size, limit int64) (gantry.Staged, error) {
	if err := b.checkOpen(); err != nil {
		return nil, err
	}
	h, err := stageInto(ctx, room{b.mem, b.temp, false}, r, size, limit)
	if err != nil {
		return nil, err
	}
	return &putting{held: h, bucket: b}, nil
}

// temp makes a file that is gone when it is closed.
func (b *Bucket) temp() (*os.File, error) {
	f, err := os.CreateTemp(b.Scratch, tempPrefix)
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

// under gives the key of a name below the prefix.
func (b *Bucket) under(name string) *string {
	if b.Prefix != "" {
		name = b.Prefix + "/" + name
	}
	return &name
}

const shaFolder = "sha256/"

func (b *Bucket) keyOf(sha gantry.Digest) *string {
	hex := sha.String()
	return b.under(shaFolder + hex[:2] + "/" + hex[2:])
}

// several makes tries until one succeeds, ctx ends, or another would not help.
func (b *Bucket) several(ctx context.Context, try func(ctx context.Context) error) error {
	for n := 1; ; n++ {
		err := try(ctx)
		if err == nil || n == blobTries || !worthAnother(err) {
			return err
		}
		if werr := b.wait(ctx, n, gantry.RetryAfterOf(err)); werr != nil {
			return werr
		}
	}
}

// worthAnother tells whether another try soon may go differently.
func worthAnother(err error) bool {
	e, ok := errors.AsType[*gantry.Error](err)
	return ok && e.Kind <= gantry.Unavailable && e.Code != CodeChanged && e.Code != CodeNoSpace && e.RetryAfter <= pauseMost
}

// wait pauses before another try.
func (b *Bucket) wait(ctx context.Context, n int, atLeast time.Duration) error {
	t := time.NewTimer(max(b.pause<<(n-1), atLeast))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// openIdentity gives the store's id; the first process to come makes it. What was made is read back, since a
// server may not know If-None-Match.
func (b *Bucket) openIdentity(ctx context.Context, e env) (string, error) {
	x, err := b.readIdentity(ctx)
	if gantry.CodeOf(err) == CodeMissing {
		fresh := identity{ID: gantry.NewIDs(e.now, e.rand).New().String(), Created: e.now().UTC().Truncate(time.Second)}
		fresh.KeyCheck = keyCheck(b.Key, fresh.ID)
		text, _ := json.MarshalIndent(fresh, "", "  ") // two strings and a time: cannot fail
		if err = b.writeSmall(ctx, identityKey, append(text, '\n'), true); err == nil {
			x, err = b.readIdentity(ctx)
		}
	}
	if err != nil {
		return "", err
	}
	return x.ID, b.holdKey(x)
}

func (b *Bucket) holdKey(x identity) error {
	if x.KeyCheck != keyCheck(b.Key, x.ID) {
		return gantry.Errorf(gantry.Illegal, CodeWrongKey, "open blob store %s: it was made with another deployment key", x.ID)
	}
	return nil
}

// readIdentity reads identity; NotFound with code blob_missing if there is none.
func (b *Bucket) readIdentity(ctx context.Context) (identity, error) {
	text, err := b.readSmall(ctx, identityKey)
	if err != nil {
		return identity{}, err
	}
	return parseIdentity(text)
}

// writeSmall writes a small object of the store's own; with fresh it leaves one that is there. A server that knows no conditions gets
// none: the caller looked for the object just before, and reads it back.
func (b *Bucket) writeSmall(ctx context.Context, name string, text []byte, fresh bool) error {
	in := sdk.PutObjectInput{Bucket: &b.Bucket, Key: b.under(name), ContentType: aws.String("application/json")}
	if fresh {
		in.IfNoneMatch = aws.String("*")
	}
	return b.several(ctx, func(ctx context.Context) error {
		one, cancel := context.WithTimeout(ctx, smallTime)
		defer cancel()
		in.Body = bytes.NewReader(text)
		_, err := b.client.PutObject(one, &in)
		if in.IfNoneMatch != nil && status(err) == http.StatusNotImplemented {
			in.IfNoneMatch, in.Body = nil, bytes.NewReader(text)
			_, err = b.client.PutObject(one, &in)
		}
		if err == nil || fresh && status(err) == http.StatusPreconditionFailed {
			return nil
		}
		return bucketGone(classify(ctx, "write blob store's "+name, err))
	})
}

// readSmall reads a small object of the store's own; NotFound with code blob_missing if there is none.
func (b *Bucket) readSmall(ctx context.Context, name string) (text []byte, err error) {
	err = b.several(ctx, func(ctx context.Context) error {
		one, cancel := context.WithTimeout(ctx, smallTime)
		defer cancel()
		out, err := b.client.GetObject(one, &sdk.GetObjectInput{Bucket: &b.Bucket, Key: b.under(name)})
		if err != nil {
			return classify(ctx, "read blob store's "+name, err)
		}
		defer out.Body.Close()
		if text, err = io.ReadAll(io.LimitReader(out.Body, maxSmallFile)); err != nil {
			return readError(ctx, err)
		}
		return nil
	})
	return text, err
}

// bucketGone is the meaning of what is not found where something is put.
func bucketGone(err error) error {
	if gantry.CodeOf(err) == CodeMissing {
		return gantry.Errorf(gantry.NotFound, CodeBucketMissing, "blob store: the server does not know the bucket")
	}
	return err
}

// readError classifies an error of an answer's body.
func readError(ctx context.Context, err error) error {
	if own, ok := errors.AsType[*gantry.Error](err); ok {
		return own
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return gantry.Errorf(gantry.Transient, "short_body", "read blob: the connection broke")
}
