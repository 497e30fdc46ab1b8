package gantry_test

import (
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func TestIsToken(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{
		"X-Api-Key": true, "x": true, "!#$%&'*+-.^_`|~0aZ": true,
		"": false, "a b": false, "a:b": false, "a\r\n": false, "ä": false, "a/b": false, `"a"`: false, "a\x7f": false, "{a}": false,
	} {
		if got := gantry.IsToken(s); got != want {
			t.Errorf("%q: %t", s, got)
		}
	}
}

func TestIsFieldValue(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{
		"": true, "a b\tc": true, "é": true, "a\r\nb": false, "a\nb": false, "a\x00": false, "a\x7f": false,
	} {
		if got := gantry.IsFieldValue(s); got != want {
			t.Errorf("%q: %t", s, got)
		}
	}
}

func TestIsSecretHeader(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"X-API-Key": true, "x-functions-key": true, "Authorization": true, "apikey": true,
		"": false, "X Key": false, "X-Key\r\nX": false, "host": false, "content-length": false, "accept": false,
		"idempotency-key": false, "Transfer-Encoding": false, "x-gantry-path": false, "If-None-Match": false,
	} {
		if got := gantry.IsSecretHeader(name); got != want {
			t.Errorf("%q: %t", name, got)
		}
	}
}

func TestIsWireHeader(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"Host", "Content-Length", "Content-Type", "Transfer-Encoding", "Te", "Upgrade", "Content-Digest", "Connection"} {
		if !gantry.IsWireHeader(key) {
			t.Errorf("%s may be set", key)
		}
	}
	for _, key := range []string{"X-Api-Key", "Authorization", "Accept", "Idempotency-Key", "User-Agent"} {
		if gantry.IsWireHeader(key) {
			t.Errorf("%s may not be set", key)
		}
	}
}
