package auth

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Secret is a text that no printer, marshaller or logger shows. It lies behind a pointer because
// fmt prints what is in an unexported field, or under %p, without asking its methods.
type Secret struct{ text *string }

const hidden = "[secret]"

// NewSecret hides a text.
func NewSecret(text string) Secret { return Secret{&text} }

// Reveal gives the text itself, for the wire and nothing else; empty for the zero Secret.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// String hides the text.
func (s Secret) String() string { return hidden }

// GoString hides the text from %#v.
func (s Secret) GoString() string { return hidden }

// Format hides the text from every verb.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, hidden) }

// MarshalJSON hides the text.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + hidden + `"`), nil }

// MarshalText hides the text, also from YAML and XML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// LogValue hides the text from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// maxSecret is the largest file that is taken for a secret, in bytes.
const maxSecret = 64 << 10

// secret is a reference that is resolved anew at each use.
type secret struct {
	ref  gantry.SecretRef
	env  func(string) (string, bool)
	name string // of the environment variable; empty for a file
	file string

	mu    sync.Mutex
	stamp stamp  // of the file when it was read
	kept  Secret // what it held
}

// stamp tells two contents of a file apart. A secret that is mounted into a container is replaced
// by another file, and that may be older.
type stamp struct {
	mtime time.Time
	size  int64
	info  os.FileInfo
}

func (s stamp) same(o stamp) bool {
	return s.info != nil && s.mtime.Equal(o.mtime) && s.size == o.size && os.SameFile(s.info, o.info)
}

// parseRef reads ${env:NAME} or ${file:/absolute/path}. Its error does not quote what is no
// reference, since that may be a secret.
func parseRef(ref gantry.SecretRef, env func(string) (string, bool)) (*secret, error) {
	s := &secret{ref: ref, env: env}
	body, ok := strings.CutPrefix(string(ref), "${")
	body, closed := strings.CutSuffix(body, "}")
	kind, value, _ := strings.Cut(body, ":")
	switch {
	case !ok || !closed || value == "" || strings.ContainsAny(value, "${}\x00"):
	case kind == "env" && !strings.Contains(value, "="):
		s.name = value
		return s, nil
	case kind == "file" && filepath.IsAbs(value):
		s.file = value
		return s, nil
	}
	return nil, gantry.Errorf(gantry.Illegal, CodeBadReference, "not a reference to a secret: want ${env:NAME} or ${file:/absolute/path}")
}

// resolve gives the secret as it is now. One that is not there is Denied with code
// secret_missing, one that cannot stand in a header Denied with code secret_malformed.
func (s *secret) resolve() (Secret, error) {
	v, err := s.read()
	switch {
	case err != nil:
		return Secret{}, err
	case v.Reveal() == "":
		return Secret{}, s.missing("empty")
	case strings.ContainsFunc(v.Reveal(), func(r rune) bool { return r < ' ' || r == 0x7f }):
		return Secret{}, gantry.Errorf(gantry.Denied, CodeSecretMalformed, "read secret %s: it holds a control character", s.ref)
	}
	return v, nil
}

func (s *secret) read() (Secret, error) {
	if s.file != "" {
		return s.readFile()
	}
	v, ok := s.env(s.name)
	if !ok {
		return Secret{}, s.missing("not set")
	}
	return NewSecret(v), nil
}

// readFile reads the file if it is not the one that was read last.
func (s *secret) readFile() (Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	info, err := os.Stat(s.file)
	if err != nil {
		return Secret{}, s.missing(plain(err))
	}
	now := stamp{info.ModTime(), info.Size(), info}
	if s.stamp.same(now) {
		return s.kept, nil
	}
	if !info.Mode().IsRegular() {
		return Secret{}, s.missing("not a file")
	}
	f, err := os.Open(s.file)
	if err != nil {
		return Secret{}, s.missing(plain(err))
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return Secret{}, s.missing(plain(err))
	}
	if len(b) > maxSecret {
		return Secret{}, gantry.Errorf(gantry.Denied, CodeSecretMalformed, "read secret %s: over %d bytes", s.ref, maxSecret)
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	s.stamp, s.kept = now, NewSecret(text)
	return s.kept, nil
}

func (s *secret) missing(why string) error {
	return gantry.Errorf(gantry.Denied, CodeSecretMissing, "read secret %s: %s", s.ref, why)
}

// plain is an error's cause without the path, which the reference names already.
func plain(err error) string {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err.Error()
	}
	return err.Error()
}
