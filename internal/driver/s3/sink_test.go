package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/gate"
)

// The control: without If-None-Match a put replaces what is there, and nobody is told.
func TestGuardIsNeeded(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	s := b.sink(b.egress)
	if err := s.Deliver(t.Context(), delivery("t/a", []byte("first"))); err != nil {
		t.Fatal(err)
	}
	wantError(t, s.Deliver(t.Context(), delivery("t/a", []byte("other"))), gantry.Permanent, gantry.CodeConflict)
	s.guard = nil // and the sink believes that the server refuses, else it would look
	s.server.word.Store(int32(wordKept))
	if err := s.Deliver(t.Context(), delivery("t/a", []byte("other"))); err != nil {
		t.Fatal(err)
	}
	if got, _ := b.list("out/"); string(got["t/a"]) != "other" {
		t.Errorf("the control did not replace: %q", got)
	}
}

// What a put leaves: the type of media, our digest, and the server's own.
func TestPutLeaves(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	body := bytes.Repeat([]byte("x"), inMemory+1)
	sum := sha256.Sum256(body)
	for _, sums := range []bool{true, false} {
		s := b.sink(b.egress)
		s.sums = sums
		key := map[bool]string{true: "sha256", false: "none"}[sums]
		if err := s.Deliver(t.Context(), delivery(key, body)); err != nil {
			t.Fatal(err)
		}
		head, err := b.HeadObject(t.Context(), &sdk.HeadObjectInput{Bucket: &b.name, Key: aws.String("out/" + key), ChecksumMode: types.ChecksumModeEnabled})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := aws.ToString(head.ChecksumSHA256), base64.StdEncoding.EncodeToString(sum[:]); sums && got != want || !sums && got == want {
			t.Errorf("checksums %s: the server keeps %q", key, got)
		}
		if aws.ToString(head.ContentType) != gantry.MediaDICOM || head.Metadata[ownSum] != gantry.Digest(sum).String() {
			t.Errorf("%+v", head)
		}
	}
}

// What somebody else put there without any digest is read to be compared.
func TestCompareWithoutDigest(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	if err := b.put("out/t/a", []byte("bytes")); err != nil {
		t.Fatal(err)
	}
	s := b.sink(b.egress)
	if err := s.Deliver(t.Context(), delivery("t/a", []byte("bytes"))); err != nil {
		t.Errorf("the same bytes: %v", err)
	}
	wantError(t, s.Deliver(t.Context(), delivery("t/a", []byte("other"))), gantry.Permanent, gantry.CodeConflict)
}

// spy counts the requests by kind and breaks those that it is told to.
type spy struct {
	faults
	pieces, aborts, completes atomic.Int32
	breakAt                   int32
}

// RoundTrip counts and sends.
func (s *spy) RoundTrip(req *http.Request) (*http.Response, error) {
	q := req.URL.Query()
	switch {
	case req.Method == http.MethodPut && q.Has("partNumber"):
		if s.pieces.Add(1) == s.breakAt {
			return refusal(req, 503, "SlowDown"), nil
		}
	case req.Method == http.MethodDelete && q.Has("uploadId"):
		s.aborts.Add(1)
	case req.Method == http.MethodPost && q.Has("uploadId"):
		s.completes.Add(1)
	}
	return s.faults.RoundTrip(req)
}

func (b *bucket) pieces(t *testing.T, breakAt int32) (*sink, *spy) {
	t.Helper()
	sp := &spy{faults: faults{RoundTripper: drivertest.Egress(t).Transport()}, breakAt: breakAt}
	s := b.sink(sign(t, sp, b.server))
	s.piece = 5 << 20 // the least that the protocol allows
	return s, sp
}

// uploads gives the number of uploads that nobody completed.
func (b *bucket) uploads(t *testing.T) int { return b.uploadsOf(t, "") }

func (b *bucket) uploadsOf(t *testing.T, prefix string) int {
	t.Helper()
	out, err := b.ListMultipartUploads(t.Context(), &sdk.ListMultipartUploadsInput{Bucket: &b.name, Prefix: &prefix})
	if err != nil {
		t.Fatal(err)
	}
	return len(out.Uploads)
}

func TestPieces(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	body := bytes.Repeat([]byte("0123456789abcdef"), 13<<16) // 13 MiB
	s, sp := b.pieces(t, 0)
	for range 2 {
		if err := s.Deliver(t.Context(), delivery("t/large", body)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := b.list("out/"); err != nil || !bytes.Equal(got["t/large"], body) {
		t.Errorf("%d bytes, %v", len(got["t/large"]), err)
	}
	if sp.pieces.Load() != 3 || sp.completes.Load() != 1 || sp.aborts.Load() != 0 {
		t.Errorf("%d pieces, %d completed, %d given up", sp.pieces.Load(), sp.completes.Load(), sp.aborts.Load())
	}
	other := slices.Clone(body)
	other[7<<20]++
	wantError(t, s.Deliver(t.Context(), delivery("t/large", other)), gantry.Permanent, gantry.CodeConflict)
	unknown := delivery("t/stream", body)
	unknown.Size, unknown.SHA = -1, gantry.Digest{}
	if err := s.Deliver(t.Context(), unknown); err != nil {
		t.Errorf("a stream of unknown length: %v", err)
	}
	if n := b.uploads(t); n != 0 {
		t.Errorf("%d uploads are open", n)
	}
}

// An upload that fails is given up, and nothing shows; another try goes through.
func TestPiecesThatFail(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	body := bytes.Repeat([]byte("0123456789abcdef"), 11<<16)
	for name, c := range map[string]struct {
		set  func(*gantry.Delivery, context.CancelFunc)
		kind gantry.Kind
		code gantry.Code
		at   int32
	}{
		"refused": {func(*gantry.Delivery, context.CancelFunc) {}, gantry.Unavailable, CodeSlowDown, 2},
		"changed": {func(d *gantry.Delivery, _ context.CancelFunc) {
			var opened atomic.Int32
			d.Open = func(context.Context) (io.ReadCloser, error) {
				x := slices.Clone(body)
				if opened.Add(1) > 1 {
					x[9<<20]++
				}
				return io.NopCloser(bytes.NewReader(x)), nil
			}
		}, gantry.Transient, CodeChecksumMismatch, 0},
		"cancelled": {func(d *gantry.Delivery, cancel context.CancelFunc) {
			var opened atomic.Int32
			d.Open = func(context.Context) (io.ReadCloser, error) {
				if opened.Add(1) > 1 {
					time.AfterFunc(time.Millisecond, cancel)
				}
				return io.NopCloser(bytes.NewReader(body)), nil
			}
		}, gantry.Transient, "transient", 0},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		d := delivery("t/"+name, body)
		c.set(&d, cancel)
		s, sp := b.pieces(t, c.at)
		err := s.Deliver(ctx, d)
		cancel()
		if name == "cancelled" && errors.Is(err, context.Canceled) {
			err = gantry.Errorf(gantry.Transient, "", "as it should")
		}
		wantError(t, err, c.kind, c.code)
		if got, _ := b.list("out/"); len(got) != 0 || sp.aborts.Load() > 1 || b.uploads(t) != 0 {
			t.Errorf("%s: %d objects show, %d given up, %d uploads are open", name, len(got), sp.aborts.Load(), b.uploads(t))
		}
	}
	s, _ := b.pieces(t, 0)
	if err := s.Deliver(t.Context(), delivery("t/refused", body)); err != nil {
		t.Error(err)
	}
}

// An upload is given up though the server is busy just then, and a server that stays so holds nobody up for long.
func TestUploadGivenUp(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	body := bytes.Repeat([]byte("0123456789abcdef"), 11<<16)
	for refused, left := range map[int32]int{2: 0, 100: 1} {
		s, sp := b.pieces(t, 2) // the second piece is refused too
		sp.before = func(r *http.Request) *http.Response {
			if r.Method == http.MethodDelete && sp.aborts.Load() <= refused {
				return refusal(r, http.StatusServiceUnavailable, "SlowDown")
			}
			return nil
		}
		began := time.Now()
		wantError(t, s.Deliver(t.Context(), delivery(fmt.Sprint("t/", refused), body)), gantry.Unavailable, CodeSlowDown)
		if n := b.uploadsOf(t, fmt.Sprint("out/t/", refused)); n != left || sp.aborts.Load() > fewTries || time.Since(began) > fewTime+20*time.Second {
			t.Errorf("refused %d times: %d uploads are left behind after %d tries and %s", refused, n, sp.aborts.Load(), time.Since(began))
		}
	}
}

// Two uploads of other bytes to one key: the second to complete is refused, by our own look or, after that, by the server.
func TestPiecesAtOnce(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	body := bytes.Repeat([]byte("0123456789abcdef"), 11<<16)
	for name, completes := range map[string]int32{"while sending": 0, "at the end": 1} {
		b := newBucket(t, server)
		s, sp := b.pieces(t, 0)
		var put atomic.Bool // it looked, and nothing was there
		sp.before = func(r *http.Request) *http.Response {
			if r.URL.Query().Has("uploadId") && sp.completes.Load() == completes && !put.Swap(true) {
				if err := b.put("out/t/a", []byte("somebody else's")); err != nil {
					t.Error(err)
				}
			}
			return nil
		}
		wantError(t, s.Deliver(t.Context(), delivery("t/a", body)), gantry.Permanent, gantry.CodeConflict)
		if got, _ := b.list("out/"); string(got["t/a"]) != "somebody else's" || b.uploads(t) != 0 || sp.completes.Load() != completes {
			t.Errorf("%s: %d objects, %d pieces, %d uploads open", name, len(got), sp.pieces.Load(), b.uploads(t))
		}
	}
}

// Through the gate's door a call is what the record says, however many requests it takes.
func TestCallsOnRecord(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	body := bytes.Repeat([]byte("0123456789abcdef"), 11<<16)
	way := gate.NewEgress(b.place().target(), gate.Policy{})
	t.Cleanup(way.Close)
	egress := sign(t, way.Transport(), b.server)
	s := b.sink(egress)
	s.piece = 5 << 20
	call := func(f func(context.Context) error) gantry.Outcome {
		t.Helper()
		m := gate.NewMeter(time.Now)
		m.Several()
		err := f(gate.WithMeter(t.Context(), m))
		m.Close()
		if err != nil {
			t.Fatal(err)
		}
		return m.Snapshot()
	}
	out := call(func(ctx context.Context) error { return s.Deliver(ctx, delivery("t/a", body)) })
	if out.Status != 200 || out.ReqSize < int64(len(body)) || out.ReqSize > int64(len(body))+2000 {
		t.Errorf("an upload: %+v", out)
	}
	out = call(func(ctx context.Context) error { return s.Deliver(ctx, delivery("t/b", []byte("small"))) })
	if out.Status != 200 || out.ReqSize != 5 || out.ReqSHA != sha256.Sum256([]byte("small")) {
		t.Errorf("a put: %+v", out)
	}
	src, err := NewSource(t.Context(), SourceConfig{Bucket: b.name, Endpoint: b.server.Endpoint, PathStyle: true}, egress)
	if err != nil {
		t.Fatal(err)
	}
	out = call(func(ctx context.Context) error {
		r, err := src.Open(ctx, "out/t/a")
		if err != nil {
			return err
		}
		defer r.Close()
		if _, err := io.Copy(io.Discard, r); err != nil {
			return err
		}
		if sum, n, ok := gantry.DigestOf(r); !ok || n != int64(len(body)) || sum != sha256.Sum256(body) {
			t.Errorf("the digest taken on the way is lost: %v %d", ok, n)
		}
		return nil
	})
	if out.RespSHA != sha256.Sum256(body) {
		t.Errorf("a get: %+v", out)
	}
	wantError(t, src.Watch(t.Context(), nil), gantry.Illegal, gate.CodeNoRecord)
}
