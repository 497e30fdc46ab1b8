package auth_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/gantry-imaging/gantry/internal/auth"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestResolve reads a secret from the environment and from a file, and says what is missing.
func TestResolve(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(file, []byte("from a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := func(name string) (string, bool) { return "from " + name, name == "E" }
	for ref, want := range map[string]string{"${env:E}": "from E", "${file:" + file + "}": "from a file"} {
		if got, err := auth.Resolve(gantry.SecretRef(ref), env); err != nil || got.Reveal() != want {
			t.Errorf("%s: %q, %v", ref, got.Reveal(), err)
		}
	}
	for ref, code := range map[string]gantry.Code{"${env:F}": auth.CodeSecretMissing, "${file:" + file + "x}": auth.CodeSecretMissing, "plain": auth.CodeBadReference} {
		if _, err := auth.Resolve(gantry.SecretRef(ref), env); gantry.CodeOf(err) != code {
			t.Errorf("%s: %v", ref, err)
		}
	}
}
