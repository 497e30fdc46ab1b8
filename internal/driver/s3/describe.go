package s3

import (
	"context"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// CodeTagsDenied is Permanent: the credentials read objects but not their tags (s3:GetObjectTagging).
const CodeTagsDenied gantry.Code = "tags_denied"

// Describes says that objects have a content type, metadata and tags.
func (c SourceConfig) Describes() gantry.Facts { return gantry.FactHead | gantry.FactTags }

// Describe asks for an object's header with HeadObject, bound to its ETag, and for its tags with
// GetObjectTagging; what was not wanted is not asked for. Servers that know no tags, and credentials that may not
// read them, are Permanent errors. S3 has no condition on what GetObjectTagging reads: tags are those of the
// object that is there now.
func (s *source) Describe(ctx context.Context, o gantry.Object, f gantry.Facts) (d gantry.Description, err error) {
	if o.Ref == "" || len(o.Ref) > maxKey || !utf8.ValidString(o.Ref) {
		return d, gantry.Errorf(gantry.Illegal, CodeBadPath, "look at object: its ref can be no key")
	}
	if f.Has(gantry.FactHead) {
		if err := s.headers(ctx, o, &d); err != nil {
			return d, err
		}
	}
	if f.Has(gantry.FactTags) {
		d.Tags, err = s.tags(ctx, o.Ref)
	}
	return d, err
}

// headers asks for what was put beside an object.
func (s *source) headers(ctx context.Context, o gantry.Object, d *gantry.Description) error {
	in := &sdk.HeadObjectInput{Bucket: &s.bucket, Key: &o.Ref}
	if o.Version != "" {
		in.IfMatch = aws.String(`"` + o.Version + `"`)
	}
	out, err := s.client.HeadObject(ctx, in)
	if err != nil {
		return classify(ctx, "look at object", err)
	}
	if o.Version != "" && out.ETag != nil && strings.Trim(*out.ETag, `"`) != o.Version { // a server may not know If-Match
		return gantry.Errorf(gantry.NotFound, gantry.CodeSourceGone, "look at object: another took its place")
	}
	d.ContentType, d.Metadata = aws.ToString(out.ContentType), make(map[string]string, len(out.Metadata))
	for name, value := range out.Metadata {
		d.Metadata[strings.ToLower(name)] = value
	}
	return nil
}

// tags asks for an object's tags.
func (s *source) tags(ctx context.Context, key string) (map[string]string, error) {
	out, err := s.client.GetObjectTagging(ctx, &sdk.GetObjectTaggingInput{Bucket: &s.bucket, Key: &key})
	if err != nil {
		code := status(err)
		err = classify(ctx, "read the object's tags", err)
		if code == http.StatusForbidden && gantry.CodeOf(err) == CodeAccessDenied { // not expired, nor a wrong clock
			return nil, gantry.Errorf(gantry.Permanent, CodeTagsDenied, "read the object's tags: the credentials may not")
		}
		return nil, err
	}
	tags := make(map[string]string, len(out.TagSet))
	for _, t := range out.TagSet {
		tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return tags, nil
}

// Peek reads a part of an announced object, bound to its ETag.
func (s *source) Peek(ctx context.Context, o gantry.Object, from, n int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if o.Ref == "" || len(o.Ref) > maxKey || from < 0 || n < 1 || from+n > o.Size {
		return nil, gantry.Errorf(gantry.Illegal, CodeBadPath, "open object: it has no such part")
	}
	x := &object{source: s, ctx: ctx, ref: o.Ref, ranged: true, at: from, size: from + n}
	if o.Version != "" {
		x.etag = `"` + o.Version + `"`
	}
	if err := x.open(); err != nil {
		return nil, err
	}
	return x, nil
}
