package auth

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// signedBy refuses the first key, as a server does whose keys were changed, and notes who signed.
type signedBy struct{ keys []string }

// RoundTrip answers 403 to the first key.
func (s *signedBy) RoundTrip(req *http.Request) (*http.Response, error) {
	_, rest, _ := strings.Cut(req.Header.Get("Authorization"), "Credential=")
	key, _, _ := strings.Cut(rest, "/")
	s.keys = append(s.keys, key)
	status := http.StatusOK
	if key == "AKIDFIRST" {
		status = http.StatusForbidden
	}
	return &http.Response{StatusCode: status, Body: http.NoBody}, nil
}

// What the SDK's default chain gave is forgotten too, although the chain has a memory of its own.
func TestRefusedCredentialsOfTheChainAreTakenAnew(t *testing.T) {
	file := filepath.Join(t.TempDir(), "credentials")
	write := func(key string) {
		t.Helper()
		if err := os.WriteFile(file, []byte("[default]\naws_access_key_id = "+key+"\naws_secret_access_key = secret\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	write("AKIDFIRST")
	server := &signedBy{}
	rt, err := Wrap(server, &gantry.Credential{Name: "x", Kind: "aws"}, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	send := func() {
		t.Helper()
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodHead, "http://127.0.0.1/in/x", nil)
		resp, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	send()
	write("AKIDSECOND")
	send()
	if got := strings.Join(server.keys, " "); got != "AKIDFIRST AKIDSECOND" {
		t.Errorf("signed with %s", got)
	}
	send() // what is well is kept
	write("AKIDTHIRD")
	send()
	if got := server.keys[3]; got != "AKIDSECOND" {
		t.Errorf("signed with %s", got)
	}
}
