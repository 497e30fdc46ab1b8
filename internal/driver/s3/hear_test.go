package s3

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// said makes a notification as versitygw sends it, of objects of a bucket.
func said(bucket, etag string, keys ...string) []byte {
	var list []string
	for _, key := range keys {
		k, _ := json.Marshal(key)
		list = append(list, fmt.Sprintf(`{"eventSource":"aws:s3","eventName":"s3:ObjectCreated:Put","eventTime":"2026-11-26T08:15:30Z","s3":{"bucket":{"name":%q},"object":{"key":%s,"eTag":%q,"versionId":null,"sequencer":"7"}}}`,
			bucket, k, etag))
	}
	return []byte(`{"Records":[` + strings.Join(list, ",") + `]}`)
}

// desk takes what a source announces, and what it tells.
type desk struct {
	mu      sync.Mutex
	objects []gantry.Object
	notices []gantry.Notice
	fail    func(gantry.Object) error // nil: takes all
}

func (d *desk) announce(_ context.Context, o gantry.Object) error {
	d.mu.Lock()
	d.objects = append(d.objects, o)
	d.mu.Unlock()
	if d.fail != nil {
		return d.fail(o)
	}
	return nil
}

func (d *desk) tell(_ context.Context, n gantry.Notice) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.notices = append(d.notices, n)
	return nil
}

// take gives what was announced, and forgets it.
func (d *desk) take() []gantry.Object {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer func() { d.objects = nil }()
	return d.objects
}

func (d *desk) told() []gantry.Notice {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.notices)
}

func (b *bucket) hooked(set func(*SourceConfig)) (*source, *desk) {
	b.t.Helper()
	s := b.source(func(c *SourceConfig) {
		c.Discover, c.Token = []string{"webhook"}, "${env:TOKEN}"
		if set != nil {
			set(c)
		}
	})
	d := &desk{}
	s.Note(d.tell)
	return s, d
}

// summary is what is looked at of an announced object.
func summary(list []gantry.Object) (out []string) {
	for _, o := range list {
		out = append(out, strings.TrimSpace(o.Status.String()+" "+o.Ref+" "+o.Event))
	}
	return out
}

func want(t *testing.T, got []gantry.Object, summaries ...string) {
	t.Helper()
	if s := summary(got); !slices.Equal(s, summaries) {
		t.Errorf("announced %q, want %q", s, summaries)
	}
}

// An event leads to the very object that a listing announces, whatever it says of it.
func TestHookAnnouncesWhatIsListed(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	if err := b.put("in/a b+ü.dcm", []byte("hello world")); err != nil {
		t.Fatal(err)
	}
	var listed gantry.Object
	collect(t, b.source(nil), 1, func(o gantry.Object) error { listed = o; return nil })
	listed.New, listed.Channel = false, gantry.ChannelWebhook // a listing asks the ledger first
	s, d := b.hooked(nil)
	for name, body := range map[string]string{
		"versitygw": strings.Replace(string(fixture(t, "versitygw")), "echo-incoming", b.name, 1),
		"ceph":      strings.Replace(string(fixture(t, "ceph")), "echo-incoming", b.name, 1),
		"no etag":   strings.Replace(string(said(b.name, "", "in/a b+ü.dcm")), `"size":11`, `"size":-5`, 1),
		"encoded":   strings.Replace(string(said(b.name, "", "in/a b+ü.dcm")), `in/a b+ü.dcm`, `in%2Fa+b%2B%C3%BC.dcm`, 1),
	} {
		if err := s.Hook(t.Context(), nil, []byte(body), d.announce); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := d.take(); len(got) != 1 || got[0] != listed {
			t.Errorf("%s: %+v, want %+v", name, got, listed)
		}
	}
	if got := s.HookToken(); got != "${env:TOKEN}" {
		t.Errorf("%q", got)
	}
	if got := b.source(nil).HookToken(); got != "" {
		t.Errorf("without webhook: %q", got)
	}
}

// What an event tells of and is no longer so is superseded or gone, and what is there is announced.
func TestHookOfTheRulesAndThePast(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	for _, key := range []string{"in/a.dcm", "in/a.txt", "in/done/a.dcm", "other/a.dcm", "in/"} {
		if err := b.put(key, []byte(strings.TrimPrefix(key, "in/"))); err != nil {
			t.Fatal(err)
		}
	}
	s, d := b.hooked(func(c *SourceConfig) { c.Prefix, c.Exclude, c.Pattern = "in/", []string{"in/done/"}, "*.dcm" })
	hook := func(body []byte) {
		t.Helper()
		if err := s.Hook(t.Context(), nil, body, d.announce); err != nil {
			t.Fatal(err)
		}
	}
	hook(said(b.name, "", "in/a.dcm", "in/a.txt", "in/done/a.dcm", "other/a.dcm", "in/"))
	want(t, d.take(), "accepted in/a.dcm")
	hook(said("another-bucket", "", "in/a.dcm"))
	want(t, d.take())
	hook(said(b.name, `"0123"`, "in/a.dcm"))
	got := d.take()
	want(t, got, "superseded in/a.dcm", "accepted in/a.dcm")
	if got[0].Version != "0123" || got[0].Sequencer != "" || got[1].Version == "0123" {
		t.Errorf("%+v", got)
	}
	aws := strings.NewReplacer("echo-incoming", b.name, "in/a+b%2B%C3%BC.dcm", "in/gone.dcm").Replace(string(fixture(t, "aws")))
	hook([]byte(aws))
	want(t, d.take(), "source_gone in/gone.dcm 0055AED6DCD90281E5")
	hook([]byte(strings.Replace(aws, "in/gone.dcm", "in/a.dcm", 1)))
	want(t, d.take(), "superseded in/a.dcm 0055AED6DCD90281E5", "accepted in/a.dcm")
	hook(fixture(t, "aws-test"))
	if got := d.told(); len(got) != 6 || got[0].Objects != 1 || got[0].Ignored != 4 || got[1].Ignored != 1 || got[5].Ignored != 1 ||
		!got[0].At.Equal(time.Date(2026, 11, 26, 8, 15, 30, 0, time.UTC)) || got[0].Channel != gantry.ChannelWebhook {
		t.Errorf("%+v", got)
	}
}

// A notification that makes no sense is kept and refused; of one that does in part, the rest is announced.
func TestHookRefuses(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	if err := b.put("a", nil); err != nil {
		t.Fatal(err)
	}
	s, d := b.hooked(nil)
	half := strings.Replace(string(said(b.name, "", "a")), `[{`, `[{},{`, 1)
	for body, code := range map[string]gantry.Code{"DOE^JANE": gantry.CodeMalformed, "{}": CodeNotUnderstood, half: CodeNotUnderstood} {
		err := s.Hook(t.Context(), nil, []byte(body), d.announce)
		if gantry.KindOf(err) != gantry.Illegal || gantry.CodeOf(err) != code || strings.Contains(err.Error(), "DOE") {
			t.Errorf("%s: %v", body, err)
		}
		if got := d.told(); string(got[len(got)-1].Body) != body || got[len(got)-1].Code != code {
			t.Errorf("%s: kept as %+v", body, got)
		}
	}
	want(t, d.take(), "accepted a")
	s.Note(func(context.Context, gantry.Notice) error { return errors.New("no database") })
	if err := s.Hook(t.Context(), nil, []byte("{}"), d.announce); err == nil || gantry.KindOf(err) == gantry.Illegal {
		t.Errorf("it was not kept, and the sender is told %v", err)
	}
	d.fail = func(gantry.Object) error { return gantry.Errorf(gantry.Illegal, gantry.CodeTooLarge, "no") }
	if err := s.Hook(t.Context(), nil, said(b.name, "", "a"), d.announce); gantry.KindOf(err) != gantry.Unavailable {
		t.Errorf("an object that cannot be taken is no fault of the notification: %v", err)
	}
}

// The listing and many events tell of the same objects at once: of each object one announcement goes on at a time, and what
// is opened within it is what was announced.
func TestAtOnceButInTurn(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	keys := []string{"a", "b", "c"}
	for _, key := range keys {
		if err := b.put(key, []byte(key)); err != nil {
			t.Fatal(err)
		}
	}
	s, d := b.hooked(func(c *SourceConfig) { c.Discover = []string{"poll", "webhook"} })
	var under sync.Map // by ref
	var sideBySide, overlaps atomic.Int64
	var atOnce atomic.Int64
	d.fail = func(o gantry.Object) error {
		if _, taken := under.LoadOrStore(o.Ref, true); taken {
			overlaps.Add(1)
		}
		if atOnce.Add(1) > 1 {
			sideBySide.Add(1)
		}
		time.Sleep(5 * time.Millisecond)
		if o.Status == gantry.Accepted && s.expected(o.Ref) != `"`+o.Version+`"` {
			t.Errorf("%s is open to any state", o.Ref)
		}
		atOnce.Add(-1)
		under.Delete(o.Ref)
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var watch, wg sync.WaitGroup
	watch.Go(func() { s.Watch(ctx, d.announce) })
	for i := range 30 {
		wg.Go(func() {
			etag := ""
			if i%3 == 0 {
				etag = "0123" // tells of a state that is past
			}
			if err := s.Hook(ctx, nil, said(b.name, etag, keys...), d.announce); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	cancel()
	watch.Wait()
	if overlaps.Load() > 0 || sideBySide.Load() == 0 {
		t.Errorf("%d announcements of one object at once; %d of different ones", overlaps.Load(), sideBySide.Load())
	}
	if len(s.refs) != 0 || len(s.etags) != 0 {
		t.Errorf("%d turns and %d ETags are left", len(s.refs), len(s.etags))
	}
}

// What the config says of discovery has to fit together.
func TestCheckDiscover(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		SourceConfig
		want string
	}{
		{SourceConfig{}, ""},
		{SourceConfig{Discover: []string{"poll", "webhook", "sqs"}, Token: "${env:T}", QueueURL: "https://sqs.eu-central-1.amazonaws.com/1/q"}, ""},
		{SourceConfig{Discover: []string{"sqs"}, QueueURL: "http://127.0.0.1:4100/1/q", QueueEndpoint: "http://127.0.0.1:4100"}, ""},
		{SourceConfig{Discover: []string{"sqs"}}, "queue_url"},
		{SourceConfig{Discover: []string{"webhook"}}, "token"},
		{SourceConfig{QueueURL: "https://h/1/q"}, "queue_url"},
		{SourceConfig{Discover: []string{"sqs"}, QueueURL: "https://h/1/q", Token: "${env:T}"}, "token"},
		{SourceConfig{Discover: []string{"poll"}, QueueEndpoint: "https://h"}, "queue_endpoint"},
		{SourceConfig{Discover: []string{"poll", "poll"}}, "discover"},
		{SourceConfig{Discover: []string{"sqs"}, QueueURL: "q"}, "queue_url"},
		{SourceConfig{Discover: []string{"sqs"}, QueueURL: "https://h"}, "queue_url"},
		{SourceConfig{Discover: []string{"sqs"}, QueueURL: "https://u:p@h/q"}, "queue_url"},
		{SourceConfig{Discover: []string{"sqs"}, QueueURL: "https://h/q", QueueEndpoint: "https://h/q"}, "queue_endpoint"},
	} {
		c.Bucket = "bucket"
		var got []string
		for _, p := range c.Check() {
			got = append(got, p.Key)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%+v: %q, want %q", c.SourceConfig, got, c.want)
		}
	}
}

// The queue is a target of its own.
func TestFurther(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		SourceConfig
		want string
	}{
		{SourceConfig{}, "[]"},
		{SourceConfig{Discover: []string{"sqs"}, QueueURL: "https://sqs.eu-central-1.amazonaws.com/111122223333/echo"}, "https://sqs.eu-central-1.amazonaws.com/111122223333/echo"},
		{SourceConfig{Discover: []string{"sqs"}, QueueURL: "http://us-east-1.127.0.0.1:4100/1/q", QueueEndpoint: "http://127.0.0.1:4100"}, "http://127.0.0.1:4100/1/q"},
	} {
		further := c.Further()
		if len(further) == 0 && c.want == "[]" {
			continue
		}
		if len(further) != 1 || further[0].Key() != c.want || further[0].Service != "sqs" {
			t.Errorf("%+v: %+v", c.SourceConfig, further)
		}
		if _, err := url.Parse(further[0].Key()); err != nil {
			t.Error(err)
		}
	}
	_, err := NewSource(t.Context(), SourceConfig{Bucket: "bucket", Discover: []string{"sqs"}, QueueURL: "https://h/q"}, drivertest.Egress(t))
	if gantry.KindOf(err) != gantry.Illegal {
		t.Errorf("without a way to the queue: %v", err)
	}
}
