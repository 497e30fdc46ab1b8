package s3

import (
	"context"
	"errors"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// listed is one answer to a listing's request.
type listed struct {
	page *sdk.ListObjectsV2Output
	took time.Duration
	err  error
}

// volume is how much a listing was.
type volume struct {
	pages int
	took  time.Duration // of its requests
}

// each lists the keys after one, and gives each page to f while the next one is on its way.
func (s *source) each(ctx context.Context, after string, f func(*sdk.ListObjectsV2Output) error) (v volume, err error) {
	ctx, cancel := context.WithCancel(ctx)
	next := make(chan listed, 1)
	asked := 0
	ask := func(in sdk.ListObjectsV2Input) {
		asked++
		go func() {
			began := time.Now()
			page, err := s.list(ctx, &in)
			next <- listed{page, time.Since(began), err}
		}()
	}
	defer func() {
		cancel()
		if asked > v.pages {
			<-next
		}
	}()
	in := sdk.ListObjectsV2Input{Bucket: &s.bucket, EncodingType: types.EncodingTypeUrl, MaxKeys: &s.page}
	if s.prefix != "" {
		in.Prefix = &s.prefix
	}
	if after != "" {
		in.StartAfter = &after
	}
	for ask(in); ; {
		got := <-next
		v.pages, v.took = v.pages+1, v.took+got.took
		if got.err != nil {
			return v, got.err
		}
		more := aws.ToBool(got.page.IsTruncated)
		if more {
			token := got.page.NextContinuationToken
			if aws.ToString(token) == "" || aws.ToString(token) == aws.ToString(in.ContinuationToken) || v.pages == maxPages {
				return v, gantry.Errorf(gantry.BadResponse, CodeMalformedAnswer, "list bucket: the listing has no end")
			}
			in.StartAfter, in.ContinuationToken = nil, token
			ask(in)
		}
		if err := f(got.page); err != nil || !more {
			return v, err
		}
	}
}

// list asks for one page.
func (s *source) list(ctx context.Context, in *sdk.ListObjectsV2Input) (*sdk.ListObjectsV2Output, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	out, err := s.client.ListObjectsV2(ctx, in)
	if err == nil && out.Name == nil { // the SDK takes an answer that is none for an empty one
		return nil, gantry.Errorf(gantry.BadResponse, CodeMalformedAnswer, "list bucket: the answer is no listing")
	}
	if err == nil {
		return out, nil
	}
	err = classify(ctx, "list bucket", err)
	if errors.Is(err, context.DeadlineExceeded) {
		err = gantry.Errorf(gantry.Timeout, "", "list bucket: no answer within %s", listTimeout)
	}
	return nil, err
}

// toObject makes of an entry of a listing what is announced.
func toObject(x *types.Object, encoding types.EncodingType) (gantry.Object, error) {
	key := aws.ToString(x.Key)
	if encoding == types.EncodingTypeUrl {
		plain, err := url.QueryUnescape(key)
		if err != nil {
			return gantry.Object{}, gantry.Errorf(gantry.BadResponse, CodeMalformedAnswer, "list bucket: a key is not encoded as announced")
		}
		key = plain
	}
	etag, size := aws.ToString(x.ETag), aws.ToInt64(x.Size)
	if len(key) > maxKey { // as some gateways have them
		return gantry.Object{}, gantry.Errorf(gantry.Permanent, CodeNameTooLong, "list bucket: a key is longer than %d bytes", maxKey)
	}
	if key == "" || size < 0 || len(etag) > maxKey {
		return gantry.Object{}, gantry.Errorf(gantry.BadResponse, CodeMalformedAnswer, "list bucket: an entry makes no sense")
	}
	return objectOf(key, strings.Trim(etag, `"`), size, aws.ToTime(x.LastModified)), nil
}

// objectOf makes what is announced of one state of an object. The time counts in whole seconds, as the header
// Last-Modified has it, so that a listing and an answer to HEAD say the same.
func objectOf(key, etag string, size int64, modified time.Time) gantry.Object {
	state := make([]byte, 0, len(etag)+2*21)
	state = strconv.AppendInt(append(append(state, etag...), '-'), size, 10)
	state = strconv.AppendInt(append(state, '-'), modified.Truncate(time.Second).UnixNano(), 10)
	return gantry.Object{Ref: key, Name: strings.ToValidUTF8(path.Base(key), "\uFFFD"), Version: etag, Size: size, At: modified, Sequencer: string(state)}
}

// wanted tells whether an object is one that is taken: no marker of a folder, not kept where it cannot
// be read, and as the config says.
func (s *source) wanted(x *types.Object, key string) bool {
	if strings.HasSuffix(key, "/") || x.StorageClass == types.ObjectStorageClassGlacier || x.StorageClass == types.ObjectStorageClassDeepArchive {
		return false
	}
	if slices.ContainsFunc(s.exclude, func(p string) bool { return strings.HasPrefix(key, p) }) {
		return false
	}
	ok, err := path.Match(s.pattern, path.Base(key))
	return ok && err == nil
}
