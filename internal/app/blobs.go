package app

import (
	"context"
	"crypto/rand"
	"fmt"
	"math"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/auth"
	"github.com/gantry-imaging/gantry/internal/blob"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/gate"
)

// CodeOtherStore: the database belongs to another blob store than the one that the settings name.
const CodeOtherStore gantry.Code = "other_blob_store"

// BlobBucket says how the bucket of the blob store is reached.
type BlobBucket struct {
	Endpoint, Region string // empty: AWS, us-east-1
	PathStyle        bool
	Auth             *gantry.Credential // nil: the SDK's default chain
}

// blobs is a blob store of either kind.
type blobs interface {
	gantry.Blobs
	blob.Garbage
	ID() string
	Close() error
}

// inBucket tells whether the blob store lies in a bucket.
func (s Settings) inBucket() bool { return strings.HasPrefix(s.Blobs, "s3://") }

// disk is a folder on the disk that fills up while work is done.
func (s Settings) disk() string {
	if s.inBucket() {
		return os.TempDir()
	}
	return s.Blobs
}

// deploymentKey gives the key of the installation. A blob store in a folder keeps a copy of it; a bucket, which others may
// read, does not.
func (s Settings) deploymentKey(want []byte) ([]byte, error) {
	if s.inBucket() {
		if len(want) == 0 {
			return nil, gantry.Errorf(gantry.Illegal, blob.CodeWrongKey, "deployment key: a blob store in a bucket keeps no copy of it; set key in the deployment file, --key or GANTRY_KEY")
		}
		return want, nil
	}
	if err := os.MkdirAll(s.Blobs, 0o700); err != nil {
		return nil, fmt.Errorf("make blob store: %w", err)
	}
	return blob.DeploymentKey(s.Blobs, want, rand.Reader)
}

// fromBucket bounds what the bucket's server may do to us: the largest answer is a range of a blob.
var fromBucket = gate.Policy{MaxBody: 64 << 20, FirstByte: 5 * time.Minute}

// bucketDoor gives the place of the store and the way there, which signs. The caller closes the way.
func (s Settings) bucketDoor() (blob.Place, http.RoundTripper, *gate.Own, error) {
	place, err := blob.ParsePlace(s.Blobs)
	if err != nil {
		return place, nil, nil, err
	}
	x := s.BlobBucket
	place.Endpoint, place.Region, place.PathStyle = x.Endpoint, x.Region, x.PathStyle
	c := gantry.Credential{}
	if x.Auth != nil {
		c = *x.Auth
	}
	c.Name, c.Kind = "bucket", "aws"
	if c.Region == "" {
		c.Region = x.Region
	}
	own := gate.NewOwn(place.Target(), fromBucket, time.Now)
	rt, err := auth.Wrap(own, &c, s.Lookup)
	return place, rt, own, err
}

// inspectBucket reads the identity of a store in a bucket, and holds the key to it.
func (s Settings) inspectBucket(ctx context.Context, key []byte) (string, error) {
	place, rt, own, err := s.bucketDoor()
	if err != nil {
		return "", err
	}
	defer own.Close()
	return blob.InspectBucket(ctx, place, rt, key)
}

// inBucketStore is a store in a bucket with its connections.
type inBucketStore struct {
	*blob.Bucket
	own *gate.Own
}

// Close closes the connections too.
func (b inBucketStore) Close() error {
	defer b.own.Close()
	return b.Bucket.Close()
}

// openBlobs opens the blob store that the settings name, unless the database belongs to another.
func (a *App) openBlobs(ctx context.Context, w gantry.WorkerID) (blobs, error) {
	b, err := a.openEither(ctx, w)
	if err != nil {
		return nil, err
	}
	known, err := a.Store.BlobStore(ctx, b.ID(), a.inBucket())
	if err == nil && known != "" && known != b.ID() {
		err = gantry.Errorf(gantry.Illegal, CodeOtherStore, "open blob store %s: the database belongs to blob store %s", b.ID(), known)
	}
	if err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

func (a *App) openEither(ctx context.Context, w gantry.WorkerID) (blobs, error) {
	if !a.inBucket() {
		d, err := blob.OpenDir(ctx, blob.Options{Dir: a.Blobs, Worker: w, Key: a.Key, SegmentSize: segmentSize, Ledger: a.Store})
		if err != nil {
			return nil, err
		}
		return d, nil
	}
	place, rt, own, err := a.bucketDoor()
	if err != nil {
		return nil, err
	}
	b, err := blob.OpenBucket(ctx, blob.BucketOptions{Place: place, Worker: w, Key: a.Key, Transport: rt, Ledger: a.Store})
	if err != nil {
		own.Close()
		return nil, err
	}
	return inBucketStore{b, own}, nil
}

// CollectBlobs collects the garbage of the blob store once, also of blobs that have no row; see blob.Collect. A grace of 0
// is that of the settings.
func (a *App) CollectBlobs(ctx context.Context, grace time.Duration, dry bool) (blob.Collected, error) {
	b, err := a.blobStore(ctx, math.MaxInt64) // nothing is committed, so that no segment gets its name
	if err != nil {
		return blob.Collected{}, err
	}
	if grace == 0 {
		grace = a.BlobGrace
	}
	return blob.Collect(ctx, a.Store, b, blob.Collection{Grace: grace, Dry: dry, Whole: true, Now: time.Now})
}

// sweepBlobsEvery is how often a process that serves looks for garbage.
const sweepBlobsEvery = time.Hour

// sweepBlobs collects garbage about once an hour, until ctx ends. It looks at rows alone: every blob that this version commits
// has one.
func (a *App) sweepBlobs(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration((0.5 + a.rand()) * float64(sweepBlobsEvery))):
		}
		a.sweepInbox(ctx)
		a.sweepDebts(ctx)
		a.mu.Lock()
		b := a.blobs
		a.mu.Unlock()
		done, err := blob.Collect(ctx, a.Store, b, blob.Collection{Grace: a.BlobGrace, Now: time.Now})
		switch {
		case err != nil && ctx.Err() == nil:
			a.Log.Warn("collect garbage of the blob store", "err", err)
		case done != blob.Collected{}:
			a.Log.Info("collected garbage of the blob store", "tombstones", done.Tombs, "deleted", done.Deleted, "bytes", done.DeleteBytes)
		}
	}
}
