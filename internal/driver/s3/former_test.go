package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

func nothing(context.Context, gantry.Object) error { return nil }

// laid puts objects of one key, one over the other.
func (b *bucket) laid(key string, bodies ...string) {
	b.t.Helper()
	for _, body := range bodies {
		if err := b.put(key, []byte(body)); err != nil {
			b.t.Fatal(err)
		}
	}
}

// clocked has the source believe that the bucket's server answers at another time, and gives the server's faults.
func (b *bucket) clocked(s *source, at func() time.Time) *faults {
	f := &faults{RoundTripper: b.egress.Transport(), after: func(r *http.Response) { r.Header.Set("Date", at().UTC().Format(http.TimeFormat)) }}
	s.client = newClient(b.place(), signed{f})
	return f
}

func inAnHour() time.Time { return time.Now().Add(time.Hour) }

func (b *bucket) treating(way string) *source {
	s := b.tidying(func(c *SourceConfig) {
		if c.After = way; way == "move" {
			c.MoveTo = "in/done/"
		}
	})
	b.clocked(s, inAnHour)
	return s
}

// Of what an object was put over the app is told before the object goes, as the source announces it from then on.
func TestTidyTellsOfFormer(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	for _, way := range []string{"delete", "move"} {
		for _, inPlace := range []bool{false, true} {
			b := newBucket(t, server).versioned()
			s := b.treating(way)
			b.laid(awkward, "of the wrong patient", "right")
			o := b.found(s, awkward)
			mark, err := s.Mark(o), error(nil)
			if inPlace {
				mark, err = s.Locate(t.Context(), o)
			}
			if err != nil || mark == "" || o.Size != 5 {
				t.Fatal(o, err)
			}
			var told []gantry.Object
			refused := errors.New("the database is away")
			former := func(_ context.Context, x gantry.Object) error {
				told = append(told, x)
				if got, _ := b.list("in/"); string(got[strings.TrimPrefix(awkward, "in/")]) != "right" {
					t.Errorf("%s: the object was gone by then: %q", way, got)
				}
				return refused
			}
			if err := s.Tidy(t.Context(), mark, gantry.Done, former); !errors.Is(err, refused) {
				t.Errorf("%s: %v", way, err)
			}
			refused = nil
			if err := s.Tidy(t.Context(), mark, gantry.Done, former); err != nil {
				t.Errorf("%s: %v", way, err)
			}
			wantError(t, s.Tidy(t.Context(), mark, gantry.Done, former), gantry.NotFound, gantry.CodeSourceGone)
			is := b.found(s, awkward)
			layer, now, err := s.Layer(t.Context(), is)
			if len(told) != 2 || told[0] != told[1] || err != nil {
				t.Fatalf("%s: it told of %+v, %v", way, told, err)
			}
			if until := time.Until(now); until < 59*time.Minute {
				t.Errorf("%s: it is not the server's time that is told, but %s", way, now)
			}
			// The gateway gives a version another time when it comes to light.
			want := objectOf(is.Ref, is.Version, is.Size, told[0].At)
			if want.Version = layer; is.Size == 5 || layer == "" || told[0] != want {
				t.Errorf("%s: it told of %+v, want %+v", way, told[0], want)
			}
		}
	}
}

// What lies right under a version is told of whatever lies over it, and nothing else is.
func TestTidyTellsOfNoOther(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	for name, c := range map[string]struct {
		under  func(*bucket)
		over   func(*bucket)
		former string
		left   []string
	}{
		"alone":           {nil, nil, "", []string{"in/ab", "in/ab"}},
		"over a version":  {func(b *bucket) { b.laid("in/a", "oldest", "former") }, nil, "former", []string{"in/a", "in/a", "in/ab", "in/ab"}},
		"over a marker":   {func(b *bucket) { b.laid("in/a", "former"); b.remove("in/a") }, nil, "", []string{"in/a", "in/ab", "in/ab", "in/a (marker)"}},
		"over its bytes":  {func(b *bucket) { b.laid("in/a", "former", "ours") }, nil, "", []string{"in/a", "in/a", "in/ab", "in/ab"}},
		"under a version": {func(b *bucket) { b.laid("in/a", "former") }, func(b *bucket) { b.laid("in/a", "newer") }, "former", []string{"in/a", "in/a", "in/ab", "in/ab"}},
		"under a marker":  {func(b *bucket) { b.laid("in/a", "former") }, func(b *bucket) { b.remove("in/a") }, "former", []string{"in/a", "in/ab", "in/ab", "in/a (marker)"}},
		"under several": {func(b *bucket) { b.laid("in/a", "former") }, func(b *bucket) { b.laid("in/a", "newer", "new", "newest") }, "former",
			[]string{"in/a", "in/a", "in/a", "in/a", "in/ab", "in/ab"}},
		"at the bottom": {nil, func(b *bucket) { b.laid("in/a", "newer", "new", "newest") }, "", []string{"in/a", "in/a", "in/a", "in/ab", "in/ab"}},
		"over none": {func(b *bucket) {
			b.keepVersions(types.BucketVersioningStatusSuspended)
			b.laid("in/a", "former")
			b.versioned()
		}, nil, "former", []string{"in/a", "in/ab", "in/ab"}},
		"no more": {func(b *bucket) { b.laid("in/a", "former") }, func(b *bucket) { b.keepVersions(types.BucketVersioningStatusSuspended) }, "former", []string{"in/a", "in/ab", "in/ab"}},
	} {
		b := newBucket(t, server).versioned()
		s := b.treating("delete")
		b.laid("in/ab", "another's", "another's second")
		if c.under != nil {
			c.under(b)
		}
		b.laid("in/a", "ours")
		mark, err := s.Locate(t.Context(), b.found(s, "in/a"))
		if err != nil || mark == "" {
			t.Fatal(mark, err)
		}
		if c.over != nil {
			c.over(b)
		}
		told := ""
		s.page = 2
		err = s.Tidy(t.Context(), mark, gantry.Done, func(_ context.Context, x gantry.Object) error {
			told += fmt.Sprint(x.Ref, " ", x.Size, " ", x.Version == x.Sequencer)
			return nil
		})
		want := ""
		if c.former != "" {
			want = fmt.Sprint("in/a ", len(c.former), " ", name == "over none") // whose id is not its alone
		}
		if got := b.all(); err != nil || told != want || !slices.Equal(got, c.left) {
			t.Errorf("%s: it told of %q, want %q; %q are left, %v", name, told, want, got, err)
		}
	}
}

// Times count in whole seconds: the same bytes put again within the second of a former version would be taken for it.
func TestTidyWaitsForTheSecond(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t)).versioned()
	s := b.treating("delete")
	b.laid("in/a", "former")
	now := b.found(s, "in/a").At.Truncate(time.Second)
	b.laid("in/a", "ours")
	mark := s.Mark(b.found(s, "in/a"))
	b.clocked(s, func() time.Time { return now })
	wantError(t, s.Tidy(t.Context(), mark, gantry.Done, nil), gantry.Unavailable, CodeUnsettled)
	now = now.Add(time.Second)
	if err := s.Tidy(t.Context(), mark, gantry.Done, nothing); err != nil {
		t.Error(err)
	}
}

// What takes an object of the key may be waiting for the place among the calls that the deletion has.
func TestTidyWaitsShortForItsTurn(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t)).versioned()
	s := b.treating("delete")
	s.turn = 10 * time.Millisecond
	b.laid("in/a", "ours")
	o := b.found(s, "in/a")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := s.tell(ctx, o, func(ctx context.Context, _ gantry.Object) error { return s.Tidy(ctx, s.Mark(o), gantry.Done, nothing) })
	if wantError(t, err, gantry.Unavailable, CodeBusy); len(b.all()) != 1 || len(s.refs) != 0 {
		t.Errorf("%q are left, and %d turns", b.all(), len(s.refs))
	}
	if err := s.Tidy(ctx, s.Mark(o), gantry.Done, nothing); err != nil {
		t.Error(err)
	}
}

// A version of which a server tells no id is known by its time: by the lack of one, all that are put later would be known too.
func TestTidyOverOneWithoutID(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t)).versioned()
	s := b.treating("delete")
	b.laid("in/a", "ours")
	mark, err := s.Locate(t.Context(), b.found(s, "in/a"))
	if err != nil {
		t.Fatal(err)
	}
	_, id, _ := strings.Cut(mark, `"version":"`)
	list := "<ListVersionsResult><Name>b</Name>" +
		"<Version><Key>in/a</Key><VersionId>" + strings.TrimSuffix(id, `"}`) + "</VersionId><IsLatest>true</IsLatest><LastModified>2026-03-01T10:00:00Z</LastModified><ETag>&quot;e&quot;</ETag><Size>1</Size></Version>" +
		"<Version><Key>in/a</Key><IsLatest>false</IsLatest><LastModified>2026-02-01T10:00:00Z</LastModified><ETag>&quot;f&quot;</ETag><Size>1</Size></Version></ListVersionsResult>"
	b.clocked(s, inAnHour).before = func(r *http.Request) *http.Response {
		if !r.URL.Query().Has("versions") {
			return nil
		}
		return answered(r, http.StatusOK, list)
	}
	var told gantry.Object
	err = s.Tidy(t.Context(), mark, gantry.Done, func(_ context.Context, o gantry.Object) error { told = o; return nil })
	if err != nil || told.Sequencer == "" || told.Version != told.Sequencer {
		t.Errorf("it told of %+v, %v", told, err)
	}
}

func answered(r *http.Request, status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Status: fmt.Sprint(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/xml"}}, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body))}
}

// Where nobody says what lies under an object, or in words that make no sense, it stays.
func TestTidyWithoutKnowingTheFormer(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	version := func(key, id, latest string) string {
		return "<Version><Key>" + key + "</Key><VersionId>" + id + "</VersionId><IsLatest>" + latest + "</IsLatest><LastModified>2026-03-01T10:00:00Z</LastModified><ETag>&quot;e&quot;</ETag><Size>1</Size></Version>"
	}
	list := func(in ...string) string {
		return "<ListVersionsResult><Name>b</Name><EncodingType>url</EncodingType>" + strings.Join(in, "") + "</ListVersionsResult>"
	}
	for name, c := range map[string]struct {
		status int
		body   string
		kind   gantry.Kind
		code   gantry.Code
	}{
		"refused":         {403, "<Error><Code>AccessDenied</Code></Error>", gantry.Denied, CodeAccessDenied},
		"not there":       {501, "<Error><Code>NotImplemented</Code></Error>", gantry.Permanent, CodeNotImplemented},
		"busy":            {503, "<Error><Code>SlowDown</Code></Error>", gantry.Unavailable, CodeSlowDown},
		"no listing":      {200, "<html>" + private + "</html>", gantry.BadResponse, CodeMalformedAnswer},
		"nothing":         {200, "", gantry.BadResponse, CodeMalformedAnswer},
		"itself again":    {200, list(version("in/a", "VERSION", "false"), version("in/a", "VERSION", "false")), gantry.BadResponse, CodeMalformedAnswer},
		"the present one": {200, list(version("in/a", "VERSION", "true"), version("in/a", "another", "true")), gantry.BadResponse, CodeMalformedAnswer},
		"not itself":      {200, list(version("in/a", "another", "true")), gantry.Transient, CodeServerError},
		"an empty list":   {200, list(), gantry.Transient, CodeServerError},
		"without end":     {200, list("<IsTruncated>true</IsTruncated><NextKeyMarker>in/a</NextKeyMarker><NextVersionIdMarker>1</NextVersionIdMarker>"), gantry.BadResponse, CodeMalformedAnswer},
		"another's":       {200, list(version(private, "another", "false")), gantry.BadResponse, CodeMalformedAnswer},
		"a wrong name":    {200, list(version("in/a%zz", "another", "false")), gantry.BadResponse, CodeMalformedAnswer},
		"too many":        {200, list(version("in/a", "1", "false"), version("in/a", "2", "false"), version("in/a", "3", "false")), gantry.BadResponse, CodeMalformedAnswer},
		"cut short":       {200, list("<IsTruncated>true</IsTruncated><NextKeyMarker>in/a</NextKeyMarker>", version("in/a", "VERSION", "true")), gantry.BadResponse, CodeMalformedAnswer},
		"more to come":    {200, list("<IsTruncated>true</IsTruncated>"), gantry.BadResponse, CodeMalformedAnswer},
		"no time":         {200, list(version("in/a", "VERSION", "false"), "<Version><Key>in/a</Key><VersionId>1</VersionId></Version>"), gantry.BadResponse, CodeMalformedAnswer},
		"too long":        {200, list(strings.Repeat(" ", maxAnswer)), gantry.BadResponse, gantry.CodeTooLarge},
	} {
		for _, way := range []string{"delete", "move"} {
			b := newBucket(t, server).versioned()
			s := b.treating(way)
			b.laid("in/a", "former", "ours")
			mark, err := s.Locate(t.Context(), b.found(s, "in/a"))
			if err != nil {
				t.Fatal(err)
			}
			_, id, _ := strings.Cut(mark, `"version":"`)
			asked := 0
			b.clocked(s, inAnHour).before = func(r *http.Request) *http.Response {
				if !r.URL.Query().Has("versions") {
					return nil
				}
				asked++
				return answered(r, c.status, strings.ReplaceAll(c.body, "VERSION", strings.TrimSuffix(id, `"}`)))
			}
			err = s.Tidy(t.Context(), mark, gantry.Done, func(_ context.Context, x gantry.Object) error {
				t.Errorf("%s: it told of %+v", name, x)
				return nil
			})
			wantError(t, fmt.Errorf("%s: %w", name, err), c.kind, c.code)
			if got, _ := b.list("in/"); string(got["a"]) != "ours" || len(b.all()) != 2 || asked == 0 || asked > 3 {
				t.Errorf("%s: there is %q after %d requests", name, got, asked)
			}
		}
	}
}
