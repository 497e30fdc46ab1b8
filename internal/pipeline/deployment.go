package pipeline

import (
	"errors"
	"net"
	"net/url"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Deployment is what a deployment file, gantry.yaml, says about one installation. It is read under the
// rules of pipeline files. A field that is empty was not set.
type Deployment struct {
	Gantry    string           `yaml:"gantry" one:"v1" doc:"The version of this grammar: v1. It is the first key."`
	Home      string           `yaml:"home" path:"true" filled:"true" doc:"The folder of everything that belongs to the installation."`
	Database  DatabaseAt       `yaml:"database" doc:"Postgres to use instead of a private one."`
	Blobs     string           `yaml:"blobs" path:"true" bucket:"true" filled:"true" doc:"The folder of the blob store, or s3://bucket/prefix; blobs in home without it."`
	Key       gantry.SecretRef `yaml:"key" doc:"A reference to the deployment key, in hexadecimal. Without it the blob store's own is used."`
	Listen    string           `yaml:"listen" filled:"true" doc:"The loopback address, host:port, of health checks and metrics."`
	Callbacks string           `yaml:"callback_url" filled:"true" doc:"The address, http://host:port or https://host/path, at which services reach this installation to answer later; that of listen without it."`
	Pipelines []string         `yaml:"pipelines" single:"true" path:"true" doc:"The pipeline files, or folders of them, that are served and checked."`
	Tasks     int              `yaml:"tasks" min:"1" max:"100000" doc:"Tasks at once in one process."`
	Lease     time.Duration    `yaml:"lease" min:"1s" max:"10m" doc:"How long after its last heartbeat a process counts as dead."`
	Grace     time.Duration    `yaml:"grace" min:"1ms" max:"1h" doc:"How long calls under way may go on after a stop."`
	Log       LogAs            `yaml:"log" doc:"What is logged, and how."`

	Sources map[string]shared `yaml:"sources" names:"true" role:"source" doc:"Sources that feed several pipelines by rules; docs/routes.md."`
	Auth    map[string]auth   `yaml:"auth" names:"true" role:"auth" doc:"What requests of these sources are signed with."`
	Shared  []Shared          `yaml:"-"` // the sources, in the order of their names

	Bucket    BlobBucket    `yaml:"bucket" doc:"How the bucket of the blob store is reached, if blobs is s3://bucket/prefix."`
	BlobGrace time.Duration `yaml:"blob_grace" min:"1h" max:"8760h" doc:"How long blobs that nothing refers to are kept before they are deleted; 168h without it."`

	_ struct{} `later:"processors sinks limits allow_pipeline_targets"`
}

// DatabaseAt says where a database is.
type DatabaseAt struct {
	URL      string           `yaml:"url" filled:"true" doc:"postgres://user@host:port/name, without the password."`
	Password gantry.SecretRef `yaml:"password" doc:"A reference to the password: ${env:NAME} or ${file:/path}."`
}

// Check refuses what is no URL of Postgres, a password that stands in it, and one without a URL.
func (d DatabaseAt) Check() []gantry.FieldProblem {
	if d.URL == "" {
		if d.Password != "" {
			return []gantry.FieldProblem{{Key: "password", Text: "it means nothing without url"}}
		}
		return nil
	}
	u, err := url.Parse(d.URL)
	switch {
	case err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql":
		return []gantry.FieldProblem{{Key: "url", Text: "it is no URL such as postgres://user@host:5432/name"}}
	case passwordIn(u):
		return []gantry.FieldProblem{{Key: "url", Text: "it holds a password, which belongs under password, as a reference"}}
	}
	return nil
}

func passwordIn(u *url.URL) bool {
	_, inUser := u.User.Password()
	return inUser || u.Query().Has("password")
}

// LogAs says what is logged.
type LogAs struct {
	Level  string `yaml:"level" one:"debug info warn error" doc:"The least that is logged."`
	Format string `yaml:"format" one:"text json" doc:"text, or one JSON object a line."`
}

// Check refuses addresses that are none.
func (d Deployment) Check() (found []gantry.FieldProblem) {
	if _, _, err := net.SplitHostPort(d.Listen); err != nil && d.Listen != "" {
		found = append(found, gantry.FieldProblem{Key: "listen", Text: "it is no address such as 127.0.0.1:8090"})
	}
	if err := CheckCallbackURL(d.Callbacks); err != nil && d.Callbacks != "" {
		found = append(found, gantry.FieldProblem{Key: "callback_url", Text: err.Error()})
	}
	return append(found, d.checkBlobs()...)
}

// CheckCallbackURL refuses what no service could be told to answer to.
func CheckCallbackURL(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("it is no address such as https://gantry.local:8443")
	}
	return nil
}

// LoadDeployment reads a deployment file. One that cannot be read, or with mistakes, gives Problems.
func LoadDeployment(path string, k Kinds, env func(string) (string, bool)) (*Deployment, error) {
	src, err := read(path)
	if err != nil {
		return nil, Problems{{File: path, Text: reason(err)}}
	}
	return ParseDeployment(path, src, k, env)
}

// ParseDeployment reads the text of a deployment file, as Parse does that of a pipeline.
func ParseDeployment(file string, src []byte, k Kinds, env func(string) (string, bool)) (*Deployment, error) {
	x, problems, err := parseDeployment(file, src, k, env)
	if len(problems) > 0 {
		err = problems
	}
	if err != nil {
		return nil, err
	}
	return x, nil
}

// CheckDeployment is LoadDeployment that gives, beside the mistakes, what the file names in spite of them: pipelines, and
// shared sources with nothing but their routes. Those can be held to one another all the same.
func CheckDeployment(path string, k Kinds, env func(string) (string, bool)) (*Deployment, Problems, error) {
	src, err := read(path)
	if err != nil {
		return &Deployment{}, Problems{{File: path, Text: reason(err)}}, nil
	}
	return parseDeployment(path, src, k, env)
}

func parseDeployment(file string, src []byte, k Kinds, env func(string) (string, bool)) (*Deployment, Problems, error) {
	abs, err := filepath.Abs(file)
	if err != nil {
		return &Deployment{}, Problems{{File: file, Text: err.Error()}}, nil
	}
	r := newReport(file, src)
	d := newDecoder(r, k)
	d.env, d.dir = env, filepath.Dir(abs)
	var x Deployment
	if r.tree(src, maxFile) != nil && d.checkVersion() {
		hidePasswords(r)
		d.object(r.root, "", reflect.ValueOf(&x).Elem(), "")
		d.checkShared(&x)
	}
	problems := r.problems()
	x.Shared, err = d.shared(&x, len(problems) == 0)
	return &x, problems, err
}

// hidePasswords keeps an address that holds a password, wherever it stands, out of the source lines that
// are shown beside mistakes.
func hidePasswords(r *report) {
	for i := range r.lines {
		if _, rest, ok := strings.Cut(r.lines[i], "://"); ok && (strings.Contains(rest, "@") && strings.Contains(rest[:strings.LastIndex(rest, "@")], ":") || strings.Contains(rest, "password=")) {
			at := strings.Index(r.lines[i], "://")
			r.lines[i] = asterisks(r.lines[i], len([]rune(r.lines[i][:at]))+4, 1<<30)
		}
	}
}
