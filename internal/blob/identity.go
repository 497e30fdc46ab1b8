package blob

import (
	"bytes"
	"context"
	"crypto/hmac"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	identityFile = "identity.json"
	keyFile      = "key"
	minKey       = 16 // bytes; shorter keys can be guessed
	newKey       = 32
	maxSmallFile = 4 << 10
)

// identity is what identity.json holds.
type identity struct {
	ID       string    `json:"id"`
	Created  time.Time `json:"created"`
	KeyCheck string    `json:"key_check"` // a MAC: tells whether a key is the right one, and nothing about it
}

func keyCheck(key []byte, id string) string {
	return gantry.MAC(key, "gantry blob store", id).String()
}

// DeploymentKey gives the key under which the deployment makes its ids. The store in dir keeps a
// copy of it (dir/key, hexadecimal, mode 0600), so that a lost database gives the same ids again.
// It reads the copy; a store without one gets want, or 32 bytes of rand if want is empty. A want
// that differs from the copy, or a store whose copy was lost and cannot be checked, is refused
// with code wrong_key: ids made under another key would not be the same.
func DeploymentKey(dir string, want []byte, rand io.Reader) ([]byte, error) {
	if len(want) > 0 && len(want) < minKey {
		return nil, gantry.Errorf(gantry.Illegal, CodeWrongKey, "deployment key: it has %d bytes and needs %d or more", len(want), minKey)
	}
	if err := makeDir(dir); err != nil {
		return nil, diskError("make blob store", err)
	}
	text, err := readSmall(filepath.Join(dir, keyFile))
	if errors.Is(err, fs.ErrNotExist) {
		text, err = createKey(dir, want, rand)
	}
	if err != nil {
		return nil, diskError("read deployment key", err)
	}
	key, err := hex.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil || len(key) < minKey {
		return nil, gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "read deployment key: the copy in the blob store is not %d or more bytes in hexadecimal", minKey)
	}
	if len(want) > 0 && !hmac.Equal(key, want) {
		return nil, gantry.Errorf(gantry.Illegal, CodeWrongKey, "deployment key: the configured key is not the one that the blob store was made with")
	}
	return key, nil
}

// About is what a store says of itself.
type About struct {
	ID    string
	Owner Owner
}

// Inspect reads the identity of the store in dir and holds the store's copy of the key, and want if it
// is not empty, to it. It changes nothing. A store that was never opened gives fs.ErrNotExist; a key
// that is not the store's, and a copy that was lost, are Illegal with code wrong_key.
func Inspect(dir string, want []byte) (About, error) {
	x, err := readIdentity(dir)
	if err != nil {
		return About{}, err
	}
	if err := checkCopy(dir, want, x); err != nil {
		return About{ID: x.ID}, err
	}
	o, err := folder{root: dir}.readOwner(context.Background())
	return About{x.ID, o}, err
}

// checkCopy holds the store's copy of the key, and want if it is not empty, to its identity.
func checkCopy(dir string, want []byte, x identity) error {
	text, err := readSmall(filepath.Join(dir, keyFile))
	switch {
	case errors.Is(err, fs.ErrNotExist) && len(want) == 0:
		return gantry.Errorf(gantry.Illegal, CodeWrongKey, "deployment key: the blob store has lost its copy")
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	key, herr := hex.DecodeString(string(bytes.TrimSpace(text)))
	if err == nil && (herr != nil || keyCheck(key, x.ID) != x.KeyCheck) {
		return gantry.Errorf(gantry.Illegal, CodeWrongKey, "deployment key: the copy in the blob store is not the key that it was made with")
	}
	if len(want) > 0 && keyCheck(want, x.ID) != x.KeyCheck {
		return gantry.Errorf(gantry.Illegal, CodeWrongKey, "deployment key: the configured key is not the one that the blob store was made with")
	}
	return nil
}

func createKey(dir string, want []byte, rand io.Reader) ([]byte, error) {
	id, err := readIdentity(dir)
	switch {
	case err == nil && len(want) == 0:
		return nil, gantry.Errorf(gantry.Illegal, CodeWrongKey, "deployment key: the blob store has lost its copy; configure the key that it was made with")
	case err == nil && keyCheck(want, id.ID) != id.KeyCheck:
		return nil, gantry.Errorf(gantry.Illegal, CodeWrongKey, "deployment key: the configured key is not the one that the blob store was made with")
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	if len(want) == 0 {
		want = make([]byte, newKey)
		if _, err := io.ReadFull(rand, want); err != nil {
			return nil, fmt.Errorf("make key: %w", err)
		}
	}
	return createOnce(dir, keyFile, []byte(hex.EncodeToString(want)+"\n"), rand)
}

// openIdentity gives the store's id; the first process to come makes it.
func openIdentity(root string, key []byte, e env) (string, error) {
	id, err := readIdentity(root)
	if errors.Is(err, fs.ErrNotExist) {
		fresh := identity{ID: gantry.NewIDs(e.now, e.rand).New().String(), Created: e.now().UTC().Truncate(time.Second)}
		fresh.KeyCheck = keyCheck(key, fresh.ID)
		text, _ := json.MarshalIndent(fresh, "", "  ") // two strings and a time: cannot fail
		if text, err = createOnce(root, identityFile, append(text, '\n'), e.rand); err == nil {
			id, err = parseIdentity(text)
		}
	}
	if err != nil {
		return "", diskError("read blob store's identity", err)
	}
	if id.KeyCheck != keyCheck(key, id.ID) {
		return "", gantry.Errorf(gantry.Illegal, CodeWrongKey, "open blob store %s: it was made with another deployment key", id.ID)
	}
	return id.ID, nil
}

func readIdentity(root string) (identity, error) {
	text, err := readSmall(filepath.Join(root, identityFile))
	if err != nil {
		return identity{}, err
	}
	return parseIdentity(text)
}

func parseIdentity(text []byte) (identity, error) {
	var id identity
	if err := json.Unmarshal(text, &id); err != nil || id.ID == "" || len(id.ID) > maxStoreID || id.KeyCheck == "" {
		return id, gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "read blob store's identity: identity.json is damaged")
	}
	return id, nil
}

// createOnce writes a file that appears whole or not at all, and gives what it holds then: if
// another process was first, that process's content.
func createOnce(dir, name string, data []byte, rand io.Reader) ([]byte, error) {
	var suffix [8]byte
	if _, err := io.ReadFull(rand, suffix[:]); err != nil {
		return nil, fmt.Errorf("make name: %w", err)
	}
	temp := filepath.Join(dir, tempPrefix+hex.EncodeToString(suffix[:]))
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer os.Remove(temp)
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	// A link fails if the name is taken; a rename would replace what another process made.
	path := filepath.Join(dir, name)
	if err := os.Link(temp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if err := syncDir(dir); err != nil {
		return nil, err
	}
	return readSmall(path)
}

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxSmallFile))
}
