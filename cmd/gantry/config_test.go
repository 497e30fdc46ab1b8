package main

import (
	"bytes"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
)

// configured writes a deployment file for a database whose password it refers to.
func configured(t *testing.T, more string) (file, password string) {
	t.Helper()
	u, err := url.Parse(postgrestest.DSN(t))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	password, secret := "s3cret-of-the-test", filepath.Join(dir, "password")
	if err := os.WriteFile(secret, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, "gantry.yaml")
	text := "gantry: v1\nhome: home\ndatabase: {url: " + quoted(u.String()) + ", password: \"${file:" + secret + "}\"}\n" + more
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file, password
}

func quoted(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// TestDeploymentFile opens the database and the home that a file names, with the password that it refers
// to, and lets flags go before it.
func TestDeploymentFile(t *testing.T) {
	file, password := configured(t, "pipelines: "+quoted(mustAbs(t, "../../pipelines/fanout.yaml"))+"\nlog: {level: info, format: json}\n")
	code, out, errs := typed(t, "--config", file, "task", "ls")
	if code != exitOK || !strings.HasPrefix(out, "TASK ") || errs != "" {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
	if code, out, errs = typed(t, "--config", file, "doctor", "--json"); !strings.Contains(out, `"target dir:`) || !strings.Contains(out, filepath.Join(filepath.Dir(file), "home", "blobs")) || strings.Contains(out, password) {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
	if code, out, _ = typed(t, "--config", file, "check"); code != exitOK || out[:strings.Index(out, "\n")] != "ok  "+file || !strings.Contains(out, "ok  fanout  ") {
		t.Errorf("%d\n%s", code, out)
	}
	if code, _, errs = typed(t, "--config", file, "--database-url", "postgres://nobody@127.0.0.1:1/x", "task", "ls"); code != exitFailed || !strings.Contains(errs, "connect to") {
		t.Errorf("%d\n%s", code, errs)
	}
	t.Setenv("GANTRY_CONFIG", file)
	if code, out, _ = typed(t, "call", "ls"); code != exitOK || !strings.HasPrefix(out, "CALL ") {
		t.Errorf("%d\n%s", code, out)
	}
	if err := os.Remove(filepath.Join(filepath.Dir(file), "password")); err != nil {
		t.Fatal(err)
	}
	if code, _, errs = typed(t, "call", "ls"); code != exitUsage || !strings.Contains(errs, "database password: ") {
		t.Errorf("%d\n%s", code, errs)
	}
}

func mustAbs(t *testing.T, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

// TestDeploymentFileIsStrict: every command that reads it says what is wrong with it, as check does.
func TestDeploymentFileIsStrict(t *testing.T) {
	file, _ := configured(t, "lissen: 127.0.0.1:1\n")
	for _, args := range [][]string{{"check"}, {"serve"}, {"worker"}, {"doctor"}, {"task", "ls"}, {"run", "-f", file, file}} {
		code, out, errs := typed(t, append([]string{"--config", file}, args...)...)
		if code != exitUsage || args[0] != "run" && !strings.Contains(out+errs, "gantry.yaml:4:1: unknown key \"lissen\" (did you mean \"listen\"?)\n    lissen: 127.0.0.1:1\n    ^") {
			t.Errorf("%v: %d\n%s%s", args, code, out, errs)
		}
	}
	if code, _, errs := typed(t, "check"); code != exitUsage || !strings.Contains(errs, "nothing to check") {
		t.Errorf("%d %s", code, errs)
	}
	if code, _, errs := typed(t, "serve"); code != exitUsage || !strings.Contains(errs, "--pipelines") {
		t.Errorf("%d %s", code, errs)
	}
}

// TestLogFormat writes what it logs as JSON, from the level on.
func TestLogFormat(t *testing.T) {
	for _, c := range []struct{ level, format, want string }{
		{"", "", "level=WARN msg=b\n"}, {"info", "", "msg=a\n"}, {"error", "text", ""}, {"debug", "json", `"msg":"a"}`},
	} {
		var b bytes.Buffer
		l := newLog(&b, c.level, c.format)
		l.Info("a")
		l.Warn("b")
		if got := b.String(); !strings.Contains(got, c.want) || c.want == "" && got != "" || c.format == "json" && !json.Valid([]byte(strings.SplitN(got, "\n", 2)[0])) {
			t.Errorf("%+v: %s", c, got)
		}
	}
	if code, _, errs := typed(t, "--log-format", "xml", "version"); code != exitUsage || !strings.Contains(errs, "--log-format") {
		t.Errorf("%d %s", code, errs)
	}
}
