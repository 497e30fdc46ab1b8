package s3

import (
	"context"
	"errors"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	maxLayers = 100             // pages of versions that are looked through for one
	maxTurn   = 5 * time.Second // that a deletion waits for its turn
)

// delete deletes a version, of which former is told what lies under it, or the object as long as it has its ETag: where versions are
// kept that lays a marker over them all.
func (s *source) delete(ctx context.Context, at located, former func(context.Context, gantry.Object) error) error {
	in := &sdk.DeleteObjectInput{Bucket: &s.bucket, Key: &at.Key}
	if at.named() {
		done, err := s.turnOf(ctx, at.Key)
		if err != nil {
			return err
		}
		defer done()
		in.VersionId = &at.Version
		o, err := s.under(ctx, at)
		if err == nil && o != nil {
			err = former(ctx, *o)
		}
		if err != nil {
			return err
		}
	} else {
		in.IfMatch = &at.ETag
	}
	_, err := s.client.DeleteObject(ctx, in)
	if in.IfMatch != nil && status(err) == http.StatusNotImplemented { // it was looked at just now
		in.IfMatch = nil
		_, err = s.client.DeleteObject(ctx, in)
	}
	return tidied(ctx, "delete object", err)
}

// turnOf waits a while for the turn of a key: one version of it goes at a time, since not all servers know two, and none while an object of it is
// taken. Who takes that may wait for the very place among the calls to the server that a deletion has: it is not waited for to its end.
func (s *source) turnOf(ctx context.Context, key string) (done func(), err error) {
	short, cancel := context.WithTimeout(ctx, s.turn)
	defer cancel()
	_, done, err = s.await(short, key, math.MaxInt)
	if err != nil && ctx.Err() == nil {
		return nil, again(CodeBusy, time.Second, "delete object: one of its key is being taken")
	}
	return done, err
}

// named tells whether a version has an id that is its alone.
func (at located) named() bool { return at.Version != "" && at.Version != noVersion }

// Layer gives the id of an object's version, which HEAD tells, and the server's time.
func (s *source) Layer(ctx context.Context, o gantry.Object) (version string, now time.Time, err error) {
	if o.Version == "" {
		return "", now, nil
	}
	out, err := s.headOf(ctx, located{Key: o.Ref, ETag: `"` + o.Version + `"`})
	if err != nil {
		return "", now, err
	}
	return aws.ToString(out.VersionId), s.serverTime(out.ResultMetadata), nil
}

// serverTime is when a server gave an answer, by its own clock.
func (s *source) serverTime(m middleware.Metadata) time.Time {
	if now, ok := awsmiddleware.GetServerTime(m); ok {
		return now
	}
	return s.now()
}

// layer is a version of an object, or a marker.
type layer struct {
	types.Object
	id             string
	latest, marker bool
}

func (x layer) is(at located) bool { return x.id == at.Version && *x.Key == at.Key }

// under gives the version under another, as a listing shows it once what is over it is gone; nil if there is none, a marker is
// there, or it has the same bytes and so is the same arrival. Whether something newer lies over both makes no difference: that may go at this
// moment. One of this very second is Unavailable: the same bytes put again within it would be taken for it.
func (s *source) under(ctx context.Context, at located) (*gantry.Object, error) {
	if !at.named() {
		return nil, nil
	}
	two, out, err := s.layers(ctx, &sdk.ListObjectVersionsInput{Bucket: &s.bucket, Prefix: &at.Key, MaxKeys: aws.Int32(2), EncodingType: types.EncodingTypeUrl})
	if err != nil {
		return nil, err
	}
	var x *layer
	i := slices.IndexFunc(two, func(x layer) bool { return x.latest && x.is(at) })
	switch {
	case i < 0 || len(two) < 2 && aws.ToBool(out.IsTruncated):
		if x, err = s.further(ctx, at); err != nil {
			return nil, err
		}
	case len(two) == 2:
		x = &two[1-i]
	}
	if x == nil || *x.Key != at.Key || x.marker {
		return nil, nil
	}
	if x.latest || x.is(at) || x.LastModified == nil {
		return nil, malformedVersions()
	}
	o, err := toObject(&x.Object, "")
	if err != nil || `"`+o.Version+`"` == at.ETag {
		return nil, err
	}
	if o.Version = x.id; x.id == noVersion || x.id == "" { // which another may be, too
		o.Version = o.Sequencer
	}
	if !s.serverTime(out.ResultMetadata).Truncate(time.Second).After(o.At) {
		return nil, again(CodeUnsettled, time.Second, "delete object: the one under it is of this second")
	}
	return &o, nil
}

// further gives the version after one that is not the present one, markers left out; nil if there is none. It lists from the top on: not all
// servers know a version to begin after, and what they answer then is no proof that nothing follows.
func (s *source) further(ctx context.Context, at located) (*layer, error) {
	in := &sdk.ListObjectVersionsInput{Bucket: &s.bucket, Prefix: &at.Key, MaxKeys: &s.page, EncodingType: types.EncodingTypeUrl}
	found := false
	for range maxLayers {
		list, out, err := s.layers(ctx, in)
		if err != nil {
			return nil, err
		}
		for i := range list {
			switch x := &list[i]; {
			case x.marker:
			case found:
				return x, nil
			default:
				found = x.is(at)
			}
		}
		if !aws.ToBool(out.IsTruncated) {
			if !found {
				return nil, gantry.Errorf(gantry.Transient, CodeServerError, "list versions: the object's is not among them")
			}
			return nil, nil
		}
		key, err := plainKey(out.NextKeyMarker, out.EncodingType)
		version := aws.ToString(out.NextVersionIdMarker)
		if err != nil || key == "" || key == aws.ToString(in.KeyMarker) && version == aws.ToString(in.VersionIdMarker) {
			return nil, malformedVersions()
		}
		in.KeyMarker, in.VersionIdMarker = &key, &version
	}
	return nil, malformedVersions()
}

// layers lists versions and markers below a key: of it, and of those that begin with it.
func (s *source) layers(ctx context.Context, in *sdk.ListObjectVersionsInput) (list []layer, out *sdk.ListObjectVersionsOutput, err error) {
	if out, err = s.listVersions(ctx, in); err != nil {
		return nil, nil, err
	}
	for _, x := range out.Versions {
		list = append(list, layer{types.Object{Key: x.Key, ETag: x.ETag, Size: x.Size, LastModified: x.LastModified}, aws.ToString(x.VersionId), aws.ToBool(x.IsLatest), false})
	}
	for _, x := range out.DeleteMarkers {
		list = append(list, layer{types.Object{Key: x.Key}, aws.ToString(x.VersionId), aws.ToBool(x.IsLatest), true})
	}
	if len(list) > int(*in.MaxKeys) {
		return nil, nil, malformedVersions()
	}
	for i := range list {
		key, err := plainKey(list[i].Key, out.EncodingType)
		if list[i].Key = &key; err != nil || !strings.HasPrefix(key, *in.Prefix) {
			return nil, nil, malformedVersions()
		}
	}
	return list, out, nil
}

// listVersions asks for versions.
func (s *source) listVersions(ctx context.Context, in *sdk.ListObjectVersionsInput) (*sdk.ListObjectVersionsOutput, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	out, err := s.client.ListObjectVersions(ctx, in)
	if err == nil && out.Name == nil { // the SDK takes an answer that is none for an empty one
		return nil, malformedVersions()
	}
	if err == nil {
		return out, nil
	}
	err = classify(ctx, "list versions", err)
	if errors.Is(err, context.DeadlineExceeded) {
		err = gantry.Errorf(gantry.Timeout, "", "list versions: no answer within %s", listTimeout)
	}
	return nil, err
}

func plainKey(key *string, encoding types.EncodingType) (string, error) {
	if encoding == types.EncodingTypeUrl {
		return url.QueryUnescape(aws.ToString(key))
	}
	return aws.ToString(key), nil
}

func malformedVersions() error {
	return gantry.Errorf(gantry.BadResponse, CodeMalformedAnswer, "list versions: the answer makes no sense")
}
