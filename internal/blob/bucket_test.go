package blob

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"math"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"

	"github.com/gantry-imaging/gantry/internal/auth"
	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/gate"
)

// pail is a fresh bucket on a real server.
type pail struct {
	Place
	t  testing.TB
	rt http.RoundTripper // through the real way out
}

func newPail(t testing.TB, server *s3test.Server) *pail {
	t.Helper()
	p := &pail{t: t, Place: Place{Bucket: "b-" + strings.ToLower(rand.Text()), Prefix: "one/store", Endpoint: server.Endpoint, PathStyle: true}}
	own := gate.NewOwn(p.Target(), gate.Policy{}, time.Now)
	t.Cleanup(own.Close)
	env := map[string]string{"ID": server.AccessKey, "SECRET": server.SecretKey}
	var err error
	p.rt, err = auth.Wrap(own, &gantry.Credential{Name: "test", Kind: "aws", AccessKeyID: "${env:ID}", SecretAccessKey: "${env:SECRET}"},
		func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.client().CreateBucket(t.Context(), &sdk.CreateBucketInput{Bucket: &p.Bucket}); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *pail) client() *sdk.Client { return newClient(p.Place, p.rt) }

func (p *pail) options() BucketOptions {
	return BucketOptions{Place: p.Place, Worker: 7, Key: testKey, Transport: p.rt, Scratch: p.t.TempDir(), Database: "one"}
}

// open opens the store with quick tries, and small pieces so that uploads in pieces are not large.
func (p *pail) open(change ...func(*BucketOptions)) *Bucket {
	p.t.Helper()
	o := p.options()
	for _, c := range change {
		c(&o)
	}
	b, err := OpenBucket(p.t.Context(), o)
	if err != nil {
		p.t.Fatal(err)
	}
	b.piece, b.pause = 5<<20, time.Millisecond
	p.t.Cleanup(func() { b.Close() })
	return b
}

// keys lists all of the bucket.
func (p *pail) keys() (keys []string) {
	p.t.Helper()
	out, err := p.client().ListObjectsV2(p.t.Context(), &sdk.ListObjectsV2Input{Bucket: &p.Bucket})
	if err != nil {
		p.t.Fatal(err)
	}
	for _, x := range out.Contents {
		if k := aws.ToString(x.Key); !strings.HasSuffix(k, "/") {
			keys = append(keys, k)
		}
	}
	return keys
}

// put puts what no store of ours has put.
func (p *pail) put(key string, b []byte) {
	p.t.Helper()
	if _, err := p.client().PutObject(p.t.Context(), &sdk.PutObjectInput{Bucket: &p.Bucket, Key: &key, Body: bytes.NewReader(b)}); err != nil {
		p.t.Fatal(err)
	}
}

func keep(t testing.TB, s gantry.Blobs, b []byte) string {
	t.Helper()
	staged, err := s.Stage(t.Context(), bytes.NewReader(b), int64(len(b)), math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	defer staged.Discard()
	where, err := staged.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return where
}

func fetch(t testing.TB, s gantry.Blobs, where string) []byte {
	t.Helper()
	b, err := s.Open(t.Context(), where)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	got, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestBucketKeeps commits blobs of all sizes, in one piece and in several, and reads them from another process's store. The same
// bytes are one object.
func TestBucketKeeps(t *testing.T) {
	t.Parallel()
	p := newPail(t, s3test.Start(t))
	a, b := p.open(), p.open(func(o *BucketOptions) { o.Worker = 8 })
	if a.ID() == "" || a.ID() != b.ID() {
		t.Fatalf("identities %q and %q", a.ID(), b.ID())
	}
	sizes := []int{0, 1, gantry.InlineLimit, gantry.InlineLimit + 1, blockSize - 1, blockSize, blockSize + 1, 5<<20 - 1, 5 << 20, 5<<20 + 1, 12 << 20}
	for i, n := range sizes {
		want := body(n, uint64(i))
		where := keep(t, a, want)
		if sum := sha256.Sum256(want); where != "sha/"+gantry.Digest(sum).String() {
			t.Errorf("%d bytes lie at %s", n, where)
		}
		if again := keep(t, b, want); again != where {
			t.Errorf("the same bytes lie at %s and %s", where, again)
		}
		if got := fetch(t, b, where); !bytes.Equal(got, want) {
			t.Errorf("%d bytes read back as %d others", n, len(got))
		}
	}
	keys := p.keys()
	if len(keys) != len(sizes)+2 {
		t.Errorf("%d objects for %d blobs, an identity and an owner: %q", len(keys), len(sizes), keys)
	}
	for _, k := range keys {
		rest := strings.TrimPrefix(k, "one/store/")
		if rest != identityKey && rest != ownerKey && (len(rest) != len("sha256/ab/")+62 || !strings.HasPrefix(rest, "sha256/")) {
			t.Errorf("an object is called %s", k)
		}
	}
	if left, err := os.ReadDir(a.Scratch); len(left) > 0 || err != nil {
		t.Errorf("the scratch folder holds %v: %v", left, err)
	}
}

// TestBucketIdentity has ten processes make one identity, and refuses those with another key, or none.
func TestBucketIdentity(t *testing.T) {
	t.Parallel()
	p := newPail(t, s3test.Start(t))
	if _, err := InspectBucket(t.Context(), p.Place, p.rt, testKey); gantry.CodeOf(err) != CodeMissing {
		t.Errorf("a store that was never opened: %v", err)
	}
	var g errgroup.Group
	ids := make([]string, 10)
	for i := range ids {
		g.Go(func() error {
			b, err := OpenBucket(t.Context(), p.options())
			if err == nil {
				ids[i] = b.ID()
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if id == "" || id != ids[0] {
			t.Errorf("identities %q", ids)
		}
	}
	if about, err := InspectBucket(t.Context(), p.Place, p.rt, testKey); about.ID != ids[0] || err != nil {
		t.Errorf("inspected as %+v: %v", about, err)
	}
	for _, key := range [][]byte{nil, bytes.Repeat([]byte("x"), 32)} {
		o := p.options()
		o.Key = key
		_, err := OpenBucket(t.Context(), o)
		wantErr(t, err, gantry.Illegal, CodeWrongKey)
	}
	p.put("one/store/"+identityKey, []byte("{}"))
	_, err := OpenBucket(t.Context(), p.options())
	wantErr(t, err, gantry.Illegal, gantry.CodeMalformed)
	o := p.options()
	o.Bucket = "nobody-made-this"
	_, err = OpenBucket(t.Context(), o)
	wantErr(t, err, gantry.NotFound, CodeBucketMissing)
}

// TestBucketHeals puts the right bytes in the place of others that somebody laid under a blob's name.
func TestBucketHeals(t *testing.T) {
	t.Parallel()
	p := newPail(t, s3test.Start(t))
	b := p.open()
	for i, n := range []int{100_000, 6 << 20} {
		want := body(n, uint64(i))
		key := *b.keyOf(gantry.Digest(sha256.Sum256(want)))
		for _, wrong := range [][]byte{body(n, 99), body(10, 98)} {
			p.put(key, wrong)
			if got := fetch(t, b, keep(t, b, want)); !bytes.Equal(got, want) {
				t.Errorf("%d bytes over %d others read back wrong", n, len(wrong))
			}
		}
	}
}

// TestBucketStage refuses what is over the limit, bounds its memory, and gives inline bytes and digest as the folder does.
func TestBucketStage(t *testing.T) {
	t.Parallel()
	p := newPail(t, s3test.Start(t))
	b := p.open(func(o *BucketOptions) { o.MemoryLimit = 1 << 20 })
	_, err := b.Stage(t.Context(), bytes.NewReader(make([]byte, 11)), -1, 10)
	wantErr(t, err, gantry.Illegal, gantry.CodeTooLarge)
	small, err := b.Stage(t.Context(), strings.NewReader("small"), -1, 10)
	if err != nil || string(small.Inline()) != "small" || small.Size() != 5 || small.SHA() != gantry.Digest(sha256.Sum256([]byte("small"))) {
		t.Errorf("staged %+v: %v", small, err)
	}
	small.Discard()
	if _, err := small.Commit(t.Context()); gantry.KindOf(err) != gantry.Illegal {
		t.Errorf("committed after it was discarded: %v", err)
	}
	want := body(3<<20, 1)
	where := keep(t, b, want)
	if got := fetch(t, b, where); !bytes.Equal(got, want) {
		t.Error("read back wrong")
	}
	for where, code := range map[string]gantry.Code{"sha/" + strings.Repeat("ab", 32): CodeMissing, "seg/1/1/4096/10": CodeMissing, "sha/../x": gantry.CodeMalformed} {
		if _, err := b.Open(t.Context(), where); gantry.CodeOf(err) != code {
			t.Errorf("open %s: %v, want %s", where, err, code)
		}
	}
	b.Close()
	_, err = b.Stage(t.Context(), strings.NewReader("late"), -1, 10)
	wantErr(t, err, gantry.Unavailable, CodeClosed)
	_, err = b.Open(t.Context(), where)
	wantErr(t, err, gantry.Unavailable, CodeClosed)
}

// TestBucketReads has several readers at random places and in order, with few blocks kept, and counts the requests of
// one that goes on in order.
func TestBucketReads(t *testing.T) {
	t.Parallel()
	p := newPail(t, s3test.Start(t))
	asked := &badServer{RoundTripper: p.rt}
	b := p.open(func(o *BucketOptions) { o.Transport = asked })
	want := body(40<<20+12345, 1)
	where := keep(t, b, want)
	asked.count.Store(0)
	if got := fetch(t, b, where); !bytes.Equal(got, want) {
		t.Fatal("read back wrong")
	}
	if n := asked.count.Load(); n > 12 {
		t.Errorf("%d requests for 41 blocks in order", n)
	}
	o, err := b.Open(t.Context(), where)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for seed := range 6 {
		wg.Go(func() {
			buf := make([]byte, 1<<20)
			for i := range 30 {
				off := int64((i*7919+seed*104729)*4099) % int64(len(want))
				n, err := o.ReadAt(buf, off)
				if err != nil && !(err == io.EOF && off+int64(n) == int64(len(want))) || !bytes.Equal(buf[:n], want[off:off+int64(n)]) {
					t.Errorf("read %d bytes at %d: %v", n, off, err)
				}
			}
		})
	}
	wg.Wait()
	if held := len(o.(*object).blocks); held > mostBlocks+mostAhead || b.cached.Load() != int64(held) {
		t.Errorf("%d blocks are held, counted as %d", held, b.cached.Load())
	}
	if _, err := o.ReadAt(make([]byte, 1), o.Size()); err != io.EOF {
		t.Errorf("read past the end: %v", err)
	}
	if err := errors.Join(o.Close()); err != nil || b.cached.Load() != 0 {
		t.Errorf("closed with %v; %d blocks are counted", err, b.cached.Load())
	}
	if _, err := o.ReadAt(make([]byte, 1), 0); err != os.ErrClosed {
		t.Errorf("read after the end: %v", err)
	}
	if o.Close() != os.ErrClosed {
		t.Error("closed twice")
	}
}

// BenchmarkStores commits blobs of 100 KB to a folder, and to a bucket on this machine, 16 at once.
func BenchmarkStores(b *testing.B) {
	p := newPail(b, s3test.Start(b))
	for name, s := range map[string]gantry.Blobs{"dir": openTest(b, testOptions(b.TempDir())), "bucket": p.open()} {
		b.Run(name, func(b *testing.B) {
			var g errgroup.Group
			g.SetLimit(16)
			b.SetBytes(benchBody)
			for i := range b.N {
				g.Go(func() error {
					staged, err := s.Stage(b.Context(), bytes.NewReader(body(benchBody, uint64(i))), benchBody, benchBody)
					if err == nil {
						_, err = staged.Commit(b.Context())
					}
					return err
				})
			}
			if err := g.Wait(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "blobs/s")
		})
	}
}
