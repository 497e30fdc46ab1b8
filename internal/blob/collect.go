package blob

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// DefaultGrace is how long a blob keeps its tombstone before it is deleted.
const DefaultGrace = 7 * 24 * time.Hour

const (
	settled     = time.Hour        // since a commit, before a blob that nothing refers to gets a tombstone; the grace if that is shorter
	deleteTime  = 10 * time.Second // for one deletion; far less than its row says that it may be under way
	tombPage    = 1000
	doomBatch   = 100
	objectsPage = 1000
)

// Garbage is a store as the collector sees it: blobs that are an object or a file of their own. What lies in
// segments stays.
type Garbage interface {
	// Owned refuses a store that does not, or no longer, belong to the database that it was opened for.
	Owned(ctx context.Context) error
	// Objects gives all of them, in pages.
	Objects(ctx context.Context, page func([]gantry.KeptBlob) error) error
	// Remove deletes one; one that is not there is no error.
	Remove(ctx context.Context, location string) error
}

var _, _ Garbage = (*Dir)(nil), (*Bucket)(nil)

// GarbageLedger is what the collector needs of the database.
type GarbageLedger interface {
	// AdoptBlobs writes rows for blobs that have none, and says how many there were; with dry it only counts.
	AdoptBlobs(ctx context.Context, list []gantry.KeptBlob, dry bool) (n int, err error)
	// TombBlobs sets tombstones among the next blobs after a location; next is where to go on, empty at the end.
	TombBlobs(ctx context.Context, after string, limit int, settle time.Duration, dry bool) (next string, n int, size int64, err error)
	// DoomBlobs begins the deletion of blobs whose tombstone is older than the grace.
	DoomBlobs(ctx context.Context, grace time.Duration, limit int) ([]gantry.DoomedBlob, error)
	// DueBlobs counts what DoomBlobs would give in all.
	DueBlobs(ctx context.Context, grace time.Duration) (n int, size int64, err error)
	// BlobGone removes the row of a blob that was deleted.
	BlobGone(ctx context.Context, x gantry.DoomedBlob) error
	// SpareBlobs ends deletions that never began.
	SpareBlobs(ctx context.Context, list []gantry.DoomedBlob) error
}

// Collection says what a collector has to do.
type Collection struct {
	Grace time.Duration // 0: DefaultGrace
	Dry   bool          // count, and change nothing
	Whole bool          // look at every blob of the store, also for those without a row
	Now   func() time.Time
}

// Collected is what a collector did or, if dry, would have done.
type Collected struct {
	Adopted     int   `json:"adopted"`      // blobs without a row, which got one
	Tombs       int   `json:"tombstones"`   // set now
	TombBytes   int64 `json:"tomb_bytes"`   // in them
	Deleted     int   `json:"deleted"`      // after their grace
	DeleteBytes int64 `json:"delete_bytes"` // in them
}

// Collect collects garbage: a blob that nothing refers to gets a tombstone, and is deleted by a collector that comes
// when the tombstone is older than the grace, if still nothing refers to it. A commit of the same bytes takes the
// tombstone away. Between the row that says that a blob is leaving, and the end of its deletion, commits of the same
// bytes wait. Any number of collectors of one database may be at work at once; a store that is not, or no longer, this database's
// is left alone. After an error what was done is done.
func Collect(ctx context.Context, l GarbageLedger, g Garbage, c Collection) (done Collected, err error) {
	if c.Grace == 0 {
		c.Grace = DefaultGrace
	}
	if err := g.Owned(ctx); err != nil {
		return done, err
	}
	settle := min(settled, c.Grace)
	if c.Whole {
		before := c.Now().Add(-settle)
		err = g.Objects(ctx, func(page []gantry.KeptBlob) error {
			var old []gantry.KeptBlob
			for _, x := range page {
				if x.At.Before(before) {
					old = append(old, x)
				}
			}
			n, err := l.AdoptBlobs(ctx, old, c.Dry)
			done.Adopted += n
			return err
		})
		if err != nil {
			return done, err
		}
	}
	for after := ""; ; {
		next, n, size, err := l.TombBlobs(ctx, after, tombPage, settle, c.Dry)
		if err != nil {
			return done, err
		}
		done.Tombs, done.TombBytes = done.Tombs+n, done.TombBytes+size
		if after = next; next == "" {
			break
		}
	}
	if c.Dry {
		done.Deleted, done.DeleteBytes, err = l.DueBlobs(ctx, c.Grace)
		return done, err
	}
	return done, done.remove(ctx, l, g, c)
}

// remove deletes what is due.
func (done *Collected) remove(ctx context.Context, l GarbageLedger, g Garbage, c Collection) error {
	for {
		if err := g.Owned(ctx); err != nil {
			return err
		}
		began := c.Now() // a process that stood still must not send what was decided before
		list, err := l.DoomBlobs(ctx, c.Grace, doomBatch)
		if err != nil || len(list) == 0 {
			return err
		}
		for i, x := range list {
			if c.Now().Sub(began) > time.Minute {
				err = gantry.Errorf(gantry.Timeout, "", "collect garbage: the deletions take too long")
			} else {
				err = removeOne(ctx, l, g, x)
			}
			if err != nil {
				later, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTime)
				defer cancel()
				return errors.Join(err, l.SpareBlobs(later, list[i+1:]))
			}
			done.Deleted, done.DeleteBytes = done.Deleted+1, done.DeleteBytes+x.Size
		}
	}
}

func removeOne(ctx context.Context, l GarbageLedger, g Garbage, x gantry.DoomedBlob) error {
	one, cancel := context.WithTimeout(ctx, deleteTime)
	defer cancel()
	if err := g.Remove(one, x.Location); err != nil {
		return err
	}
	return l.BlobGone(ctx, x)
}

// Remove deletes a blob that is a file of its own. What is not there is no error.
func (d *Dir) Remove(ctx context.Context, where string) error {
	l, err := ownLocation(where)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	if err := os.Remove(l.path(d.root)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return diskError("delete blob", err)
	}
	return nil
}

// ownLocation reads the location of a blob that can be deleted by itself.
func ownLocation(where string) (location, error) {
	l, err := parseLocation(where)
	if err == nil && l.sha.IsZero() {
		err = gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "delete blob: it lies in a segment")
	}
	return l, err
}

// Objects gives all blobs that are files of their own.
func (d *Dir) Objects(ctx context.Context, page func([]gantry.KeptBlob) error) error {
	for i := range shards {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := d.shard(byte(i), page); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return diskError("list blobs", err)
		}
	}
	return nil
}

func (d *Dir) shard(b byte, page func([]gantry.KeptBlob) error) error {
	f, err := os.Open(shardDir(d.root, b))
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		entries, err := f.ReadDir(objectsPage)
		var list []gantry.KeptBlob
		for _, e := range entries {
			sha, perr := gantry.ParseDigest(e.Name())
			fi, serr := e.Info()
			if perr == nil && serr == nil && fi.Mode().IsRegular() {
				list = append(list, gantry.KeptBlob{Location: location{sha: sha}.String(), Size: fi.Size(), SHA: sha, At: fi.ModTime()})
			}
		}
		if len(list) > 0 {
			if err := page(list); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Remove deletes an object. What is not there is no error. A deletion whose answer is lost may still come about.
func (b *Bucket) Remove(ctx context.Context, where string) error {
	l, err := ownLocation(where)
	if err != nil {
		return err
	}
	_, err = b.client.DeleteObject(ctx, &sdk.DeleteObjectInput{Bucket: &b.Bucket, Key: b.keyOf(l.sha)})
	if err != nil {
		err = classify(ctx, "delete blob", err)
	}
	if gantry.CodeOf(err) == CodeMissing {
		return nil
	}
	return err
}

// Objects gives all blobs below the prefix. Objects of other names are nobody's garbage.
func (b *Bucket) Objects(ctx context.Context, page func([]gantry.KeptBlob) error) error {
	prefix := b.under(shaFolder)
	for token := (*string)(nil); ; {
		var out *sdk.ListObjectsV2Output
		err := b.several(ctx, func(ctx context.Context) error {
			one, cancel := context.WithTimeout(ctx, smallTime)
			defer cancel()
			var err error
			out, err = b.client.ListObjectsV2(one, &sdk.ListObjectsV2Input{Bucket: &b.Bucket, Prefix: prefix, ContinuationToken: token, MaxKeys: aws.Int32(objectsPage)})
			if err != nil {
				return classify(ctx, "list blobs", err)
			}
			return nil
		})
		if err != nil {
			return err
		}
		var list []gantry.KeptBlob
		for _, x := range out.Contents {
			name := strings.TrimPrefix(aws.ToString(x.Key), *prefix)
			head, tail, _ := strings.Cut(name, "/")
			sha, err := hex.DecodeString(head + tail)
			if err != nil || len(sha) != len(gantry.Digest{}) || *b.keyOf(gantry.Digest(sha)) != aws.ToString(x.Key) || x.LastModified == nil {
				continue
			}
			list = append(list, gantry.KeptBlob{Location: location{sha: gantry.Digest(sha)}.String(), Size: aws.ToInt64(x.Size), SHA: gantry.Digest(sha), At: *x.LastModified})
		}
		if len(list) > 0 {
			if err := page(list); err != nil {
				return err
			}
		}
		was := token
		switch token = out.NextContinuationToken; {
		case !aws.ToBool(out.IsTruncated) || token == nil:
			return nil
		case aws.ToString(token) == aws.ToString(was):
			return gantry.Errorf(gantry.BadResponse, CodeMalformedAnswer, "list blobs: the listing has no end")
		}
	}
}
