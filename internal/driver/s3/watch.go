package s3

import (
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	announcers  = 8               // announcements at once
	listTimeout = time.Minute     // of one page
	maxBackoff  = time.Minute     // between two listings while they fail
	maxPostpone = 5 * time.Minute // between two announcements of one object
	maxLater    = 10_000          // objects of which it is known when to announce them again
	maxPages    = 1 << 20         // of one listing
	idBytes     = sha256.Size / 2 // of what is remembered of an announced object
)

// watchListing lists the bucket again and again and announces each object whose ETag, size or time it has not
// announced before. A bucket of many pages is listed whole only at every sweep; in between, from the
// last key on up to which nothing is open, since many writers name their objects in order. An
// announcement that failed is made again at a listing 1 s later or more, up to 5 minutes. Of each
// object it announced it remembers 16 bytes. A bucket that cannot be listed at the start is an error; later that is waited
// for. It returns nil when ctx ends.
func (s *source) watchListing(ctx context.Context, announce func(context.Context, gantry.Object) error) error {
	w := newWatcher(s, announce)
	var pause time.Duration
	for first := true; ; first = false {
		err := w.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && first {
			return err
		}
		wait := s.poll
		switch {
		case err != nil:
			pause = min(max(2*pause, s.pause), maxBackoff)
			wait = max(pause, gantry.RetryAfterOf(err))
		case w.soon > 0:
			pause, wait = 0, min(wait, w.soon)
		default:
			pause = 0
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// objectID stands for one state of one object.
type objectID [idBytes]byte

// watcher is one Watch.
type watcher struct {
	*source
	announce func(context.Context, gantry.Object) error

	known  map[objectID]struct{} // announced
	found  map[objectID]struct{} // of those, what the whole listing under way saw
	later  map[objectID]postponed
	swept  time.Time     // beginning of the last whole listing
	pages  int           // of it
	cursor string        // up to here nothing is open
	open   bool          // something after cursor is
	soon   time.Duration // until the first object has settled; 0: none waits
}

// postponed says when an object whose announcement failed is announced again.
type postponed struct {
	until time.Time
	pause time.Duration
}

func newWatcher(s *source, announce func(context.Context, gantry.Object) error) *watcher {
	return &watcher{source: s, announce: announce, known: map[objectID]struct{}{}, later: map[objectID]postponed{}}
}

// look lists once, whole or from the cursor on.
func (w *watcher) look(ctx context.Context) error {
	began := w.now()
	whole := w.pages <= w.few || began.Sub(w.swept) >= w.sweep
	w.open, w.soon, w.found = false, 0, nil
	if whole {
		w.cursor, w.found = "", map[objectID]struct{}{}
	}
	in := &sdk.ListObjectsV2Input{Bucket: &w.bucket, EncodingType: types.EncodingTypeUrl, MaxKeys: &w.page}
	if w.prefix != "" {
		in.Prefix = &w.prefix
	}
	if w.cursor != "" {
		in.StartAfter = &w.cursor
	}
	for pages := 1; ; pages++ {
		out, err := w.list(ctx, in)
		if err != nil {
			return err
		}
		if err := w.take(ctx, out); err != nil {
			return err
		}
		if !aws.ToBool(out.IsTruncated) {
			if whole {
				w.swept, w.pages, w.known = began, pages, w.found
				maps.DeleteFunc(w.later, func(_ objectID, p postponed) bool { return began.Sub(p.until) > maxPostpone }) // gone
			}
			return nil
		}
		if token := aws.ToString(out.NextContinuationToken); token == "" || token == aws.ToString(in.ContinuationToken) || pages == maxPages {
			return gantry.Errorf(gantry.BadResponse, CodeMalformedAnswer, "list bucket: the listing has no end")
		}
		in.StartAfter, in.ContinuationToken = nil, out.NextContinuationToken
	}
}

// list asks for one page.
func (w *watcher) list(ctx context.Context, in *sdk.ListObjectsV2Input) (*sdk.ListObjectsV2Output, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	out, err := w.client.ListObjectsV2(ctx, in)
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

// take announces what is new on a page, several at once, and waits for that.
func (w *watcher) take(ctx context.Context, page *sdk.ListObjectsV2Output) error {
	now, ok := awsmiddleware.GetServerTime(page.ResultMetadata)
	if !ok {
		now = w.now()
	}
	var fresh []gantry.Object
	var last []string // the key before each of fresh
	before := w.cursor
	for i := range page.Contents {
		o, err := toObject(&page.Contents[i], page.EncodingType)
		if err != nil {
			return err
		}
		switch {
		case !w.wanted(&page.Contents[i], o.Ref):
		case w.knows(o):
		case w.unsettled(&page.Contents[i], now), w.waits(o):
			w.stop(before)
		default:
			fresh, last = append(fresh, o), append(last, before)
		}
		before = o.Ref
	}
	failed := w.announceAll(ctx, fresh)
	if failed >= 0 {
		w.stop(last[failed])
	}
	if !w.open {
		w.cursor = before
	}
	return ctx.Err()
}

// stop leaves the cursor at key, since something after it is open.
func (w *watcher) stop(key string) {
	if !w.open || key < w.cursor {
		w.open, w.cursor = true, key
	}
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
	if key == "" || len(key) > maxKey || size < 0 || len(etag) > maxKey {
		return gantry.Object{}, gantry.Errorf(gantry.BadResponse, CodeMalformedAnswer, "list bucket: an entry makes no sense")
	}
	return gantry.Object{
		Ref: key, Name: strings.ToValidUTF8(path.Base(key), "\uFFFD"), Version: strings.Trim(etag, `"`), Size: size,
		Sequencer: sequencerOf(strings.Trim(etag, `"`), size, aws.ToTime(x.LastModified)),
	}, nil
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

// unsettled tells whether an object is too young by the server's own clock.
func (w *watcher) unsettled(x *types.Object, now time.Time) bool {
	left := w.unsettledFor(aws.ToTime(x.LastModified), now)
	if left == 0 {
		return false
	}
	if w.soon == 0 || left < w.soon {
		w.soon = left
	}
	return true
}

func idOf(o gantry.Object) objectID {
	sum := sha256.Sum256([]byte(o.Ref + "\x00" + o.Sequencer))
	return objectID(sum[:idBytes])
}

// knows tells whether an object was announced as it is.
func (w *watcher) knows(o gantry.Object) bool {
	id := idOf(o)
	_, known := w.known[id]
	if known && w.found != nil {
		w.found[id] = struct{}{}
	}
	return known
}

// announceAll announces objects and remembers those that were taken. It gives the index of the first
// that was not; -1 if all were.
func (w *watcher) announceAll(ctx context.Context, list []gantry.Object) int {
	errs := make([]error, len(list))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(announcers, len(list)) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(list); i = int(next.Add(1)) - 1 {
				if errs[i] = ctx.Err(); errs[i] == nil {
					errs[i] = w.announceOne(ctx, list[i])
				}
			}
		})
	}
	wg.Wait()
	for i, o := range list {
		if errs[i] != nil {
			w.postpone(o, errs[i])
			continue
		}
		delete(w.later, idOf(o))
		w.known[idOf(o)] = struct{}{}
		w.knows(o)
	}
	return slices.IndexFunc(errs, func(err error) bool { return err != nil })
}

// postpone puts an object off after a failure. Where there are too many of them, it comes again with
// the next listing.
func (w *watcher) postpone(o gantry.Object, err error) {
	id := idOf(o)
	was, known := w.later[id]
	if !known && len(w.later) >= maxLater {
		return
	}
	pause := min(max(2*was.pause, w.pause), maxPostpone)
	w.later[id] = postponed{w.now().Add(max(pause, gantry.RetryAfterOf(err))), pause}
}

// waits tells whether an object is put off.
func (w *watcher) waits(o gantry.Object) bool { return w.now().Before(w.later[idOf(o)].until) }

func (w *watcher) announceOne(ctx context.Context, o gantry.Object) error {
	return w.tell(ctx, o, w.announce)
}
