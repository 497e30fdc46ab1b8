package s3

import (
	"context"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// delete deletes a version, or the object as long as it has its ETag. Over former versions a marker is laid first: without one the
// last of them would be there again, and be taken, once the present one is gone. With covered the version is still there, under it.
func (s *source) delete(ctx context.Context, at located) (covered bool, err error) {
	if at.Version == "" || at.Version == noVersion {
		_, err := s.deletePresent(ctx, at)
		return false, tidied(ctx, "delete object", err)
	}
	marker, err := s.cover(ctx, at)
	if err != nil {
		return false, err
	}
	if marker == nil {
		return false, s.deleteVersion(ctx, at.Key, at.Version)
	}
	err = severalTimes(ctx, func(ctx context.Context) error { return s.deleteVersion(ctx, at.Key, at.Version) })
	switch kind := gantry.KindOf(err); {
	case err == nil || kind == gantry.NotFound:
		return false, err
	case kind != gantry.Permanent && kind != gantry.Denied: // it may be deleted after all, so that nothing may come to light
		return true, err
	}
	if id := aws.ToString(marker.VersionId); id != "" && aws.ToBool(marker.DeleteMarker) { // what is not let go stays as it was
		severalTimes(ctx, func(ctx context.Context) error { return s.deleteVersion(ctx, at.Key, id) })
	}
	return false, err
}

func (s *source) deleteVersion(ctx context.Context, key, version string) error {
	_, err := s.client.DeleteObject(ctx, &sdk.DeleteObjectInput{Bucket: &s.bucket, Key: &key, VersionId: &version})
	return tidied(ctx, "delete object", err)
}

// deletePresent deletes the object as long as it has its ETag. Where versions are kept, that lays a marker over it.
func (s *source) deletePresent(ctx context.Context, at located) (*sdk.DeleteObjectOutput, error) {
	in := &sdk.DeleteObjectInput{Bucket: &s.bucket, Key: &at.Key, IfMatch: &at.ETag}
	out, err := s.client.DeleteObject(ctx, in)
	if status(err) == http.StatusNotImplemented { // it was looked at just now
		in.IfMatch = nil
		out, err = s.client.DeleteObject(ctx, in)
	}
	return out, err
}

// cover lays a marker over a version if it is the present one and former ones lie below it, and gives the answer; nil if none was laid.
// In a bucket that keeps versions no more a marker would take the place of one, so there is none.
func (s *source) cover(ctx context.Context, at located) (*sdk.DeleteObjectOutput, error) {
	head, err := s.client.HeadObject(ctx, &sdk.HeadObjectInput{Bucket: &s.bucket, Key: &at.Key})
	switch {
	case status(err) == http.StatusNotFound, err == nil && aws.ToString(head.VersionId) != at.Version: // a marker, or another version, lies above it
		return nil, nil
	case err != nil:
		return nil, classify(ctx, "look at object", err)
	}
	if alone, err := s.alone(ctx, at); alone || err != nil {
		return nil, err
	}
	keeps, err := s.client.GetBucketVersioning(ctx, &sdk.GetBucketVersioningInput{Bucket: &s.bucket})
	if err == nil && keeps.Status == types.BucketVersioningStatusSuspended {
		return nil, nil
	}
	if err = tidied(ctx, "ask for the bucket's versions", err); err != nil && !settled(err) {
		return nil, err
	}
	out, err := s.deletePresent(ctx, at)
	if code := status(err); code == http.StatusPreconditionFailed || code == http.StatusNotFound { // as above, by now
		return nil, nil
	}
	if err != nil {
		return nil, tidied(ctx, "cover former versions", err)
	}
	return out, nil
}

// alone tells whether nothing comes to light when the present version is deleted: there is no other, or a marker lies below it. Where
// the server does not tell, it is not.
func (s *source) alone(ctx context.Context, at located) (bool, error) {
	out, err := s.client.ListObjectVersions(ctx, &sdk.ListObjectVersionsInput{Bucket: &s.bucket, Prefix: &at.Key, MaxKeys: aws.Int32(2)})
	if err != nil {
		if err = classify(ctx, "list versions", err); settled(err) {
			err = nil
		}
		return false, err
	}
	listed, others := false, false
	for _, x := range out.Versions {
		if aws.ToString(x.Key) == at.Key {
			is := aws.ToString(x.VersionId) == at.Version
			listed, others = listed || is, others || !is
		}
	}
	told := !aws.ToBool(out.IsTruncated) || len(out.Versions)+len(out.DeleteMarkers) > 1
	return listed && told && !others, nil
}
