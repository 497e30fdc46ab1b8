package gantry

import (
	"encoding/base64"
	"strings"
	"testing"
)

// TestToken reads what was written, and nothing else.
func TestToken(t *testing.T) {
	t.Parallel()
	key := []byte("deployment key")
	for _, s := range []Submission{
		{Task: 1, Try: 1},
		{Task: 1 << 62, Try: 32767, PartKey: PartKey{Leg: 1, Stage: 2, Processor: 3, Ordinal: 1 << 30, Generation: 5}},
	} {
		token := s.Token(key)
		got, ok := ParseToken(key, token)
		if !ok || got != s {
			t.Errorf("%+v came back as %+v, %v", s, got, ok)
		}
		if len(token) != 52 || strings.Trim(token, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
			t.Errorf("%q is no part of a path", token)
		}
		if _, ok := ParseToken([]byte("another key"), token); ok {
			t.Error("a token of another deployment is taken")
		}
		raw, _ := base64.RawURLEncoding.DecodeString(token)
		for i := range raw {
			for bit := range 8 {
				raw[i] ^= 1 << bit
				if x, ok := ParseToken(key, base64.RawURLEncoding.EncodeToString(raw)); ok {
					t.Errorf("byte %d changed, and it is still taken, as %+v", i, x)
				}
				raw[i] ^= 1 << bit
			}
		}
		for _, bad := range []string{"", token[1:], token + "A", token[:51] + "=", token[:51] + "\n", strings.Repeat("A", 52), "../" + token[3:]} {
			if _, ok := ParseToken(key, bad); ok {
				t.Errorf("%q is taken", bad)
			}
		}
	}
}

// FuzzParseToken holds what is taken to the one way in which it is written.
func FuzzParseToken(f *testing.F) {
	key := []byte("k")
	f.Add(Submission{Task: 7, Try: 1}.Token(key))
	f.Add("")
	f.Add(strings.Repeat("_", 52))
	f.Fuzz(func(t *testing.T, token string) {
		if s, ok := ParseToken(key, token); ok && s.Token(key) != token {
			t.Errorf("%q means %+v, which is written otherwise", token, s)
		}
	})
}

// TestVerdictNames holds the numbers that stand in the database to their names.
func TestVerdictNames(t *testing.T) {
	t.Parallel()
	for v, want := range []string{"accepted", "duplicate", "late", "forged", "running", "unknown"} {
		if got := Verdict(v).String(); got != want {
			t.Errorf("%d is %s, want %s", v, got, want)
		}
	}
}
