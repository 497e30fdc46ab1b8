package s3

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// SourceConfig is what a pipeline file says about a source of kind s3.
type SourceConfig struct {
	Bucket    string        `yaml:"bucket" required:"true" doc:"The bucket to take objects from."`
	Prefix    string        `yaml:"prefix" doc:"Only keys that begin so: drop/."`
	Exclude   []string      `yaml:"exclude" doc:"Beginnings of keys that are left out, such as those of results in the same bucket."`
	Pattern   string        `yaml:"pattern" default:"*" doc:"Which names are taken, of the part of a key after its last slash, as in a shell: *.dcm."`
	Poll      time.Duration `yaml:"poll" default:"10s" doc:"How often the bucket is listed."`
	Sweep     time.Duration `yaml:"sweep" default:"15m" doc:"How often a bucket of more than 10000 objects is listed whole; in between, only keys after the last one known."`
	Settle    time.Duration `yaml:"settle" default:"0s" doc:"How old an object must be. S3 itself never shows half an object; some gateways do."`
	Endpoint  string        `yaml:"endpoint" doc:"The server, if it is not AWS: http://127.0.0.1:9000."`
	Region    string        `yaml:"region" default:"us-east-1" doc:"The region of the bucket."`
	Copy      string        `yaml:"copy" default:"auto" one:"auto always never" doc:"Whether objects are copied before their tasks begin: auto, unless the bucket keeps their versions; never, they are read in the bucket and must stay as they are until their tasks have ended."`
	PathStyle bool          `yaml:"path_style" doc:"Whether the bucket stands in the path and not in the host name, as most servers that are not AWS want it."`

	Discover      []string         `yaml:"discover" default:"poll" one:"poll webhook sqs" single:"true" doc:"How objects are found, in any combination: poll, the bucket is listed; webhook, its server sends notifications to /hooks/s3/PIPELINE.SOURCE; sqs, they are taken from a queue."`
	QueueURL      string           `yaml:"queue_url" filled:"true" doc:"Of sqs, the URL of the queue."`
	QueueEndpoint string           `yaml:"queue_endpoint" doc:"Of sqs, the server, if it is not that of queue_url."`
	Token         gantry.SecretRef `yaml:"token" doc:"Of webhook, a reference to what the sender has to know: Authorization: Bearer TOKEN."`

	After       string `yaml:"after" default:"keep" one:"keep tag move delete" doc:"What becomes of an object once all its tasks are done: keep; tag, it gets gantry=done; move, it goes to move_to; delete."`
	AfterFailed string `yaml:"after_failed" default:"keep" one:"keep tag move" doc:"What becomes of it if one of them failed: keep; tag, it gets gantry=failed; move, it goes to failed_to."`
	MoveTo      string `yaml:"move_to" doc:"What keys begin with in place of prefix after a move, in the same bucket: done/."`
	FailedTo    string `yaml:"failed_to" doc:"The same for after_failed."`
}

const (
	defaultPoll  = 10 * time.Second
	defaultSweep = 15 * time.Minute
	maxWait      = 24 * time.Hour
)

func (c SourceConfig) place() place { return place{c.Bucket, c.Endpoint, c.Region, c.PathStyle} }

// Place names the bucket on its server, however it is addressed there.
func (c SourceConfig) Place() string { return c.place().String() }

// Target is the server with the bucket.
func (c SourceConfig) Target() gantry.Target { return c.place().target() }

// Check lists what is wrong with the config. Whether the bucket is there is seen when it is listed.
func (c SourceConfig) Check() []gantry.FieldProblem {
	found := append(c.place().check(), checkPrefix("prefix", c.Prefix)...)
	for _, x := range c.Exclude {
		if x == "" {
			found = append(found, gantry.FieldProblem{Key: "exclude", Text: "leaves everything out"})
		}
		found = append(found, checkPrefix("exclude", x)...)
	}
	if _, err := path.Match(c.Pattern, ""); err != nil || strings.Contains(c.Pattern, "/") {
		found = append(found, gantry.FieldProblem{Key: "pattern", Text: "is no pattern of names without a slash"})
	}
	if c.Copy != "" && !slices.Contains([]string{copyAuto, copyAlways, copyNever}, c.Copy) {
		found = append(found, gantry.FieldProblem{Key: "copy", Text: "is neither auto, always nor never"})
	}
	for _, d := range []struct {
		key string
		is  time.Duration
	}{{"poll", c.Poll}, {"sweep", c.Sweep}, {"settle", c.Settle}} {
		if d.is < 0 || d.is > maxWait {
			found = append(found, gantry.FieldProblem{Key: d.key, Text: fmt.Sprintf("is not from 0 to %s", maxWait)})
		}
	}
	return append(append(found, c.checkDiscover()...), c.checkAfter()...)
}

// Takes are the keys that are announced.
func (c SourceConfig) Takes() gantry.Keys {
	return gantry.Keys{Place: c.Place(), Prefix: c.Prefix, Except: c.Exclude, Patterns: []string{cmp.Or(c.Pattern, "*")}}
}

// Moves are move_to and failed_to.
func (c SourceConfig) Moves() []string {
	return slices.DeleteFunc([]string{c.MoveTo, c.FailedTo}, func(to string) bool { return to == "" })
}

// source is a bucket. Its numbers are fields for the tests.
type source struct {
	client  *client
	bucket  string
	prefix  string
	exclude []string
	pattern string
	poll    time.Duration
	sweep   time.Duration
	settle  time.Duration
	pause   time.Duration // after the first listing that failed; doubles up to a minute
	page    int32         // keys of one listing request
	turn    time.Duration // that a deletion waits for
	few     int           // pages up to which a bucket is always listed whole
	copy    string
	now     func() time.Time

	mu    sync.Mutex
	etags map[string]string // of the objects being announced, by ref

	asking sync.Mutex
	keeps  keeping // guarded by asking

	*hearing

	after map[gantry.State]after
}

// NewSource makes a source of a bucket. It makes no calls: whether the bucket is there shows when it
// is watched.
func NewSource(_ context.Context, c SourceConfig, egress gantry.Egress) (gantry.Source, error) {
	for _, p := range c.Check() {
		return nil, gantry.Errorf(gantry.Illegal, "bad_config", "open source: %s: %s", p.Key, p.Text)
	}
	heard, err := newHearing(c, egress)
	if err != nil {
		return nil, err
	}
	return &source{
		client: newClient(c.place(), egress), bucket: c.Bucket, prefix: c.Prefix, exclude: c.Exclude, pattern: cmp.Or(c.Pattern, "*"),
		poll: cmp.Or(c.Poll, defaultPoll), sweep: cmp.Or(c.Sweep, defaultSweep), settle: c.Settle,
		pause: time.Second, page: 1000, turn: maxTurn, few: 10, copy: cmp.Or(c.Copy, copyAuto), now: time.Now, etags: map[string]string{}, hearing: heard,
		after: c.afters(),
	}, nil
}

func (s *source) expect(ref, etag string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.etags[ref] = etag
}

func (s *source) forget(ref string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.etags, ref)
}

func (s *source) expected(ref string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.etags[ref]
}

// Open reads the object that was announced as ref, its key. While it is being announced it has to be
// the one that was listed, by its ETag: one that is gone, or that another took the place of, is
// NotFound with code source_gone. Where the connection breaks, the reading goes on from there, still
// bound to the ETag, a few times at most.
func (s *source) Open(ctx context.Context, ref string) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if ref == "" || len(ref) > maxKey {
		return nil, gantry.Errorf(gantry.Illegal, CodeBadPath, "open object: its ref can be no key")
	}
	o := &object{source: s, ctx: ctx, ref: ref, etag: s.expected(ref), size: -1}
	if err := o.open(); err != nil {
		return nil, err
	}
	return o, nil
}
