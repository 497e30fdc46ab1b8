package pipeline

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

const routed = `gantry: v1
pipelines: [pipelines]
sources:
  incoming:
    kind: s3
    bucket: incoming
    auth: hospital
    routes:
      - {when: 'object.key startsWith "echo/"', to: echo}
      - {when: 'object.tags.site == "north" && dicom.Modality == "CT"', to: ct}
      - {to: rest}
  shelf:
    kind: dir
    path: ./shelf
    match: all
    routes:
      - {to: rest}
      - {when: 'object.size > 3', to: ct}
auth:
  hospital: {kind: aws, access_key_id: "${env:ID}", secret_access_key: "${env:SECRET}"}
`

// TestShared reads the sources of a deployment; what is recorded of one is enough to make it again.
func TestShared(t *testing.T) {
	t.Parallel()
	d, err := ParseDeployment("/etc/gantry/gantry.yaml", []byte(routed), all.Drivers(), variables())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range d.Shared {
		again, err := ParseShared(s.Resolved, all.Drivers())
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range []gantry.Shared{s.Shared, again} {
			line := fmt.Sprint(x.Name, " ", x.Kind, " ", x.Match)
			for _, r := range x.Routes {
				line += fmt.Sprint(" ", r.To)
				if r.When != nil {
					line += fmt.Sprintf(" %s (%03b)", r.When, r.When.Facts())
				}
			}
			got = append(got, line)
		}
		if again.Version != s.Version || cmp.Diff(again.Config, s.Config) != "" || cmp.Diff(again.Auth, s.Auth) != "" || s.Version.IsZero() {
			t.Errorf("%s: it came back as %+v with %+v", s.Name, again.Config, again.Auth)
		}
	}
	incoming := `incoming s3 first echo object.key startsWith "echo/" (000) ct object.tags.site == "north" && dicom.Modality == "CT" (110) rest`
	shelf := `shelf dir all rest ct object.size > 3 (000)`
	if diff := cmp.Diff([]string{incoming, incoming, shelf, shelf}, got); diff != "" {
		t.Error(diff)
	}
	if c := d.Shared[0].Auth; c == nil || c.AccessKeyID != "${env:ID}" {
		t.Errorf("auth: %+v", c)
	}
	if strings.Contains(string(d.Shared[1].Resolved), "hospital") {
		t.Error("a source without credentials has some in its version")
	}
	changed, err := ParseDeployment("/etc/gantry/gantry.yaml", []byte(strings.Replace(routed, "> 3", "> 4", 1)), all.Drivers(), variables())
	if err != nil || changed.Shared[1].Version == d.Shared[1].Version || changed.Shared[0].Version != d.Shared[0].Version {
		t.Errorf("%v: other rules are another version, of that source alone", err)
	}
	for _, resolved := range []string{"", "{}", `{"name":"x","source":{"kind":"dir"}}`, `{"name":"x","source":{"kind":"dir","path":"/x","routes":[{"to":"a","when":"object.tags.x == 1"}]}}`} {
		if _, err := ParseShared([]byte(resolved), all.Drivers()); err == nil {
			t.Errorf("%s is taken for a source", resolved)
		}
	}
}

// TestSharedMistakes have their places, and come all at once.
func TestSharedMistakes(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		"incoming: {kind: dir, path: x}":                                                                             `routes is missing in sources.incoming`,
		"incoming: {kind: dir, path: x, routes: []}":                                                                 `routes: it is empty`,
		"incoming: {kind: dir, path: x, routes: [{when: 'true'}]}":                                                   `to is missing in sources.incoming.routes[0]`,
		"incoming: {kind: dir, path: x, routes: [{to: A}]}":                                                          `to: "A" is no name of a pipeline`,
		"incoming: {kind: dir, path: x, routes: [{too: a}]}":                                                         `unknown key "too" (did you mean "to"?)`,
		"incoming: {kind: dir, path: x, match: any, routes: [{to: a}]}":                                              `match: "any" is not one of first, all (did you mean "all"?)`,
		"In: {kind: dir, path: x, routes: [{to: a}]}":                                                                `sources: "In" is no name; a name has 1 to 63 of a-z, 0-9 and -`,
		"incoming: {kind: http, routes: [{to: a}]}":                                                                  `kind: an upload names its pipeline; a source of kind http stands in the pipeline's file`,
		"incoming: {kind: dicomweb, routes: [{to: a}]}":                                                              `kind: source "dicomweb" belongs to a later release`,
		"incoming: {kind: dir, path: x, when: 'true', routes: [{to: a}]}":                                            `unknown key "when"`,
		"incoming: {kind: dir, path: x, auth: b, routes: [{to: a}]}":                                                 `auth: no credential "b"`,
		"incoming: {kind: dir, path: x, routes: [{to: a}, {when: 'true', to: b}]}":                                   `nothing comes to this route: the one in line 3 takes everything, and match is first`,
		"incoming: {kind: dir, path: x, routes: [{when: 'object.kee == \"a\"', to: b}]}":                             `when: object has no "kee" (did you mean "key"?)`,
		"incoming: {kind: dir, path: x, routes: [{when: 'object.tags.site == \"a\"', to: b}]}":                       `when: object has no "tags"; objects of a source of kind dir have none`,
		"incoming: {kind: dir, path: x, routes: [{when: 'dicom.Modalty == \"a\"', to: b}]}":                          `when: "Modalty" is no DICOM keyword (did you mean "Modality"?)`,
		"incoming: {kind: s3, bucket: abc, routes: [{when: 'object.size == \"a\"', to: b}]}":                         `when: invalid operation: == (mismatched types number and text)`,
		"incoming: {kind: s3, bucket: abc, routes: [{when: 'object.metadata.x > 3', to: b}]}":                        `when: invalid operation: > (mismatched types text and number)`,
		"incoming: {kind: s3, bucket: abc, routes: [{when: 'object.key', to: b}]}":                                   `when: it gives text, not true or false`,
		"incoming: {kind: s3, bucket: abc, routes: [{when: 'items.count > 1', to: b}]}":                              `when: unknown name "items"`,
		"incoming: {kind: s3, bucket: abc, routes: [{when: '${env:X}', to: b}]}":                                     `when: no variables are put into expressions`,
		"incoming: {kind: s3, bucket: abc, routes: [{when: '', to: b}]}":                                             `when: it is empty`,
		"incoming: {kind: s3, bucket: a, routes: [{to: b}]}":                                                         `bucket: is no name of a bucket: 3 to 63 lower-case letters, digits, dots and hyphens`,
		"incoming: {kind: dir, path: x, routes: [{to: a}]}\nauth:\n  spare: {kind: bearer, token: \"${env:TOKEN}\"}": `credential "spare" is used by nothing`,
	} {
		_, err := ParseDeployment("/etc/gantry/gantry.yaml", []byte("gantry: v1\nsources:\n  "+src+"\n"), all.Drivers(), variables())
		problems, ok := errors.AsType[Problems](err)
		if !ok || len(problems) != 1 || problems[0].Text != want || problems[0].Line < 3 || problems[0].Col < 3 {
			t.Errorf("%s:\n got %v\nwant %s", src, err, want)
		}
	}
	_, err := ParseDeployment("gantry.yaml", []byte("gantry: v1\nlease: 20\nsources:\n  a: {kind: dir, path: x, routes: [{to: B}, {to: c}]}\n"), all.Drivers(), variables())
	if problems, _ := errors.AsType[Problems](err); len(problems) != 3 {
		t.Errorf("not all mistakes at once: %v", err)
	}
}

// deployedAs writes a deployment and pipelines into a folder and checks them.
func deployedAs(t *testing.T, sources string, pipelines map[string]string) (*Served, string) {
	t.Helper()
	files := map[string]string{"gantry.yaml": "gantry: v1\npipelines: [p]\n" + sources}
	for name, rest := range pipelines {
		files["p/"+name+".yaml"] = "gantry: v1\nname: " + name + "\nstages: [{name: a, call: b}]\nprocessors: {b: {kind: http, url: 'http://127.0.0.1:1/b'}}\n" + rest
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "p"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d, err := LoadDeployment(filepath.Join(dir, "gantry.yaml"), all.Drivers(), variables())
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, load := range []func([]string, []Shared, Kinds, func(string) (string, bool)) (*Served, error){LoadServed, CheckServed} {
		s, err := load(d.Pipelines, d.Shared, all.Drivers(), variables())
		if err == nil {
			return s, ""
		}
		text = append(text, strings.ReplaceAll(err.Error(), dir+"/", ""))
	}
	if text[0] != text[1] {
		t.Errorf("check and serve do not say the same:\n%s\n%s", text[0], text[1])
	}
	return nil, text[0]
}

const (
	drop   = "sources:\n  incoming: {kind: dir, path: ./in, match: all, routes: [%s]}\n"
	intoIn = "sinks: {results: {kind: dir, path: ../in/results}}\n"
	aside  = "sinks: {results: {kind: dir, path: ../out}}\n"
)

// TestStrayRoutes finds routes to pipelines that there are not, and to those that would read again what the source takes away.
func TestStrayRoutes(t *testing.T) {
	t.Parallel()
	_, text := deployedAs(t, fmt.Sprintf(drop, "{to: echoo}, {to: other}, {to: own}"), map[string]string{
		"echo": aside, "own": aside + "sources: {incoming: {kind: dir, path: ../elsewhere}}\n"})
	for _, want := range []string{
		`gantry.yaml:4:63: to: no pipeline here is named "echoo" (did you mean "echo"?)`, `gantry.yaml:4:76: to: no pipeline here is named "other"`,
		`gantry.yaml:4:89: to: "own" has a source "incoming" of its own`, "\n" + strings.Repeat(" ", 4+62) + "^\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	const bucket = "sources:\n  incoming: {kind: s3, bucket: same, after: delete, copy: %s, routes: [{to: reruns}]}\n"
	for copied, want := range map[string]string{"auto": `gantry.yaml:4:79: to: "reruns" collects, and source "incoming" takes objects away`, "always": ""} {
		_, text := deployedAs(t, fmt.Sprintf(bucket, copied), map[string]string{"reruns": aside + "group: {by: prefix, quiet: 1s}\n"})
		if (want == "") != (text == "") || !strings.Contains(text, want) {
			t.Errorf("copy: %s: no %s in\n%s", copied, want, text)
		}
	}
	s, text := deployedAs(t, fmt.Sprintf(drop, "{to: fed}, {to: mute}"), map[string]string{"fed": aside, "mute": "", "starved": aside})
	if text != "" {
		t.Fatal(text)
	}
	if err := s.Servable(); err == nil || err.Error() != "pipeline mute has no sinks to deliver to\npipeline starved has no sources to wait for" {
		t.Errorf("servable: %v", err)
	}
}

// TestLoops refuses ways on which results come back, over any number of pipelines; what goes on without coming back is
// told. For each way there is one with its guard in place.
func TestLoops(t *testing.T) {
	t.Parallel()
	bucket := func(role, rest string) string { return role + ": {store: {kind: s3, bucket: store, " + rest + "}}\n" }
	for name, c := range map[string]struct {
		sources   string
		pipelines map[string]string
		want      string // the end of the mistake
		chains    int
	}{
		"a shared source takes the results of what it feeds": {fmt.Sprintf(drop, "{to: a}"), map[string]string{"a": intoIn},
			`a → sink "results" → source "incoming" → a`, 0},
		"a rule proves nothing": {fmt.Sprintf(drop, "{when: 'false', to: a}"), map[string]string{"a": intoIn},
			`a → sink "results" → source "incoming" → a`, 0},
		"elsewhere": {fmt.Sprintf(drop, "{to: a}"), map[string]string{"a": aside}, "", 0},
		"over two pipelines": {fmt.Sprintf(drop, "{to: a}"), map[string]string{"a": aside, "b": "sources: {in: {kind: dir, path: ../out}}\n" + intoIn},
			`a → sink "results" → source "in" → b → sink "results" → source "incoming" → a`, 0},
		"a chain": {fmt.Sprintf(drop, "{to: a}"), map[string]string{"a": aside, "b": "sources: {in: {kind: dir, path: ../out}}\nsinks: {results: {kind: dir, path: ../end}}\n"},
			"", 1},
		"own sources alone": {"", map[string]string{"a": aside + "sources: {in: {kind: dir, path: ../in}}\n", "b": "sources: {in: {kind: dir, path: ../out}}\n" + intoIn},
			`a → sink "results" → source "in" → b → sink "results" → source "in" → a`, 0},
		"over a move": {fmt.Sprintf(drop, "{to: a}"), map[string]string{"a": aside + "move_if: [{when: 'true', to: b}]\n", "b": intoIn + "sources: {in: {kind: dir, path: ../other}}\n"},
			`b → sink "results" → source "incoming" → a → move_if → b`, 0},
		"moves are bounded": {"", map[string]string{"a": aside + "sources: {in: {kind: dir, path: ../x}}\nmove_if: [{when: 'true', to: b}]\n",
			"b": aside + "sources: {in: {kind: dir, path: ../y}}\nmove_if: [{when: 'true', to: a}]\n"}, "", 0},
		"a bucket": {bucket("sources", "routes: [{to: a}]"), map[string]string{"a": bucket("sinks", "prefix: out/")},
			`a → sink "store" → source "store" → a`, 0},
		"another prefix":     {bucket("sources", "prefix: in/, routes: [{to: a}]"), map[string]string{"a": bucket("sinks", "prefix: out/")}, "", 0},
		"an excluded prefix": {bucket("sources", "exclude: [out/], routes: [{to: a}]"), map[string]string{"a": bucket("sinks", "prefix: out/")}, "", 0},
		"a pattern":          {bucket("sources", "pattern: '*.in', routes: [{to: a}]"), map[string]string{"a": bucket("sinks", "prefix: out/")}, "", 0},
		"another server":     {bucket("sources", "routes: [{to: a}]"), map[string]string{"a": bucket("sinks", "prefix: out/, endpoint: 'http://127.0.0.1:1'")}, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, text := deployedAs(t, c.sources, c.pipelines)
			switch {
			case c.want == "" && text != "", c.want != "" && !strings.Contains(text, "results would come back as inputs without end: "+c.want+"\n"):
				t.Errorf("want %q, got\n%s", c.want, text)
			case c.want == "" && len(s.Chains) != c.chains:
				t.Errorf("chains %q", s.Chains)
			case strings.Count(text, "without end") > 1:
				t.Errorf("it is told more than once:\n%s", text)
			}
		})
	}
}

// TestDeploymentForPipeline: a deployment file that is taken for a pipeline is one mistake, which says what it is.
func TestDeploymentForPipeline(t *testing.T) {
	t.Parallel()
	dir := folder(t, map[string]string{"gantry.yaml": routed})
	_, err := CheckServed([]string{dir}, nil, all.Drivers(), os.LookupEnv)
	list, _ := errors.AsType[Problems](err)
	if len(list) != 1 || list[0].Line != 2 || list[0].Col != 1 || list[0].Text != "pipelines: stands in a deployment file, and no pipeline has it: gantry check --config gantry.yaml" {
		t.Errorf("%v", err)
	}
	if _, err := Parse("p.yaml", []byte(small+"listen: here\n"), fake{}, os.LookupEnv); err == nil || !strings.Contains(err.Error(), `unknown key "listen"`) {
		t.Errorf("a pipeline with a key too many: %v", err)
	}
}
