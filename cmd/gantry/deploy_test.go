package main

import (
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/pipeline"
)

// root is the top of the repository.
const root = "../.."

// compose is docker-compose.yml as far as it is checked here: no Docker runs in the tests.
type compose struct {
	Name     string
	Services map[string]service
	Volumes  map[string]any
	Secrets  map[string]map[string]string
}

type service struct {
	Image       string
	Build       map[string]string
	Command     []string
	Environment map[string]string
	Ports       []string
	Volumes     []string
	Secrets     []string
	Profiles    []string
	NetworkMode string `yaml:"network_mode"`
	Restart     string
	Healthcheck struct{ Test []string }
	DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
	Rest        map[string]any                        `yaml:",inline"`
}

func readCompose(t *testing.T) compose {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, "docker-compose.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var c compose
	if err := yaml.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// parses tells whether a command line is one of this program.
func parses(t *testing.T, args []string) {
	t.Helper()
	parser, err := newParser(t.Context(), console{io.Discard, io.Discard})
	if err == nil {
		_, err = parser.Parse(args)
	}
	if err != nil {
		t.Errorf("gantry %q: %v", args, err)
	}
}

var published = regexp.MustCompile(`^127\.0\.0\.1:\$\{[A-Z0-9_]+:-\d+\}:\d+$`)

// TestComposePublishesOnLoopback holds every service to what the deployment promises: ports on loopback
// alone, a health check, and an image with a tag.
func TestComposePublishesOnLoopback(t *testing.T) {
	c := readCompose(t)
	for _, want := range []string{"postgres", "s3", "gantry", "models", "orthanc", "prometheus"} {
		if _, ok := c.Services[want]; !ok {
			t.Errorf("no service %s", want)
		}
	}
	for name, s := range c.Services {
		for _, p := range s.Ports {
			if !published.MatchString(p) {
				t.Errorf("%s publishes %q", name, p)
			}
		}
		if s.NetworkMode != "" && (s.NetworkMode == "host" || len(s.Ports) > 0) {
			t.Errorf("%s has the network %q and ports %v", name, s.NetworkMode, s.Ports)
		}
		if len(s.Healthcheck.Test) < 2 || s.Healthcheck.Test[0] != "CMD" || s.Restart == "" {
			t.Errorf("%s has no health check, or is not started again", name)
		}
		if !strings.Contains(s.Image, ":") {
			t.Errorf("%s: image %q has no tag", name, s.Image)
		}
		if optional := name == "orthanc" || name == "prometheus"; optional != (len(s.Profiles) > 0) {
			t.Errorf("%s has profiles %v", name, s.Profiles)
		}
	}
	if published.MatchString("${S3_PORT:-7070}:7070") || published.MatchString("0.0.0.0:${S3_PORT:-7070}:7070") {
		t.Error("the check lets through what it is there for")
	}
}

// TestComposeFitsTogether: what services name is defined, and no secret stands in the file.
func TestComposeFitsTogether(t *testing.T) {
	c := readCompose(t)
	for name, s := range c.Services {
		for _, v := range s.Volumes {
			from, _, _ := strings.Cut(v, ":")
			if strings.HasPrefix(from, "./") {
				if _, err := os.Stat(filepath.Join(root, from)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			} else if _, ok := c.Volumes[from]; !ok {
				t.Errorf("%s: no volume %s", name, from)
			}
		}
		for _, x := range s.Secrets {
			if _, ok := c.Secrets[x]; !ok {
				t.Errorf("%s: no secret %s", name, x)
			}
		}
		if s.Rest["read_only"] == true && len(s.Secrets) > 0 {
			t.Errorf("%s: Compose copies a secret that is no file into the container, which it refuses where the root is read-only", name)
		}
		others := []string{strings.TrimPrefix(s.NetworkMode, "service:")}
		for d, on := range s.DependsOn {
			others = append(others, d)
			if on.Condition == "service_healthy" && len(c.Services[d].Healthcheck.Test) == 0 {
				t.Errorf("%s waits for the health of %s, which has none", name, d)
			}
		}
		for _, o := range others {
			if _, ok := c.Services[o]; o != "" && !ok {
				t.Errorf("%s: no service %s", name, o)
			}
		}
		for key, value := range s.Environment {
			secret := regexp.MustCompile(`PASSWORD|SECRET|KEY|USERS$|TOKEN`).MatchString(key) && !strings.HasSuffix(key, "_FILE")
			if secret && !strings.HasPrefix(value, "${") {
				t.Errorf("%s: %s stands in the file", name, key)
			}
		}
	}
	for name, from := range c.Secrets {
		if from["environment"] == "" || len(from) != 1 {
			t.Errorf("secret %s comes from %v", name, from)
		}
	}
}

// TestComposeRunsGantry parses the commands and health checks of services that run this program.
func TestComposeRunsGantry(t *testing.T) {
	n := 0
	for _, s := range readCompose(t).Services {
		if s.Image != "gantry:local" {
			continue
		}
		n++
		parses(t, s.Command)
		if s.Healthcheck.Test[1] != "gantry" {
			t.Errorf("health check %v", s.Healthcheck.Test)
		}
		parses(t, s.Healthcheck.Test[2:])
		if s.Rest["read_only"] != true || s.Rest["cap_drop"] == nil {
			t.Errorf("a container of gantry may do more than it needs: %v", s.Rest)
		}
	}
	if n != 2 {
		t.Errorf("%d services run gantry", n)
	}
}

// TestDeployFiles reads what the image holds: the deployment file, its pipelines, and that Prometheus
// scrapes where gantry listens.
func TestDeployFiles(t *testing.T) {
	d, err := pipeline.LoadDeployment(root+"/deploy/gantry.yaml", all.Drivers(), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pipeline.LoadAll(d.Pipelines, all.Drivers(), os.LookupEnv)
	if err != nil || len(list) == 0 {
		t.Fatalf("%d pipelines: %v", len(list), err)
	}
	for _, p := range list {
		if err := pipeline.Servable(p); err != nil {
			t.Error(err)
		}
	}
	c := readCompose(t)
	if _, ok := c.Services["postgres"]; !ok || !strings.Contains(d.Database.URL, "@postgres:5432/"+c.Services["postgres"].Environment["POSTGRES_DB"]) {
		t.Errorf("database %s", d.Database.URL)
	}
	name, _ := strings.CutPrefix(strings.TrimSuffix(string(d.Database.Password), "}"), "${env:")
	if v := c.Services["gantry"].Environment[name]; !strings.HasPrefix(v, "${"+c.Secrets[c.Services["postgres"].Secrets[0]]["environment"]+":?") {
		t.Errorf("the password is at %s, which is %q", d.Database.Password, v)
	}
	b, err := os.ReadFile(root + "/deploy/prometheus.yml")
	if err != nil || !strings.Contains(string(b), `"`+d.Listen+`"`) || d.Listen != defaultListen {
		t.Errorf("gantry listens on %s, gantry health asks %s; Prometheus scrapes\n%s", d.Listen, defaultListen, b)
	}
	if host, _, err := net.SplitHostPort(d.Listen); err != nil || host != "127.0.0.1" {
		t.Errorf("it listens on %s", d.Listen)
	}
}

// TestDockerfile: what is copied is there, the commands are commands of gantry, and nothing runs as root.
func TestDockerfile(t *testing.T) {
	b, err := os.ReadFile(root + "/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(b), "\\\n", " ")
	last := map[string]string{}
	for line := range strings.Lines(text) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		last[word] = rest
		fields := strings.Fields(rest)
		if word == "COPY" && !strings.HasPrefix(rest, "--from") {
			for _, from := range fields[:len(fields)-1] {
				if _, err := os.Stat(filepath.Join(root, from)); err != nil {
					t.Error(err)
				}
			}
		}
	}
	words := func(s string) (out []string) {
		if err := json.Unmarshal([]byte(s), &out); err != nil {
			t.Errorf("%s: %v", s, err)
		}
		return out
	}
	if user := last["USER"]; user == "" || strings.HasPrefix(user, "0") || strings.HasPrefix(user, "root") {
		t.Errorf("it runs as %q", user)
	}
	if !slices.Equal(words(last["ENTRYPOINT"]), []string{"gantry"}) {
		t.Errorf("entry point %s", last["ENTRYPOINT"])
	}
	parses(t, words(last["CMD"]))
	_, health, _ := strings.Cut(last["HEALTHCHECK"], "CMD ")
	parses(t, words(health)[1:])
	for _, p := range []string{"ffmpeg", "dcmtk", "libopenjp2-tools", "ca-certificates"} {
		if !strings.Contains(text, " "+p+" ") {
			t.Errorf("the image has no %s", p)
		}
	}
	mod, err := os.ReadFile(root + "/go.mod")
	if version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(string(mod)); err != nil || version == nil || !strings.Contains(text, "FROM golang:"+version[1]+"-") {
		t.Errorf("it is built with another Go than go.mod's %v", version)
	}
}
