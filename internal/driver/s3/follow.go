package s3

import (
	"cmp"
	"context"
	"errors"
	"path"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	headTimeout = 30 * time.Second
	maxFollow   = 4 // how often an object may change while it is being taken
)

// Codes of events that have to come again. Both are Unavailable.
const (
	CodeUnsettled gantry.Code = "unsettled" // the object is younger than settle
	CodeRestless  gantry.Code = "restless"  // the object changed again and again while it was taken
)

// seen is an object as the bucket has it.
type seen struct {
	gantry.Object
	entry   types.Object // as a listing would have it
	version string       // empty: the bucket keeps none
	young   time.Duration
}

// follow announces the object that an event tells of as the bucket has it now, which is what a listing would
// announce. What the event tells of and is no longer so is announced as superseded or gone. So an event that comes twice,
// late, or after those that followed it makes no task of its own.
func (s *source) follow(ctx context.Context, e event, announce func(context.Context, gantry.Object) error) error {
	for range maxFollow {
		o, err := s.find(ctx, &e)
		if err != nil {
			return err
		}
		if o != nil {
			o.Channel = e.by
		}
		was := gantry.Object{Ref: e.keys[0], Name: path.Base(strings.ToValidUTF8(e.keys[0], "\uFFFD")), Version: cmp.Or(e.etag, e.version, "unknown"), Event: e.order, Channel: e.by}
		switch {
		case o == nil:
			was.Status = gantry.SourceGone
			return s.tell(ctx, was, announce)
		case !s.wanted(&o.entry, o.Ref): // it lies where it cannot be read
			return nil
		case o.young > 0:
			return again(CodeUnsettled, o.young, "take object: it is younger than settle")
		case e.isOf(o):
			o.Event = e.order
		default:
			was.Status = gantry.Superseded
			if err := s.tell(ctx, was, announce); err != nil {
				return err
			}
		}
		if err := s.tell(ctx, o.Object, announce); gantry.CodeOf(err) != gantry.CodeSourceGone {
			return err
		}
		e = event{keys: []string{o.Ref}, etag: o.Version, version: o.version, by: e.by} // replaced or deleted while it was read
	}
	return again(CodeRestless, time.Second, "take object: it changes while it is read")
}

func again(code gantry.Code, after time.Duration, text string) error {
	err := gantry.Errorf(gantry.Unavailable, code, "%s", text)
	err.RetryAfter = after
	return err
}

// isOf tells whether an event may be that of an object as it is: nothing says otherwise.
func (e *event) isOf(o *seen) bool {
	if e.etag != "" && o.Version != "" {
		return e.etag == o.Version
	}
	return e.version == "" || o.version == "" || e.version == o.version
}

// find asks the bucket for the object of an event; nil if it is gone. Where its key may mean two, it is the one whose
// ETag is right, else the likelier one that is there; that one is then the first of the event's keys.
func (s *source) find(ctx context.Context, e *event) (*seen, error) {
	var found *seen
	for i, key := range e.keys {
		o, err := s.lookExactly(ctx, key)
		if err != nil {
			return nil, err
		}
		right := o != nil && (e.etag == "" || e.isOf(o))
		if right || o != nil && i == 0 {
			found = o
		}
		if right {
			break
		}
	}
	if found != nil {
		e.keys = []string{found.Ref}
	}
	return found, nil
}

// lookExactly is look for what an event names. A server that keeps keys as paths gives the object at "a/b" for "a//b" and for
// "a/x/../b", too: such a key is the object's only where the bucket lists it, and else stands for the one that it leads to, if
// the source takes that.
func (s *source) lookExactly(ctx context.Context, key string) (*seen, error) {
	o, err := s.look(ctx, key)
	plain := strings.TrimPrefix(path.Clean("/"+key), "/")
	if plain == key || o == nil || err != nil {
		return o, err
	}
	if listed, err := s.lists(ctx, key); listed || err != nil {
		return o, err
	}
	if !s.takes(plain) {
		return nil, nil
	}
	return s.look(ctx, plain)
}

// lists tells whether a listing shows a key.
func (s *source) lists(ctx context.Context, key string) (bool, error) {
	page, err := s.list(ctx, &sdk.ListObjectsV2Input{Bucket: &s.bucket, Prefix: &key, MaxKeys: aws.Int32(1), EncodingType: types.EncodingTypeUrl})
	if err != nil || len(page.Contents) == 0 {
		return false, err
	}
	o, err := toObject(&page.Contents[0], page.EncodingType)
	return o.Ref == key, err
}

// look asks for an object without its bytes; nil if it is not there.
func (s *source) look(ctx context.Context, key string) (*seen, error) {
	ctx, cancel := context.WithTimeout(ctx, headTimeout)
	defer cancel()
	out, err := s.client.HeadObject(ctx, &sdk.HeadObjectInput{Bucket: &s.bucket, Key: &key})
	if err != nil {
		err = classify(ctx, "look at object", err)
		switch {
		case gantry.CodeOf(err) == gantry.CodeSourceGone:
			return nil, s.gone(ctx, key)
		case errors.Is(err, context.DeadlineExceeded):
			err = gantry.Errorf(gantry.Timeout, "", "look at object: no answer within %s", headTimeout)
		}
		return nil, err
	}
	o := &seen{version: versionID(aws.ToString(out.VersionId)), entry: types.Object{
		Key: &key, ETag: out.ETag, Size: out.ContentLength, LastModified: out.LastModified, StorageClass: types.ObjectStorageClass(out.StorageClass)}}
	if o.Object, err = toObject(&o.entry, ""); err != nil {
		return nil, err
	}
	o.young = s.unsettledFor(aws.ToTime(out.LastModified), s.serverTime(out.ResultMetadata))
	return o, nil
}

// gone makes sure that it is the object that is not there. The answer to a HEAD has no body to say whether it is the bucket; what
// is told of one that may come back has to come again.
func (s *source) gone(ctx context.Context, key string) error {
	out, err := s.client.get(ctx, &sdk.GetObjectInput{Bucket: &s.bucket, Key: &key, Range: aws.String("bytes=0-0")})
	if err == nil {
		out.Body.Close()
		return again(CodeRestless, time.Second, "look at object: it is there and is not")
	}
	err = classify(ctx, "look at object", err)
	switch gantry.CodeOf(err) {
	case gantry.CodeSourceGone:
		return nil
	case CodeBucketMissing:
		return again(CodeBucketMissing, 0, "look at object: the server does not know the bucket")
	}
	return err
}
