package http

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

func TestTarget(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"http://model.test/v1/score?x=1": "http://model.test",
		"HTTP://Model.Test:80/":          "http://model.test",
		"https://model.test:443":         "https://model.test",
		"https://model.test:8443/a":      "https://model.test:8443",
		"http://model.test:443":          "http://model.test:443",
		"http://[::1]:8000/x":            "http://::1:8000",
		"http://10.0.0.9":                "http://10.0.0.9",
	} {
		if got := (ProcessorConfig{URL: url}).Target().Key(); got != want {
			t.Errorf("%s: target %q, want %q", url, got, want)
		}
	}
}

func TestCheckAccepts(t *testing.T) {
	t.Parallel()
	for _, c := range []ProcessorConfig{
		{URL: "http://model.test"},
		{URL: "https://model.test:8443/v1/score?threshold=0.5&x=%20", Body: "raw"},
		{URL: "http://[2001:db8::1]:80/x", Body: "zip", Accept: "image/png"},
		{URL: "http://model.test", Body: "multipart", Field: "image[]", Metadata: `{"threshold": 0.5}`, KeyHeader: "X-Idempotency-Key"},
		{URL: "http://model.test", Body: "json", Field: "metadata", Metadata: "{}", Answer: "base64"},
		{URL: "http://model.test", Answer: "multipart"},
		{URL: "http://[::1]/x", Headers: map[string]string{"X-Model": "lung v2", "user-agent": "us", "Prefer": ""}},
	} {
		if found := c.Check(); len(found) != 0 {
			t.Errorf("%+v: %v", c, found)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	t.Parallel()
	const url = "http://model.test/"
	header := func(name, value string) ProcessorConfig {
		return ProcessorConfig{URL: url, Headers: map[string]string{name: value}}
	}
	for _, c := range []struct {
		config ProcessorConfig
		key    string
		text   string
	}{
		{ProcessorConfig{}, "url", "absolute"},
		{ProcessorConfig{URL: "/v1/score"}, "url", "absolute"},
		{ProcessorConfig{URL: "model.test/v1"}, "url", "absolute"},
		{ProcessorConfig{URL: "ftp://model.test"}, "url", "absolute"},
		{ProcessorConfig{URL: "http:model.test"}, "url", "no host"},
		{ProcessorConfig{URL: "http:///v1"}, "url", "no host"},
		{ProcessorConfig{URL: "http://:80/v1"}, "url", "no host"},
		{ProcessorConfig{URL: "http://me:s3cr3t@model.test/"}, "url", "auth"},
		{ProcessorConfig{URL: "http://s3cr3t@model.test/"}, "url", "auth"},
		{ProcessorConfig{URL: url + "#top"}, "url", "fragment"},
		{ProcessorConfig{URL: url + "#"}, "url", "fragment"},
		{ProcessorConfig{URL: "http://model.test:0/"}, "url", "port"},
		{ProcessorConfig{URL: "http://model.test:/"}, "url", "port"},
		{ProcessorConfig{URL: "http://model.test:65536/"}, "url", "port"},
		{ProcessorConfig{URL: "http://[::1]:65536/"}, "url", "port"},
		{ProcessorConfig{URL: "http://model.test:s3cr3t/"}, "url", "no URL"},
		{ProcessorConfig{URL: "http://model.test/\n"}, "url", "no URL"},
		{ProcessorConfig{URL: url, Body: "form"}, "body", `"form"`},
		{ProcessorConfig{URL: url, Answer: "zip"}, "answer", `"zip"`},
		{ProcessorConfig{URL: url, Field: `a"b`}, "field", "form"},
		{ProcessorConfig{URL: url, Field: "a\r\nb"}, "field", "form"},
		{ProcessorConfig{URL: url, Field: "ä"}, "field", "form"},
		{ProcessorConfig{URL: url, Field: strings.Repeat("x", 129)}, "field", "128"},
		{ProcessorConfig{URL: url, Field: "metadata", Body: "multipart", Metadata: "{}"}, "field", "metadata"},
		{ProcessorConfig{URL: url, Metadata: "{}"}, "metadata", "body"},
		{ProcessorConfig{URL: url, Body: "zip", Metadata: "{}"}, "metadata", "body"},
		{ProcessorConfig{URL: url, Body: "json", Metadata: `["s3cr3t"]`}, "metadata", "object"},
		{ProcessorConfig{URL: url, Body: "json", Metadata: `{"s3cr3t"`}, "metadata", "object"},
		{ProcessorConfig{URL: url, Body: "json", Metadata: " null "}, "metadata", "object"},
		{ProcessorConfig{URL: url, Body: "json", Metadata: `{"a":"` + strings.Repeat("x", 64<<10) + `"}`}, "metadata", "65536"},
		{ProcessorConfig{URL: url, KeyHeader: "X Y"}, "key_header", "name"},
		{ProcessorConfig{URL: url, KeyHeader: "content-length"}, "key_header", "Content-Length"},
		{ProcessorConfig{URL: url, KeyHeader: "Authorization"}, "key_header", "Authorization"},
		{ProcessorConfig{URL: url, KeyHeader: "X-Id", Headers: map[string]string{"x-id": "1"}}, "key_header", "X-Id"},
		{ProcessorConfig{URL: url, KeyHeader: "Idempotency-Key", Headers: map[string]string{"Idempotency-Key": "1"}}, "headers", "Idempotency-Key"},
		{ProcessorConfig{URL: url, Accept: "a\r\nb: c"}, "accept", "control"},
		{header("Authorization", "Bearer s3cr3t"), "headers", "auth"},
		{header("authorization", "Bearer s3cr3t"), "headers", "auth"},
		{header("Host", "other.test"), "headers", "Host"},
		{header("content-length", "1"), "headers", "Content-Length"},
		{header("Content-Type", "image/png"), "headers", "Content-Type"},
		{header("Transfer-Encoding", "chunked"), "headers", "Transfer-Encoding"},
		{header("Connection", "close"), "headers", "Connection"},
		{header("TE", "trailers"), "headers", "Te"},
		{header("Upgrade", "h2c"), "headers", "Upgrade"},
		{header("Idempotency-Key", "1"), "headers", "Idempotency-Key"},
		{header("Accept-Encoding", "gzip"), "headers", "Accept-Encoding"},
		{header("Accept", "image/png"), "headers", "accept"},
		{header("Proxy-Authorization", "s3cr3t"), "headers", "Proxy-Authorization"},
		{header("", "x"), "headers", "name"},
		{header("X Y", "x"), "headers", "name"},
		{header("X:Y", "x"), "headers", "name"},
		{header("X-Ä", "x"), "headers", "name"},
		{header("X-Y", "s3cr3t\r\nX-Z: 1"), "headers", "control"},
		{header("X-Y", "s3cr3t\x00"), "headers", "control"},
		{ProcessorConfig{URL: url, Headers: map[string]string{"X-A": "1", "x-a": "2"}}, "headers", "twice"},
	} {
		found := c.config.Check()
		if len(found) != 1 || found[0].Key != c.key || !strings.Contains(found[0].Text, c.text) {
			t.Errorf("%+v: %q, want one of %s with %q", c.config, found, c.key, c.text)
			continue
		}
		if strings.Contains(found[0].Text, "s3cr3t") {
			t.Errorf("%+v: the text quotes a secret: %s", c.config, found[0].Text)
		}
		p, err := NewProcessor(t.Context(), c.config, drivertest.Egress(t))
		if p != nil || gantry.KindOf(err) != gantry.Illegal || gantry.CodeOf(err) != CodeBadConfig {
			t.Errorf("%+v: NewProcessor gave %v, %v", c.config, p, err)
		}
	}
}

func TestCheckFindsEverything(t *testing.T) {
	t.Parallel()
	c := ProcessorConfig{URL: "x", Body: "y", Accept: "\n", Headers: map[string]string{"Host": "h", "b c": "d"}}
	var keys []string
	for _, p := range c.Check() {
		keys = append(keys, p.Key)
	}
	if diff := cmp.Diff([]string{"url", "body", "accept", "headers", "headers"}, keys); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
