package s3

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// copyTo copies the object within the bucket and makes sure of it. Where another is in the way, its name gets the ETag
// in addition. A name proves nothing: what is there counts as the copy only if its bytes are those of the object.
func (s *source) copyTo(ctx context.Context, at located, head *sdk.HeadObjectOutput, to string) error {
	if aws.ToInt64(head.ContentLength) > maxCopy {
		return gantry.Errorf(gantry.Permanent, gantry.CodeTooLarge, "move object: it is larger than %d bytes, which a server copies at once", int64(maxCopy))
	}
	for _, key := range []string{to, to + "~" + strings.Trim(at.ETag, `"`)} {
		if len(key) > maxKey {
			return gantry.Errorf(gantry.Permanent, CodeNameTooLong, "move object: the key is longer than %d bytes", maxKey)
		}
		there, err := s.client.HeadObject(ctx, &sdk.HeadObjectInput{Bucket: &s.bucket, Key: &key})
		switch {
		case status(err) == http.StatusNotFound:
			return s.copyAs(ctx, at, head, key)
		case err != nil:
			return classify(ctx, "look at what is there", err)
		}
		if same, err := s.same(ctx, at, head, key, there); same || err != nil {
			return err
		}
	}
	return gantry.Errorf(gantry.Permanent, gantry.CodeConflict, "move object: something else is there already")
}

// same tells whether what is there has the bytes of an object. An ETag that is the same says so; where it differs, as it may by
// how an object was put or encrypted, both are read.
func (s *source) same(ctx context.Context, at located, of *sdk.HeadObjectOutput, key string, there *sdk.HeadObjectOutput) (bool, error) {
	size := aws.ToInt64(of.ContentLength)
	if aws.ToInt64(there.ContentLength) != size {
		return false, nil
	}
	if aws.ToString(there.ETag) == aws.ToString(of.ETag) {
		return true, nil
	}
	is, err := s.digest(ctx, located{Key: key, ETag: aws.ToString(there.ETag)}, size)
	switch {
	case gantry.KindOf(err) == gantry.Denied: // what nobody can read is no proof
		return false, nil
	case gantry.KindOf(err) == gantry.NotFound:
		return false, gantry.Errorf(gantry.Transient, CodeServerError, "read what is there: it is gone, or another took its place")
	case err != nil:
		return false, err
	}
	want, err := s.digest(ctx, at, size)
	return is == want && err == nil, err
}

// digest reads an object to its end.
func (s *source) digest(ctx context.Context, at located, size int64) (gantry.Digest, error) {
	o := &object{source: s, ctx: ctx, ref: at.Key, etag: at.ETag, version: at.Version, size: size}
	if err := o.open(); err != nil {
		return gantry.Digest{}, err
	}
	defer func() { o.Close() }() // of the body that it has then
	whole, _, err := measure(ctx, o, 1<<62)
	if err == nil && whole.size != size {
		err = gantry.Errorf(gantry.Transient, CodeSizeMismatch, "read object: it is not as long as it is said to be")
	}
	return whole.sum, err
}

func (s *source) copyAs(ctx context.Context, at located, head *sdk.HeadObjectOutput, key string) error {
	from := s.bucket + "/" + strings.NewReplacer("+", "%20", "%2F", "/").Replace(url.QueryEscape(at.Key))
	if at.Version != "" {
		from += "?versionId=" + url.QueryEscape(at.Version)
	}
	in := &sdk.CopyObjectInput{Bucket: &s.bucket, Key: &key, CopySource: &from, CopySourceIfMatch: &at.ETag, IfNoneMatch: aws.String("*"),
		StorageClass: types.StorageClass(head.StorageClass), ServerSideEncryption: head.ServerSideEncryption, SSEKMSKeyId: head.SSEKMSKeyId, BucketKeyEnabled: head.BucketKeyEnabled}
	out, err := s.client.CopyObject(ctx, in)
	if status(err) == http.StatusNotImplemented {
		in.IfNoneMatch = nil
		out, err = s.client.CopyObject(ctx, in)
	}
	if status(err) == http.StatusPreconditionFailed && in.IfNoneMatch != nil {
		if _, gone := s.present(ctx, &at); gone != nil {
			return gone
		}
		return gantry.Errorf(gantry.Transient, CodeServerError, "copy object: another was put where it goes")
	}
	if err != nil {
		return tidied(ctx, "copy object", err)
	}
	there, err := s.client.HeadObject(ctx, &sdk.HeadObjectInput{Bucket: &s.bucket, Key: &key})
	if err != nil {
		return classify(ctx, "look at the copy", err)
	}
	etag := aws.ToString(there.ETag)
	if out.CopyObjectResult != nil {
		etag = cmp.Or(aws.ToString(out.CopyObjectResult.ETag), etag)
	}
	if aws.ToInt64(there.ContentLength) != aws.ToInt64(head.ContentLength) || aws.ToString(there.ETag) != etag {
		return gantry.Errorf(gantry.Transient, CodeChecksumMismatch, "look at the copy: it is not what was copied")
	}
	return nil
}
