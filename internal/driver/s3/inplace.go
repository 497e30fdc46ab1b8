package s3

import (
	"context"
	"encoding/json"
	"io"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// What a source's copy may be.
const (
	copyAuto   = "auto"
	copyAlways = "always"
	copyNever  = "never"
)

// keeping says what is known of the bucket's versions.
type keeping uint8

const (
	notAsked  keeping = iota
	keepsNone         // or does not let us read them
	keepsAll
	canRead // it keeps them, and one was seen that we may read
)

// noVersion is the id of an object that was put while the bucket kept no versions. It can be replaced.
const noVersion = "null"

// located is where an object is: what Locate gives, as JSON.
type located struct {
	Key     string `json:"key"`
	ETag    string `json:"etag"`
	Version string `json:"version,omitempty"`
}

// Locate gives the object's key, ETag and version. With copy: auto only an object whose version the
// bucket keeps has a place, with copy: never each one that has an ETag. Whether versions are kept, and
// may be read, is asked once; a refusal means no. Then it is one request an object.
func (s *source) Locate(ctx context.Context, o gantry.Object) (string, error) {
	at := located{Key: o.Ref, ETag: `"` + o.Version + `"`}
	if s.copy == copyAlways || o.Version == "" || o.Size == 0 || !utf8.ValidString(o.Ref) {
		return "", nil
	}
	if s.copy == copyAuto {
		keeps, err := s.versions(ctx)
		if err == nil && keeps > keepsNone {
			at.Version, err = s.versionOf(ctx, at, keeps)
		}
		if err != nil || at.Version == "" {
			return "", err
		}
	}
	b, err := json.Marshal(at)
	return string(b), err
}

// versions says what is known of the bucket's versions, and asks if nothing is.
func (s *source) versions(ctx context.Context) (keeping, error) {
	s.asking.Lock()
	defer s.asking.Unlock()
	if s.keeps != notAsked {
		return s.keeps, nil
	}
	out, err := s.client.GetBucketVersioning(ctx, &sdk.GetBucketVersioningInput{Bucket: &s.bucket})
	if err != nil {
		err = classify(ctx, "ask for the bucket's versions", err)
		if !settled(err) || gantry.CodeOf(err) == CodeBucketMissing {
			return notAsked, err
		}
	}
	s.keeps = keepsNone
	if err == nil && out.Status == types.BucketVersioningStatusEnabled {
		s.keeps = keepsAll
	}
	return s.keeps, nil
}

func (s *source) learnt(k keeping) {
	s.asking.Lock()
	defer s.asking.Unlock()
	s.keeps = k
}

// settled tells an error that asking again does not change: the server does not let us, or does not know how.
func settled(err error) bool {
	k := gantry.KindOf(err)
	return err != nil && (!k.Retryable() || k == gantry.BadResponse)
}

// versionOf gives the id of the version that is an object; empty if it has none, or none that can be read.
// What is wrong with the object itself, its copying then tells.
func (s *source) versionOf(ctx context.Context, at located, keeps keeping) (string, error) {
	id, err := s.head(ctx, at)
	if settled(err) || id == noVersion {
		return "", nil
	}
	if err != nil || id == "" || keeps == canRead {
		return id, err
	}
	at.Version = id
	_, err = s.head(ctx, at)
	switch {
	case gantry.CodeOf(err) == gantry.CodeSourceGone: // it may just have been deleted
		return "", nil
	case settled(err):
		s.learnt(keepsNone)
		return "", nil
	case err == nil:
		s.learnt(canRead)
	}
	return id, err
}

// head gives an object's version.
func (s *source) head(ctx context.Context, at located) (string, error) {
	out, err := s.headOf(ctx, at)
	if err != nil {
		return "", err
	}
	return aws.ToString(out.VersionId), nil
}

// headOf asks for an object without its bytes.
func (s *source) headOf(ctx context.Context, at located) (*sdk.HeadObjectOutput, error) {
	in := &sdk.HeadObjectInput{Bucket: &s.bucket, Key: &at.Key, IfMatch: &at.ETag}
	if at.Version != "" {
		in.VersionId = &at.Version
	}
	out, err := s.client.HeadObject(ctx, in)
	if err != nil {
		return nil, classify(ctx, "look at object", err)
	}
	return out, nil
}

// OpenRange reads a part of the object that was located, bound to its ETag and version. One that is gone,
// or that another took the place of, is NotFound with code source_gone. Where the connection breaks, the
// reading goes on as that of Open does.
func (s *source) OpenRange(ctx context.Context, place string, from, n int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var at located
	if err := json.Unmarshal([]byte(place), &at); err != nil || at.Key == "" || len(at.Key) > maxKey || at.ETag == "" || from < 0 || n < 1 {
		return nil, gantry.Errorf(gantry.Illegal, CodeBadPath, "open object: its place can be none")
	}
	o := &object{source: s, ctx: ctx, ref: at.Key, etag: at.ETag, version: at.Version, ranged: true, at: from, size: from + n}
	if err := o.open(); err != nil {
		return nil, err
	}
	return o, nil
}
