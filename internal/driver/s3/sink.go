package s3

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// SinkConfig is what a pipeline file says about a sink of kind s3.
type SinkConfig struct {
	Bucket    string `yaml:"bucket" required:"true" doc:"The bucket for the results. It must be there."`
	Prefix    string `yaml:"prefix" doc:"What all keys begin with: out/."`
	Endpoint  string `yaml:"endpoint" doc:"The server, if it is not AWS: http://127.0.0.1:9000."`
	Region    string `yaml:"region" default:"us-east-1" doc:"The region of the bucket."`
	PathStyle bool   `yaml:"path_style" doc:"Whether the bucket stands in the path and not in the host name, as most servers that are not AWS want it."`
	Checksums string `yaml:"checksums" default:"sha256" one:"sha256 none" doc:"Whether the server keeps and checks a SHA-256 of each object; none for servers that know no checksums."`

	Key          string            `yaml:"key" default:"{task}/{path}" doc:"What follows prefix in all keys, with {pipeline}, {source}, {task}, {date}, {year}, {month}, {day}, {leg}, {delivery}; it ends in /{path}."`
	Metadata     map[string]string `yaml:"metadata" doc:"Metadata of each object, whose values may have the variables of key and {stage}, {processor}, {call}, {sha256}."`
	Tags         map[string]string `yaml:"tags" doc:"Tags of each object, with the same variables."`
	StorageClass string            `yaml:"storage_class" doc:"The class that objects are stored in, such as STANDARD_IA; empty: the bucket's own."`
	ACL          string            `yaml:"acl" one:"private bucket-owner-full-control" doc:"The access control list of each object, for buckets that have them."`
	Encryption   Encryption        `yaml:"encryption" doc:"How the server encrypts."`
	Conditional  string            `yaml:"conditional" default:"auto" one:"auto off" doc:"Whether puts are refused by the server where a key is taken: auto, what it does is found out; off, it is never relied upon."`
}

func (c SinkConfig) place() place { return place{c.Bucket, c.Endpoint, c.Region, c.PathStyle} }

// Target is the server with the bucket.
func (c SinkConfig) Target() gantry.Target { return c.place().target() }

// Check lists what is wrong with the config.
func (c SinkConfig) Check() []gantry.FieldProblem {
	found := append(c.place().check(), checkPrefix("prefix", c.Prefix)...)
	if c.Prefix != "" && !fs.ValidPath(strings.TrimSuffix(c.Prefix, "/")) {
		found = append(found, gantry.FieldProblem{Key: "prefix", Text: "is no path of folders"})
	}
	if c.Checksums != "" && c.Checksums != "sha256" && c.Checksums != "none" {
		found = append(found, gantry.FieldProblem{Key: "checksums", Text: "is neither sha256 nor none"})
	}
	if _, err := gantry.ParseKey(c.key()); err != nil {
		found = append(found, gantry.FieldProblem{Key: "key", Text: err.Error()})
	}
	return append(found, c.checkLabels()...)
}

// Lays are the keys that results get.
func (c SinkConfig) Lays() gantry.Keys {
	return gantry.ResultKeys(c.place().String(), c.Prefix, c.key())
}

func (c SinkConfig) key() string { return cmp.Or(c.Key, gantry.DefaultKey) }

const (
	pieceSize = 64 << 20 // bytes of a piece of an upload; what is not larger goes in one
	maxPieces = 10_000
	inMemory  = 64 << 10 // bytes of an output that is read before it is sent
	ownSum    = "gantry-sha256"
)

// sink is a bucket for results. Its size of pieces is a field for the tests.
type sink struct {
	client *client
	bucket string
	prefix string
	sums   bool
	piece  int64
	guard  *string // If-None-Match

	key    gantry.Template // empty: as deliveries say
	labels labels
	server server
}

// NewSink makes a sink of a bucket. It makes no calls.
func NewSink(_ context.Context, c SinkConfig, egress gantry.Egress) (gantry.Sink, error) {
	for _, p := range c.Check() {
		return nil, gantry.Errorf(gantry.Illegal, "bad_config", "open sink: %s: %s", p.Key, p.Text)
	}
	s := &sink{client: newClient(c.place(), egress), bucket: c.Bucket, prefix: c.Prefix, sums: cmp.Or(c.Checksums, "sha256") == "sha256",
		piece: pieceSize, guard: aws.String("*"), labels: newLabels(c)}
	if c.key() != gantry.DefaultKey {
		s.key, _ = gantry.ParseKey(c.Key) // it was checked
	}
	if c.Conditional == "off" {
		s.server.learn(wordRefused)
	}
	return s, nil
}

// Deliver puts one output under its key, whole or not at all, and never in the place of another: the
// server refuses a key that is taken (If-None-Match), and then the same bytes under it are success,
// others Permanent with code conflict. Outputs above 64 MiB go in pieces, which show only together. A
// source of bytes that fails gives its own error; one that gives other bytes than announced is
// Transient, as is a server that got others. Several processes may deliver the same path at once.
func (s *sink) Deliver(ctx context.Context, out gantry.Delivery) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !fs.ValidPath(out.Path) || out.Path == "." {
		return gantry.Errorf(gantry.Illegal, CodeBadPath, "deliver: the path is not below the prefix")
	}
	key, err := s.keyOf(ctx, out)
	if err != nil {
		return err
	}
	if len(key) > maxKey {
		return gantry.Errorf(gantry.Permanent, CodeNameTooLong, "deliver: the key is longer than %d bytes", maxKey)
	}
	if out.Size < 0 || out.SHA.IsZero() || out.Size > s.piece {
		return s.deliverLarge(ctx, key, out)
	}
	return s.deliverWhole(ctx, key, out, piece{out.Size, out.SHA})
}

// keyOf gives the key of a delivery.
func (s *sink) keyOf(ctx context.Context, out gantry.Delivery) (string, error) {
	if s.key.Empty() {
		return s.prefix + out.Path, nil
	}
	path, err := s.key.Fill(ctx, out)
	return s.prefix + path, err
}

// deliverWhole puts an output with one request, and once more if the first was refused for its condition.
func (s *sink) deliverWhole(ctx context.Context, key string, out gantry.Delivery, p piece) error {
	if there, err := s.before(ctx, key, p); there || err != nil {
		return err
	}
	x, err := s.put(ctx, key, out, p)
	if errors.Is(err, errAgain) { // nobody may have looked before: the server's word was to do
		if there, err := s.before(ctx, key, p); there || err != nil {
			return err
		}
		x, err = s.put(ctx, key, out, p)
	}
	if err == nil {
		err = s.after(ctx, key, p)
	}
	if err == nil && x != nil {
		s.server.sample.Store(x)
	}
	return err
}

// put sends one request, and gives what the server can be proved with once that is known to be there.
func (s *sink) put(ctx context.Context, key string, out gantry.Delivery, p piece) (*sample, error) {
	condition := s.condition()
	out.SHA = p.sum
	along, err := s.labels.fill(ctx, out)
	if err != nil {
		return nil, err
	}
	r, err := out.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b := newBody(ctx, r, p, true)
	in := &sdk.PutObjectInput{Bucket: &s.bucket, Key: &key, Body: b, ContentLength: &p.size, ContentType: mediaOf(out), IfNoneMatch: condition,
		ChecksumSHA256: s.checksum(p.sum)}
	along.put(in)
	var small []byte
	if p.size <= inMemory { // and one of no bytes, of which nothing would be read
		if small, err = readSmall(b, p.size); err != nil {
			return nil, err
		}
		in.Body = bytes.NewReader(small)
	}
	err = s.client.put(ctx, in, p.sum)
	if wrong := b.stop(); wrong != nil {
		return nil, wrong
	}
	if s.putAgain(err, condition) {
		return nil, errAgain
	}
	if err == nil {
		return s.sampleOf(in, small, p.sum), nil
	}
	return nil, s.judge(ctx, key, p, err)
}

func mediaOf(out gantry.Delivery) *string {
	return aws.String(cmp.Or(out.Media, "application/octet-stream"))
}

func (s *sink) checksum(sum gantry.Digest) *string {
	if !s.sums {
		return nil
	}
	return aws.String(base64.StdEncoding.EncodeToString(sum[:]))
}

// readSmall reads a body of at most inMemory bytes.
func readSmall(b *body, size int64) ([]byte, error) {
	if size == 0 {
		return nil, b.whole()
	}
	buf := make([]byte, size)
	_, err := io.ReadFull(b, buf)
	return buf, err
}

// judge says what the end of a put means. A key that was taken is looked at; so is one whose answer was
// lost: a server may refuse a body and break the connection before its answer is read, or may have
// kept it.
func (s *sink) judge(ctx context.Context, key string, p piece, err error) error {
	if err == nil {
		return nil
	}
	class, code := plain(ctx, "deliver", err), status(err)
	if code == http.StatusPreconditionFailed {
		s.server.learn(wordKept)
	}
	taken := (code == http.StatusPreconditionFailed || code == http.StatusConflict) && gantry.CodeOf(class) != gantry.CodeConflict
	lost := code == 0 && gantry.KindOf(class) == gantry.Transient && ctx.Err() == nil
	if !taken && !lost {
		return class
	}
	there, cerr := s.compare(ctx, key, p)
	switch {
	case there, gantry.CodeOf(cerr) == gantry.CodeConflict:
		return cerr
	case lost:
		return class
	case cerr != nil:
		return cerr
	}
	return gantry.Errorf(gantry.Transient, CodeServerError, "deliver: the object that was there is gone")
}

// plain classifies an error of a sink's request, or nil. What is not found is the bucket, or an upload.
func plain(ctx context.Context, doing string, err error) error {
	if err == nil {
		return nil
	}
	err = classify(ctx, doing, err)
	if gantry.CodeOf(err) == gantry.CodeSourceGone {
		return gantry.Errorf(gantry.NotFound, CodeBucketMissing, "%s: the server does not know the bucket", doing)
	}
	return err
}

// compare tells whether an object with these bytes is there. With others it is a conflict.
func (s *sink) compare(ctx context.Context, key string, p piece) (bool, error) {
	head, err := s.client.HeadObject(ctx, &sdk.HeadObjectInput{Bucket: &s.bucket, Key: &key, ChecksumMode: types.ChecksumModeEnabled})
	if status(err) == http.StatusNotFound {
		return false, nil
	}
	if err != nil {
		return false, plain(ctx, "look at what is there", err)
	}
	conflict := gantry.Errorf(gantry.Permanent, gantry.CodeConflict, "deliver: something else is there already")
	if aws.ToInt64(head.ContentLength) != p.size {
		return false, conflict
	}
	sum, known := sumOf(head)
	if !known {
		if sum, err = s.read(ctx, key, aws.ToString(head.ETag), p.size); err != nil {
			return false, err
		}
	}
	if sum != p.sum {
		return false, conflict
	}
	return true, nil
}

// sumOf gives the digest that an object says it has: the server's own, or the one that we put there.
func sumOf(head *sdk.HeadObjectOutput) (gantry.Digest, bool) {
	if raw, err := base64.StdEncoding.DecodeString(aws.ToString(head.ChecksumSHA256)); err == nil && len(raw) == len(gantry.Digest{}) &&
		head.ChecksumType != types.ChecksumTypeComposite {
		return gantry.Digest(raw), true
	}
	sum, err := gantry.ParseDigest(head.Metadata[ownSum])
	return sum, err == nil && !sum.IsZero()
}

// read takes the digest of what is there, all of its size.
func (s *sink) read(ctx context.Context, key, etag string, size int64) (gantry.Digest, error) {
	out, err := s.client.get(ctx, &sdk.GetObjectInput{Bucket: &s.bucket, Key: &key, IfMatch: aws.String(etag)})
	if err != nil && gantry.CodeOf(classify(ctx, "read what is there", err)) == gantry.CodeSourceGone {
		return gantry.Digest{}, gantry.Errorf(gantry.Transient, CodeServerError, "read what is there: it is gone, or another took its place")
	}
	if err != nil {
		return gantry.Digest{}, plain(ctx, "read what is there", err)
	}
	defer out.Body.Close()
	whole, _, err := measure(ctx, out.Body, 1<<62)
	switch {
	case err != nil && !errors.Is(err, context.Canceled):
		err = readError(ctx, err)
	case err == nil && whole.size != size: // some servers say that half an object is all of it
		err = gantry.Errorf(gantry.Transient, CodeSizeMismatch, "read what is there: it is not as long as it is said to be")
	}
	return whole.sum, err
}
