package e2e

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
)

// ward is what the two machines share: a database over TCP, a server with buckets, a service.
type ward struct {
	installation
	*s3.Client
	model          *foreign
	a, b           *host
	in, pipeline   string
	dropped        map[string]bool // digests
	key, dsnTCP    string
	blobs, service string // addresses
}

func newWard(t *testing.T) *ward {
	t.Helper()
	w := &ward{installation: installation{dsn: postgrestest.Durable(t)}, key: strings.Repeat("5c", 32), dropped: map[string]bool{}}
	var address string
	w.a, w.b, address = hosts(t)
	server := s3test.Start(t)
	w.model = newForeign(t, 100*time.Millisecond)
	w.model.Echo = true
	w.Client = s3.New(s3.Options{BaseEndpoint: &server.Endpoint, Region: "us-east-1", UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, "")})
	for _, name := range []string{"kept", results} {
		if _, err := w.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(name)}); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("E2E_S3_ID", server.AccessKey)
	t.Setenv("E2E_S3_SECRET", server.SecretKey)
	w.blobs = "http://" + forward(t, address, "tcp", strings.TrimPrefix(server.Endpoint, "http://"))
	w.service = "http://" + forward(t, address, "tcp", strings.TrimPrefix(w.model.URL, "http://"))
	w.dsnTCP = overTCP(t, w.dsn, address)
	w.in = filepath.Join(w.a.home, "in")
	if err := os.Mkdir(w.in, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, h := range []*host{w.a, w.b} {
		h.file = w.deployment(t, h.home, "s3://kept/ward/one", w.key)
	}
	w.pipeline = write(t, w.a.home, "p.yaml", fmt.Sprintf(`gantry: v1
name: ward
sources: {inbox: {kind: dir, path: %q, settle: 50ms}}
sinks: {results: {kind: s3, bucket: results, prefix: out/, endpoint: %q, path_style: true, auth: gateway}}
stages: [{name: enhance, call: model}]
processors: {model: {kind: http, url: %q, timeout: 5s, limits: {concurrency: 8}}}
auth: {gateway: {kind: aws, access_key_id: "${env:E2E_S3_ID}", secret_access_key: "${env:E2E_S3_SECRET}"}}
retry: {attempts: 5, initial: 100ms}
`, w.in, w.blobs, w.service+"/v1/enhance"))
	return w
}

// overTCP gives the address of a database that is reached by a socket in the file system.
func overTCP(t *testing.T, dsn, address string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	socket := filepath.Join(q.Get("host"), ".s.PGSQL."+q.Get("port"))
	q.Del("host")
	q.Del("port")
	q.Set("sslmode", "disable")
	u.Host, u.RawQuery = forward(t, address, "unix", socket), q.Encode()
	return u.String()
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// deployment writes a gantry.yaml.
func (w *ward) deployment(t *testing.T, home, blobs, key string) string {
	t.Helper()
	t.Setenv("E2E_KEY_"+key[:2], key)
	return write(t, home, fmt.Sprintf("gantry-%x.yaml", sha256.Sum256([]byte(blobs+key)))[:20]+".yaml", fmt.Sprintf(`gantry: v1
home: %q
database: {url: %q}
blobs: %q
key: "${env:E2E_KEY_%s}"
bucket:
  endpoint: %q
  path_style: true
  access_key_id: "${env:E2E_S3_ID}"
  secret_access_key: "${env:E2E_S3_SECRET}"
lease: 2s
`, home, w.dsnTCP, blobs, key[:2], w.blobs))
}

// command makes a command of gantry on a host.
func (h *host) command(file string, args ...string) *exec.Cmd {
	all := append([]string{binary, "--config", file}, args...)
	if h.space != "" {
		all = append([]string{"ip", "netns", "exec", h.space}, all...) // which becomes the program
	}
	return exec.Command(all[0], all[1:]...)
}

// start begins a command on a host that goes on until it is killed.
func (h *host) start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{name: args[0], cmd: h.command(h.file, args...), log: &lockedBuffer{}, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.err = p.cmd.Wait(); close(p.done) }()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s %d wrote:\n%s", p.name, p.cmd.Process.Pid, p.log.tail(4000))
		}
	})
	return p
}

// drop lays files into the folder that the first machine watches, each too large for a row, and one too large for one block.
func (w *ward) drop(t *testing.T, first, end int) {
	t.Helper()
	for i := first; i < end; i++ {
		sum := sha256.Sum256(fmt.Appendf(nil, "ward %d", i))
		body := picture(sum[:])
		size := 40_000
		if i%10 == 0 {
			size = 3 << 20
		}
		for len(body) < size { // what follows the picture's end is nobody's, and comes back with it
			sum = sha256.Sum256(sum[:])
			body = append(body, sum[:]...)
		}
		w.dropped[fmt.Sprintf("%x", sha256.Sum256(body))] = true
		lay(t, filepath.Join(w.in, fmt.Sprintf("scan-%04d.png", i)), body)
	}
}

// delivered gives the digests of all pictures in the bucket for results.
func (w *ward) delivered(t *testing.T) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	pages := s3.NewListObjectsV2Paginator(w.Client, &s3.ListObjectsV2Input{Bucket: aws.String(results)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range page.Contents {
			if !strings.HasSuffix(*x.Key, ".png") {
				continue
			}
			out, err := w.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(results), Key: x.Key})
			if err != nil {
				t.Fatal(err)
			}
			h := sha256.New()
			_, err = io.Copy(h, out.Body)
			if err := errors.Join(err, out.Body.Close()); err != nil {
				t.Fatal(err)
			}
			all[fmt.Sprintf("%x", h.Sum(nil))] = true
		}
	}
	return all
}

// callersSQL counts the tasks with calls of one process to the service that ended well.
const callersSQL = `select count(distinct o.task_id) from call_outcome o join call_intent i using (task_id, id) where i.boundary = 1 and o.result = 0 and i.worker = $1`

// TestTwoHosts has two machines with nothing in common but a database, a bucket and a service. Both work on what one of them took
// in; each is killed in turn, and the other finishes.
func TestTwoHosts(t *testing.T) {
	const files = 40
	w := newWard(t)
	l := openLedger(t, w.installation)
	serve := w.a.start(t, "serve", "--pipelines", w.pipeline, "--listen", "127.0.0.1:0")
	eventually(t, 30*time.Second, "serve to register", func() bool { return l.hasWorker(t, serve) })
	worker := w.b.start(t, "worker")
	eventually(t, 30*time.Second, "the worker to register", func() bool { return l.hasWorker(t, worker) })
	first, second := l.worker(t, serve), l.worker(t, worker)
	w.drop(t, 0, files)
	eventually(t, 60*time.Second, "all to be taken in and both to be at work", func() bool {
		return l.count(t, `select count(*) from arrival`) == files && l.count(t, callersSQL, first) > 0 && l.count(t, callersSQL, second) > 0
	})
	serve.kill()
	left := files - l.count(t, `select count(*) from task where final_state = 5`)
	l.finished(t, files)
	t.Logf("%d tasks were not done when the first machine died; the second made calls for %d", left, l.count(t, callersSQL, second))
	if left == 0 {
		t.Error("the kill came too late")
	}
	serve = w.a.start(t, "serve", "--pipelines", w.pipeline, "--listen", "127.0.0.1:0")
	eventually(t, 30*time.Second, "serve to register again", func() bool { return l.hasWorker(t, serve) })
	w.drop(t, files, 2*files)
	eventually(t, 60*time.Second, "the second machine to be at work", func() bool {
		return l.count(t, `select count(*) from task_hot where owner = $1 and phase = 1`, second) > 0 && l.count(t, `select count(*) from arrival`) > files
	})
	worker.kill()
	l.finished(t, 2*files)
	got := w.delivered(t)
	for sha := range w.dropped {
		if !got[sha] {
			t.Errorf("no result has the bytes %s", sha)
		}
	}
	if len(got) != len(w.dropped) {
		t.Errorf("%d different results for %d files", len(got), len(w.dropped))
	}
	w.keeps(t, l)
	w.refuses(t)
}

func (l *ledger) hasWorker(t *testing.T, p *process) bool {
	t.Helper()
	if p.ended() {
		t.Fatalf("gantry %s ended: %v\n%s", p.name, p.err, p.log.tail(4000))
	}
	return l.count(t, `select (to_regclass('gantry.worker') is not null)::int`) == 1 && l.worker(t, p) > 0
}

// keeps wants every blob in the bucket, with a row, and none in a home.
func (w *ward) keeps(t *testing.T, l *ledger) {
	t.Helper()
	for _, h := range []*host{w.a, w.b} {
		if _, err := os.Stat(filepath.Join(h.home, "blobs")); !os.IsNotExist(err) {
			t.Errorf("a home has a folder of blobs: %v", err)
		}
	}
	if n := l.count(t, `select count(*) from blob_use u where not exists (select from blob b where b.location = u.location)`); n > 0 {
		t.Errorf("%d blobs in use have no row", n)
	}
	if n := l.count(t, `select count(distinct location) from blob_use`); n < len(w.dropped) {
		t.Errorf("%d blobs are in use by %d files", n, len(w.dropped))
	}
	out, err := w.b.command(w.b.file, "blobs", "gc", "--dry-run", "--json").Output()
	var did struct{ Adopted, Tombstones, Deleted int }
	if jerr := json.Unmarshal(out, &did); err != nil || jerr != nil || did.Adopted+did.Deleted > 0 {
		t.Errorf("garbage: %+v, %v, %v", did, err, jerr)
	}
}

// refuses starts processes with another key, without one, and with another store: none may begin.
func (w *ward) refuses(t *testing.T) {
	t.Helper()
	for file, text := range map[string]string{
		w.deployment(t, w.b.home, "s3://kept/ward/one", strings.Repeat("6d", 32)):                                                                     "another deployment key",
		w.deployment(t, w.b.home, "s3://kept/ward/two", w.key):                                                                                        "the database belongs to blob store",
		write(t, w.b.home, "folder.yaml", fmt.Sprintf("gantry: v1\nhome: %q\ndatabase: {url: %q}\nkey: \"${env:E2E_KEY_5c}\"\n", w.b.home, w.dsnTCP)): "the database belongs to blob store",
		write(t, w.b.home, "keyless.yaml", fmt.Sprintf("gantry: v1\nhome: %q\ndatabase: {url: %q}\nblobs: s3://kept/ward/one\n", w.b.home, w.dsnTCP)): "keeps no copy",
	} {
		c := w.b.command(file, "worker")
		timer := time.AfterFunc(30*time.Second, func() { c.Process.Kill() })
		out, err := c.CombinedOutput()
		timer.Stop()
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() <= 0 || !strings.Contains(string(out), text) {
			t.Errorf("a worker that is to be refused (%s): %v\n%s", text, err, out)
		}
	}
}
