package doctor

import (
	"crypto/rand"
	"net"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/blob"
	httpdriver "github.com/gantry-imaging/gantry/internal/driver/http"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
)

// levels gives the level of each finding by its check.
func levels(found []Finding) map[string]Level {
	out := map[string]Level{}
	for _, f := range found {
		out[f.Check] = f.Level
	}
	return out
}

func mustBe(t *testing.T, found []Finding, want map[string]Level) {
	t.Helper()
	got := levels(found)
	for check, level := range want {
		if got[check] != level {
			t.Errorf("%s is %q, want %q: %+v", check, got[check], level, found)
		}
	}
	for _, f := range found {
		if f.Text == "" || (f.Level != OK) != (f.Advice != "") {
			t.Errorf("a finding without a text, or with advice where none is needed: %+v", f)
		}
	}
}

// TestDatabase looks at a durable server, at one that is not, at one without a schema, at one whose
// clock is off, and at none.
func TestDatabase(t *testing.T) {
	o := Options{DatabaseURL: postgrestest.Durable(t), Now: time.Now}
	mustBe(t, first(database(t.Context(), o)), map[string]Level{"database": OK, "version": OK, "durability": OK, "clock": OK})
	o.DatabaseURL = postgrestest.DSN(t)
	mustBe(t, first(database(t.Context(), o)), map[string]Level{"schema": OK, "roles": OK, "durability": Problem})
	o.Now = func() time.Time { return time.Now().Add(-time.Hour) }
	mustBe(t, first(database(t.Context(), o)), map[string]Level{"clock": Problem, "schema": OK})
	u, err := url.Parse(o.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	u.Path, o.Now = "/template1", time.Now
	o.DatabaseURL = u.String()
	mustBe(t, first(database(t.Context(), o)), map[string]Level{"database": OK, "schema": Problem})
	o.DatabaseURL = "postgres://nobody:s3cret@127.0.0.1:1/gantry"
	found, _ := database(t.Context(), o)
	mustBe(t, found, map[string]Level{"database": Problem})
	if len(found) != 1 || strings.Contains(found[0].Text, "s3cret") {
		t.Errorf("%+v", found)
	}
	o.DatabaseURL, o.Home = "", t.TempDir()
	if found, _ := database(t.Context(), o); len(found) != 1 || found[0].Check != "database" {
		t.Errorf("%+v", found)
	}
	if left, err := os.ReadDir(o.Home); err != nil || len(left) != 0 {
		t.Errorf("looking for a private database made %v, %v", left, err)
	}
}

func first(found []Finding, _ *string) []Finding { return found }

// TestVerdictsOnDatabases that no test has.
func TestVerdictsOnDatabases(t *testing.T) {
	for _, c := range []struct {
		got  Finding
		want Level
	}{
		{version(postgres.Condition{Version: 140011}), Problem},
		{version(postgres.Condition{Version: 150000}), OK},
		{schema(postgres.Condition{Schema: 3, Wanted: 4}), Problem},
		{schema(postgres.Condition{Schema: 5, Wanted: 4}), Problem},
		{roles(postgres.Condition{}), Warning},
		{durability(postgres.Condition{FSync: true, FullPageWrites: true, SynchronousCommit: "off"}), Problem},
		{durability(postgres.Condition{FSync: true, FullPageWrites: true, SynchronousCommit: "local"}), OK},
		{clock(postgres.Condition{Skew: -3 * time.Second}), Problem},
		{clock(postgres.Condition{Skew: 3 * time.Second, RoundTrip: 2 * time.Second}), OK},
		{space("/", 1<<29, 1<<40), Problem},
		{space("/", 20<<30, 1<<40), Warning},
		{space("/", 5<<30, 10<<30), Warning},
		{space("/", 500<<30, 1<<40), OK},
	} {
		if c.got.Level != c.want {
			t.Errorf("%+v, want %s", c.got, c.want)
		}
	}
}

// TestBlobs looks at a store that is not there, is new, is right, belongs to another key, and cannot be
// written to; nothing is left behind.
func TestBlobs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "x", "blobs")
	o := Options{Blobs: dir}
	mustBe(t, blobs(o, nil), map[string]Level{"blobs": OK})
	key, err := blob.DeploymentKey(dir, nil, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	mustBe(t, blobs(o, nil), map[string]Level{"blobs": OK, "identity": OK})
	b, err := blob.OpenDir(t.Context(), blob.Options{Dir: dir, Worker: 1, Key: key, SegmentSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	before, _ := os.ReadDir(dir)
	mustBe(t, blobs(o, nil), map[string]Level{"blobs": OK, "identity": OK})
	o.Key = key
	mustBe(t, blobs(o, nil), map[string]Level{"identity": OK})
	o.Key = []byte("another key of 32 bytes, or more")
	mustBe(t, blobs(o, nil), map[string]Level{"identity": Problem})
	o.Key = nil
	if err := os.Remove(filepath.Join(dir, "key")); err != nil {
		t.Fatal(err)
	}
	mustBe(t, blobs(o, nil), map[string]Level{"blobs": OK, "identity": Problem})
	if after, _ := os.ReadDir(dir); len(after) != len(before)-1 {
		t.Errorf("it left %v", after)
	}
	o.Blobs = filepath.Join(dir, "identity.json")
	mustBe(t, blobs(o, nil), map[string]Level{"blobs": Problem})
	mustBe(t, []Finding{disk(Options{Blobs: filepath.Join(dir, "not", "there")}), files()}, map[string]Level{})
}

// TestOwner tells a store's database from another, from a new one, and from one that does not answer.
func TestOwner(t *testing.T) {
	mine, fresh := "mine", ""
	for _, c := range []struct {
		owner    string
		database *string
		want     Level
	}{
		{"", &mine, OK}, {"", &fresh, OK}, {"", nil, OK}, {"mine", &mine, OK}, {"mine", nil, OK}, {"mine", &fresh, Problem}, {"other", &mine, Problem},
	} {
		mustBe(t, []Finding{owner(blob.About{ID: "s", Owner: blob.Owner{Database: c.owner}}, c.database)}, map[string]Level{"owner": c.want})
	}
}

// TestProgramsAreOptional: without ffmpeg only videos cannot be taken.
func TestProgramsAreOptional(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	found := programs(t.Context())
	mustBe(t, found, map[string]Level{"ffmpeg": Warning, "ffprobe": Warning})
	if !Sound(found) || Sound(append(found, bad("x", "y", "z"))) {
		t.Error("a doubt is a problem, or a problem is none")
	}
}

// at is a config that says where it goes.
type at gantry.Target

// Target gives it.
func (a at) Target() gantry.Target { return gantry.Target(a) }

// telling is a config with a queue beside its own target.
type telling struct{ at }

// Further gives the queue.
func (telling) Further() []gantry.FurtherTarget {
	return []gantry.FurtherTarget{{Target: gantry.Target{Scheme: "http", Host: "127.0.0.1", Port: "1", Model: "1/queue"}}}
}

// TestFurtherTargets looks at the queue of a source too.
func TestFurtherTargets(t *testing.T) {
	dir := t.TempDir()
	p := &gantry.Pipeline{Name: "one", Sources: []gantry.Endpoint{{Name: "e", Config: telling{at{Scheme: "dir", Host: dir}}}}}
	mustBe(t, targets(t.Context(), []*gantry.Pipeline{p}), map[string]Level{"target dir:" + dir: OK, "target http://127.0.0.1:1/1/queue": Problem})
}

// TestTargetOfArchive knocks at the archive that a pipeline asks how many there are.
func TestTargetOfArchive(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := func(name, port string) *gantry.Pipeline {
		return &gantry.Pipeline{Name: name, Collect: &gantry.Collect{Expect: &gantry.Expect{Endpoint: gantry.Endpoint{Config: at{Scheme: "dicom", Host: "127.0.0.1", Port: port, Model: "PACS"}}}}}
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	found := targets(t.Context(), []*gantry.Pipeline{p("one", port), p("two", "1")})
	mustBe(t, found, map[string]Level{"target dicom://127.0.0.1:" + port + "/PACS": OK, "target dicom://127.0.0.1:1/PACS": Problem})
	if i := slices.IndexFunc(found, func(f Finding) bool { return f.Level == Problem }); i < 0 || !strings.HasPrefix(found[i].Advice, "it is archive of two;") {
		t.Errorf("%+v", found)
	}
}

// TestTargets knocks at servers with and without TLS, at a closed port, at an address that no target
// may have, and looks at folders.
func TestTargets(t *testing.T) {
	plain, secure := httptest.NewServer(nil), httptest.NewTLSServer(nil)
	defer plain.Close()
	defer secure.Close()
	to := func(raw string) at {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		return at{Scheme: u.Scheme, Host: u.Hostname(), Port: u.Port()}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + l.Addr().String()
	l.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	folder := func(p string) gantry.Endpoint { return gantry.Endpoint{Name: "e", Config: at{Scheme: "dir", Host: p}} }
	process := func(raw string) gantry.Processing {
		return gantry.Processing{Endpoint: gantry.Endpoint{Name: "p", Config: to(raw)}}
	}
	p := &gantry.Pipeline{Name: "one", Sources: []gantry.Endpoint{folder(dir), folder(dir + "/none"), folder(file), {Name: "without"},
		{Name: "uploads", Config: httpdriver.SourceConfig{MaxMiB: 1}}},
		Processors: []gantry.Processing{process(plain.URL), process(secure.URL), process(closed), process("http://169.254.169.254")},
		Sinks:      []gantry.Endpoint{folder(dir + "/made/by/it")}}
	found := targets(t.Context(), []*gantry.Pipeline{p, p})
	mustBe(t, found, map[string]Level{"target dir:" + dir: OK, "target dir:" + dir + "/none": Problem, "target dir:" + file: Problem,
		"target dir:" + dir + "/made/by/it": OK, "target " + plain.URL: OK, "target " + secure.URL: Problem, "target " + closed: Problem,
		"target http://169.254.169.254": Problem})
	if len(found) != 8 {
		t.Errorf("%d findings: %+v", len(found), found)
	}
}
