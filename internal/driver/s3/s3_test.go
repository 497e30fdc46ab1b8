package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/gantry-imaging/gantry/internal/auth"
	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// bucket is a fresh bucket on a real server.
type bucket struct {
	*sdk.Client
	t      testing.TB
	server *s3test.Server
	egress gantry.Egress
	name   string
}

// signed is a way out whose requests are signed.
type signed struct{ rt http.RoundTripper }

func (s signed) Transport() http.RoundTripper { return s.rt }

func (signed) DialContext(context.Context, string, string) (net.Conn, error) {
	return nil, gantry.Errorf(gantry.Illegal, "", "no other way")
}

func sign(t testing.TB, rt http.RoundTripper, server *s3test.Server) gantry.Egress {
	t.Helper()
	env := map[string]string{"ID": server.AccessKey, "SECRET": server.SecretKey}
	out, err := auth.Wrap(rt, &gantry.Credential{Name: "test", Kind: "aws", AccessKeyID: "${env:ID}", SecretAccessKey: "${env:SECRET}"},
		func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	if err != nil {
		t.Fatal(err)
	}
	return signed{out}
}

func newBucket(t testing.TB, server *s3test.Server) *bucket {
	t.Helper()
	b := &bucket{t: t, server: server, name: "b-" + strings.ToLower(rand.Text()), egress: sign(t, drivertest.Egress(t).Transport(), server)}
	b.Client = newSDK(b.place(), b.egress)
	if _, err := b.CreateBucket(t.Context(), &sdk.CreateBucketInput{Bucket: &b.name}); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bucket) place() place {
	return place{bucket: b.name, endpoint: b.server.Endpoint, pathStyle: true}
}

func (b *bucket) put(key string, body []byte) error {
	_, err := b.PutObject(b.t.Context(), &sdk.PutObjectInput{Bucket: &b.name, Key: &key, Body: bytes.NewReader(body)})
	return err
}

func (b *bucket) remove(key string) error {
	_, err := b.DeleteObject(b.t.Context(), &sdk.DeleteObjectInput{Bucket: &b.name, Key: &key})
	return err
}

// list gives the objects below a prefix, by the rest of their keys.
func (b *bucket) list(prefix string) (map[string][]byte, error) {
	out, err := b.ListObjectsV2(b.t.Context(), &sdk.ListObjectsV2Input{Bucket: &b.name, Prefix: &prefix})
	if err != nil {
		return nil, err
	}
	all := map[string][]byte{}
	for _, x := range out.Contents {
		got, err := b.GetObject(b.t.Context(), &sdk.GetObjectInput{Bucket: &b.name, Key: x.Key})
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(got.Body)
		got.Body.Close()
		if err != nil {
			return nil, err
		}
		if key := strings.TrimPrefix(aws.ToString(x.Key), prefix); !strings.HasSuffix(key, "/") {
			all[key] = body
		}
	}
	return all, nil
}

func (b *bucket) source(set func(*SourceConfig)) *source {
	b.t.Helper()
	c := SourceConfig{Bucket: b.name, Endpoint: b.server.Endpoint, PathStyle: true, Poll: 20 * time.Millisecond}
	if set != nil {
		set(&c)
	}
	s, err := NewSource(b.t.Context(), c, b.egress)
	if err != nil {
		b.t.Fatal(err)
	}
	s.(*source).pause = 10 * time.Millisecond
	return s.(*source)
}

func (b *bucket) sink(egress gantry.Egress) *sink {
	b.t.Helper()
	s, err := NewSink(b.t.Context(), SinkConfig{Bucket: b.name, Prefix: "out/", Endpoint: b.server.Endpoint, PathStyle: true}, egress)
	if err != nil {
		b.t.Fatal(err)
	}
	return s.(*sink)
}

func TestSourceConformance(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	t.Run("suite", func(t *testing.T) {
		drivertest.Source(t, func(t *testing.T) drivertest.Inbox {
			b := newBucket(t, server)
			return drivertest.Inbox{
				Source: b.source(func(c *SourceConfig) { c.Prefix = "in/"; c.Exclude = []string{"in/not/"} }),
				Put:    func(name string, body []byte) error { return b.put("in/"+name, body) },
				Remove: func(name string) error { return b.remove("in/" + name) },
			}
		})
	})
}

func TestSinkConformance(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	for name, pieces := range map[string]int64{"whole": pieceSize, "in pieces": 5 << 20} {
		t.Run(name, func(t *testing.T) {
			drivertest.Sink(t, func(t *testing.T) drivertest.Shelf {
				b := newBucket(t, server)
				s := b.sink(b.egress)
				s.piece = pieces
				return drivertest.Shelf{Sink: s, List: func() (map[string][]byte, error) { return b.list("out/") }}
			})
		})
	}
}
