package blob

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func TestIdentityStays(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	ids := make([]string, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			o := testOptions(dir)
			o.Worker = gantry.WorkerID(i + 1)
			d, err := OpenDir(t.Context(), o)
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = d.ID()
			d.Close()
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] || len(id) != 36 {
			t.Fatalf("ids of one store differ: %q", ids)
		}
	}
	if left := temps(t, dir); len(left) != 0 {
		t.Errorf("temporary files left: %v", left)
	}
	if other := openTest(t, testOptions(t.TempDir())); other.ID() == ids[0] {
		t.Error("two stores have one id")
	}
	text, err := os.ReadFile(filepath.Join(dir, identityFile))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, testKey) || bytes.Contains(text, []byte(hex.EncodeToString(testKey))) {
		t.Error("the identity holds the key")
	}
}

func TestWrongKeyIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	openTest(t, testOptions(dir)).Close()
	o := testOptions(dir)
	o.Key = bytes.Repeat([]byte("x"), 32)
	_, err := OpenDir(t.Context(), o)
	wantErr(t, err, gantry.Illegal, CodeWrongKey)
	if strings.Contains(err.Error(), string(testKey)) {
		t.Errorf("the error shows the key: %v", err)
	}
}

func TestDamagedIdentityIsRefused(t *testing.T) {
	t.Parallel()
	long, err := json.Marshal(identity{ID: strings.Repeat("a", maxStoreID+1), KeyCheck: "x"})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "{}", "[", `{"id":"a"}`, `{"key_check":"a"}`, string(long), "{" + strings.Repeat(" ", 1<<20) + "}"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, identityFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := OpenDir(t.Context(), testOptions(dir))
		wantErr(t, err, gantry.Illegal, gantry.CodeMalformed)
		_, err = DeploymentKey(dir, nil, rand.Reader)
		wantErr(t, err, gantry.Illegal, gantry.CodeMalformed)
	}
}

func TestDeploymentKey(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "store")
	random := bytes.Repeat([]byte{1, 2, 3, 4}, 16)
	key, err := DeploymentKey(dir, nil, bytes.NewReader(random))
	if err != nil || !bytes.Equal(key, random[:newKey]) {
		t.Fatalf("new key %x, %v", key, err)
	}
	fi, err := os.Stat(filepath.Join(dir, keyFile))
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Fatalf("key file: %v, %v", fi, err)
	}
	none := iotest.ErrReader(errors.New("no randomness is needed"))
	for _, want := range [][]byte{nil, key} {
		if again, err := DeploymentKey(dir, want, none); err != nil || !bytes.Equal(again, key) {
			t.Errorf("key again: %x, %v", again, err)
		}
	}
	_, err = DeploymentKey(dir, testKey, none)
	wantErr(t, err, gantry.Illegal, CodeWrongKey)
	_, err = DeploymentKey(dir, key[:minKey-1], none)
	wantErr(t, err, gantry.Illegal, CodeWrongKey)
	if left := temps(t, dir); len(left) != 0 {
		t.Errorf("temporary files left: %v", left)
	}
}

func TestDeploymentKeyFirstWins(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keys := make([][]byte, 8)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			var err error
			if keys[i], err = DeploymentKey(dir, nil, rand.Reader); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, k := range keys {
		if len(k) != newKey || !bytes.Equal(k, keys[0]) {
			t.Fatalf("keys differ: %x", keys)
		}
	}
}

// The one that comes second learns what the first one wrote.
func TestCreateOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, text := range []string{"first", "second"} {
		if got, err := createOnce(dir, "file", []byte(text), rand.Reader); err != nil || string(got) != "first" {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	if left := temps(t, dir); len(left) != 0 {
		t.Errorf("temporary files left: %v", left)
	}
}

func TestLostKeyIsNotReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key, err := DeploymentKey(dir, testKey, rand.Reader)
	if err != nil || !bytes.Equal(key, testKey) {
		t.Fatalf("key %x, %v", key, err)
	}
	openTest(t, testOptions(dir)).Close()
	if err := os.Remove(filepath.Join(dir, keyFile)); err != nil {
		t.Fatal(err)
	}
	_, err = DeploymentKey(dir, nil, rand.Reader)
	wantErr(t, err, gantry.Illegal, CodeWrongKey)
	if !strings.Contains(err.Error(), "configure the key") {
		t.Errorf("the error does not say what to do: %v", err)
	}
	_, err = DeploymentKey(dir, bytes.Repeat([]byte("x"), 32), rand.Reader)
	wantErr(t, err, gantry.Illegal, CodeWrongKey)
	if _, err := os.Stat(filepath.Join(dir, keyFile)); err == nil {
		t.Fatal("a refused key was kept")
	}
	if key, err = DeploymentKey(dir, testKey, rand.Reader); err != nil || !bytes.Equal(key, testKey) {
		t.Fatalf("the right key: %x, %v", key, err)
	}
}

func TestDamagedKeyIsRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "abcd", "zz", strings.Repeat("a", 31)} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, keyFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := DeploymentKey(dir, nil, rand.Reader)
		wantErr(t, err, gantry.Illegal, gantry.CodeMalformed)
	}
	if _, err := DeploymentKey(t.TempDir(), nil, strings.NewReader("short")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a key of too little randomness: %v", err)
	}
}
