package pipeline

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const deployed = `gantry: v1
home: /var/lib/gantry
database: {url: "postgres://gantry@${env:HOST}:5432/gantry?sslmode=disable", password: "${file:/run/secrets/db}"}
blobs: blobs
key: "${env:KEY}"
listen: 127.0.0.1:8090
callback_url: https://gantry.local:8443/in
pipelines: [pipelines, /srv/more.yaml]
tasks: 8
lease: 20s
grace: 1m
log: {level: info, format: json}
`

// TestDeployment reads every key; a secret stays a reference, and paths are relative to the file.
func TestDeployment(t *testing.T) {
	t.Parallel()
	got, err := ParseDeployment("/etc/gantry/gantry.yaml", []byte(deployed), fake{}, variables("HOST", "db.local"))
	want := &Deployment{Gantry: "v1", Home: "/var/lib/gantry", Blobs: "/etc/gantry/blobs", Key: "${env:KEY}", Listen: "127.0.0.1:8090",
		Callbacks: "https://gantry.local:8443/in",
		Database:  DatabaseAt{URL: "postgres://gantry@db.local:5432/gantry?sslmode=disable", Password: "${file:/run/secrets/db}"},
		Pipelines: []string{"/etc/gantry/pipelines", "/srv/more.yaml"}, Tasks: 8, Lease: 20 * time.Second, Grace: time.Minute, Log: LogAs{"info", "json"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	got, err = ParseDeployment("gantry.yaml", []byte("gantry: v1\n"), fake{}, variables())
	if diff := cmp.Diff(&Deployment{Gantry: "v1"}, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// TestDeploymentMistakes have the words and the places of those of pipelines, and print no secret.
func TestDeploymentMistakes(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		"home: /x\n":                               "1:1: gantry: v1 must be the first key",
		"gantry: v2\n":                             "1:9: gantry: \"v2\" is not a grammar that this release reads (did you mean \"v1\"?)",
		"gantry: v1\nlissen: x\n":                  "2:1: unknown key \"lissen\" (did you mean \"listen\"?)",
		"gantry: v1\nlisten: x\n":                  "2:1: listen: it is no address such as 127.0.0.1:8090",
		"gantry: v1\ncallback_url: gantry.local\n": "2:1: callback_url: it is no address such as https://gantry.local:8443",
		"gantry: v1\ncallback_url: \"https://a:do-not-print@b/\"\n":                 "2:1: callback_url: it is no address such as https://gantry.local:8443",
		"gantry: v1\nsinks: {}\n":                                                   "2:1: key \"sinks\" belongs to a later release",
		"gantry: v1\nallow_pipeline_targets: false\n":                               "2:1: key \"allow_pipeline_targets\" belongs to a later release",
		"gantry: v1\nkey: do-not-print\n":                                           "2:6: key: a secret stands here as a reference, ${env:NAME} or ${file:/path}, never itself",
		"gantry: v1\nlease: 20\n":                                                   "2:8: lease: \"20\" has no unit (did you mean \"20s\"?)",
		"gantry: v1\nlease: 1ms\n":                                                  "2:8: lease: it must be at least 1s",
		"gantry: v1\nlog: {level: loud}\n":                                          "2:14: level: \"loud\" is not one of debug, info, warn, error",
		"gantry: v1\ndatabase: {password: \"${env:P}\"}\n":                          "2:12: password: it means nothing without url",
		"gantry: v1\ndatabase: {url: \"mysql://a@b/c\"}\n":                          "2:12: url: it is no URL such as postgres://user@host:5432/name",
		"gantry: v1\ndatabase: {url: \"postgres://a:do-not-print@b/c\"}\n":          "2:12: url: it holds a password, which belongs under password, as a reference",
		"gantry: v1\ndatabase: {url: \"postgres://a@b/c?password=do-not-print\"}\n": "2:12: url: it holds a password, which belongs under password, as a reference",
		"gantry: v1\ndatabase: {urll: \"postgres://a:do-not-print@b/c\"}\n":         "2:12: unknown key \"urll\" (did you mean \"url\"?)",
	} {
		d, err := ParseDeployment("/etc/gantry/gantry.yaml", []byte(src), fake{}, variables())
		problems, ok := errors.AsType[Problems](err)
		if !ok || len(problems) != 1 || d != nil {
			t.Errorf("%q: %v and %v", src, d, err)
			continue
		}
		if got := fmt.Sprintf("%d:%d: %s", problems[0].Line, problems[0].Col, problems[0].Text); got != want {
			t.Errorf("%q:\n got %s\nwant %s", src, got, want)
		}
		if strings.Contains(err.Error(), "do-not-print") {
			t.Errorf("it prints the secret:\n%s", err)
		}
	}
	if _, err := LoadDeployment(t.TempDir()+"/none.yaml", fake{}, variables()); err == nil || !strings.HasSuffix(err.Error(), "none.yaml: stat: no such file or directory") {
		t.Errorf("%v", err)
	}
}

// FuzzDeployment wants no panic, and either a deployment or mistakes that can be printed.
func FuzzDeployment(f *testing.F) {
	f.Add([]byte(deployed))
	f.Add([]byte(strings.Replace(routed, "s3\n    bucket: incoming", "dir\n    path: incoming", 1)))
	f.Add([]byte("gantry: v1\ndatabase: {url: \"postgres://a:b@c/d\"}\nlog: {}\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		d, err := ParseDeployment("/etc/gantry/gantry.yaml", src, fake{}, variables("HOST", "h"))
		problems, ok := errors.AsType[Problems](err)
		if (err == nil) != (d != nil) || err != nil && (!ok || len(problems) == 0) {
			t.Fatalf("%v and %v", d, err)
		}
		for _, p := range problems {
			if p.Text == "" || p.Caret > len([]rune(p.Source)) {
				t.Fatalf("%+v", p)
			}
		}
	})
}
