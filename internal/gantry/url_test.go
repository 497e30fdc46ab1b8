package gantry

import (
	"strings"
	"testing"
)

func TestWebURL(t *testing.T) {
	t.Parallel()
	for s, key := range map[string]string{
		"http://Model.test:80/v1": "http://model.test", "HTTPS://a.test:443": "https://a.test", "https://a.test:8443/x?y=1": "https://a.test:8443", "http://[::1]:80/": "http://::1",
	} {
		if got := WebTarget(s).Key(); got != key || CheckWebURL(s) != "" {
			t.Errorf("%s: %s, %s", s, got, CheckWebURL(s))
		}
	}
	for s, want := range map[string]string{
		"http://a.test/\n": "no URL", "ftp://a.test": "absolute", "http:///x": "no host", "http://me:s3cr3t@a.test": "auth", "http://a.test/#s3cr3t": "fragment", "http://a.test:0": "port",
	} {
		if got := CheckWebURL(s); !strings.Contains(got, want) || strings.Contains(got, "s3cr3t") {
			t.Errorf("%q: %s", s, got)
		}
	}
}
