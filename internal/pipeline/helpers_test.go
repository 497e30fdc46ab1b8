package pipeline

import (
	"encoding"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/driver/s3"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// fake is a register of the shape that the real one has, with a kind that uses every type of field.
type fake struct{}

type dirSource struct {
	Path    string        `yaml:"path" required:"true" path:"true" doc:"The folder."`
	Pattern string        `yaml:"pattern" default:"*" doc:"Which files."`
	Settle  time.Duration `yaml:"settle" default:"1s" doc:"How long a file must rest."`
}

func (c dirSource) Wants(name string) bool {
	return c.Pattern == "*" || strings.HasSuffix(name, c.Pattern[1:])
}

type dirSink struct {
	Path string `yaml:"path" required:"true" path:"true" doc:"The folder."`
}

type httpProcessor struct {
	URL     string            `yaml:"url" required:"true" doc:"Where to."`
	Body    string            `yaml:"body" default:"raw" one:"raw zip" doc:"raw or zip."`
	Headers map[string]string `yaml:"headers" doc:"More headers."`
}

func (c httpProcessor) Check() []gantry.FieldProblem {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return []gantry.FieldProblem{{Key: "url", Text: "is not an absolute http or https URL"}}
	}
	return nil
}

func (c httpProcessor) Target() gantry.Target {
	u, _ := url.Parse(c.URL)
	return gantry.Target{Scheme: u.Scheme, Host: u.Hostname(), Port: u.Port()}
}

type webArchive struct {
	URL string `yaml:"url" required:"true" doc:"Its root."`
}

func (c webArchive) Check() []gantry.FieldProblem {
	if strings.HasSuffix(c.URL, "/studies") {
		return []gantry.FieldProblem{{Key: "url", Text: "ends with studies, which lies below it"}}
	}
	return nil
}

func (c webArchive) Target() gantry.Target { return httpProcessor{URL: c.URL}.Target() }

type wireArchive struct {
	Host string `yaml:"host" required:"true" doc:"Where."`
}

func (c wireArchive) Target() gantry.Target { return gantry.Target{Scheme: "dicom", Host: c.Host} }

// everything has a field of every type.
type everything struct {
	Text   string            `yaml:"text" one:"a b" later:"c"`
	Flag   bool              `yaml:"flag" default:"true"`
	Int    int               `yaml:"int" default:"7" min:"-5" max:"9"`
	Long   int64             `yaml:"long"`
	Float  float64           `yaml:"float" max:"2.5"`
	Wait   time.Duration     `yaml:"wait" min:"1s" max:"30d"`
	Size   Size              `yaml:"size" max:"1GiB"`
	Rate   Rate              `yaml:"rate" default:"5/s"`
	Secret gantry.SecretRef  `yaml:"secret"`
	Addr   net.IP            `yaml:"addr"`
	List   []string          `yaml:"list" default:"x y"`
	One    []string          `yaml:"one" single:"true" path:"true"`
	Map    map[string]string `yaml:"map"`
	Sub    sub               `yaml:"sub"`
	Subs   []sub             `yaml:"subs"`

	_ int // no key of the file

	_ struct{} `later:"soon"`
}

type sub struct {
	Need  string `yaml:"need" required:"true"`
	Other string `yaml:"other" default:"o"`
}

func (s sub) Check() []gantry.FieldProblem {
	switch s.Need {
	case "wrong":
		return []gantry.FieldProblem{{Key: "", Text: "the whole is wrong"}}
	case "other":
		return []gantry.FieldProblem{{Key: "other", Text: "is wrong with this"}}
	}
	return nil
}

var _ encoding.TextUnmarshaler = (*net.IP)(nil)

func (fake) Config(role gantry.Boundary, kind string) (any, bool) {
	switch [2]string{role.String(), kind} {
	case [2]string{"source", "dir"}:
		return &dirSource{}, true
	case [2]string{"source", "s3"}:
		return &s3.SourceConfig{}, true
	case [2]string{"sink", "dir"}:
		return &dirSink{}, true
	case [2]string{"processor", "http"}:
		return &httpProcessor{}, true
	case [2]string{"archive", "dicomweb"}:
		return &webArchive{}, true
	case [2]string{"archive", "dicom"}:
		return &wireArchive{}, true
	case [2]string{"sink", "everything"}:
		return &everything{}, true
	}
	return nil, false
}

func (f fake) Kinds(role gantry.Boundary) []string {
	var kinds []string
	for _, k := range []string{"dicom", "dicomweb", "dir", "http"} {
		if _, ok := f.Config(role, k); ok {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// sameText compares conditions by their texts.
var sameText = cmp.Comparer(func(a, b gantry.Condition) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return a.String() == b.String()
})

// variables is an environment.
func variables(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

const small = `gantry: v1
name: small
stages: [{name: find, call: finder}]
processors: {finder: {kind: http, url: "http://127.0.0.1:8095/find"}}
`

// mustParse parses a file in /etc/gantry that must be right.
func mustParse(t *testing.T, src string, env ...string) *gantry.Pipeline {
	t.Helper()
	p, err := Parse("/etc/gantry/p.yaml", []byte(src), fake{}, variables(env...))
	if err != nil {
		t.Fatalf("Parse: %v\n%s", err, src)
	}
	return p
}

// mistakes gives the problems of a text as "line:col: text".
func mistakes(t *testing.T, src string, env ...string) []string {
	t.Helper()
	p, err := Parse("/etc/gantry/p.yaml", []byte(src), fake{}, variables(env...))
	if err == nil {
		return nil
	}
	problems, ok := errors.AsType[Problems](err)
	if !ok || len(problems) == 0 || p != nil {
		t.Fatalf("Parse gave %v and a %T %v", p, err, err)
	}
	var out []string
	for _, x := range problems {
		out = append(out, fmt.Sprintf("%d:%d: %s", x.Line, x.Col, x.Text))
	}
	return out
}

// sink puts keys into the sink of kind everything, in flow style, line 5.
func sink(keys string) string {
	return small + "sinks: {all: {kind: everything, " + keys + "}}\n"
}

// wantMistake checks that there is exactly one mistake, with want in it; none for "".
func wantMistake(t *testing.T, src, want string, env ...string) {
	t.Helper()
	got := mistakes(t, src, env...)
	switch {
	case want == "" && len(got) == 0:
	case want != "" && len(got) == 1 && strings.Contains(got[0], want):
	default:
		t.Errorf("%s\ngot  %q\nwant %q", src, got, want)
	}
}
