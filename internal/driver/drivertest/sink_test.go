package drivertest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"io/fs"
	"maps"
	"path"
	"strings"
	"sync"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// memorySink keeps files in memory, with a flaw.
type memorySink struct {
	flaw  string
	mu    sync.Mutex
	files map[string][]byte
}

func (m *memorySink) list() (map[string][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.files), nil
}

func (m *memorySink) Deliver(ctx context.Context, out gantry.Delivery) error {
	if err := ctx.Err(); err != nil && m.flaw != "ignores the end" {
		return err
	}
	if !fs.ValidPath(out.Path) || out.Path == "." {
		if m.flaw != "escapes" {
			return gantry.Errorf(gantry.Illegal, "bad_path", "deliver: no path")
		}
	}
	r, err := out.Open(ctx)
	if err != nil {
		return err
	}
	if m.flaw != "leaks" {
		defer r.Close()
	}
	b, err := io.ReadAll(r)
	if m.flaw == "publishes too soon" {
		m.set(out.Path, b)
	}
	if err != nil && m.flaw == "hides the error" {
		err = gantry.Errorf(gantry.Transient, "", "deliver: copy")
	}
	if err == nil && !strings.HasPrefix(m.flaw, "ignores the end") {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	if (int64(len(b)) != out.Size || sha256.Sum256(b) != out.SHA) && m.flaw != "does not compare" {
		return gantry.Errorf(gantry.Transient, "mismatch", "deliver: other bytes")
	}
	return m.publish(out, b)
}

func (m *memorySink) set(name string, b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[name] = b
}

func (m *memorySink) publish(out gantry.Delivery, b []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p := path.Dir(out.Path); p != "."; p = path.Dir(p) {
		if m.files[p] != nil {
			return gantry.Errorf(gantry.Permanent, gantry.CodeConflict, "deliver: below a file")
		}
	}
	was, there := m.files[out.Path]
	switch {
	case there && m.flaw == "refuses a repetition", there && !bytes.Equal(was, b) && m.flaw != "overwrites" && m.flaw != "keeps quiet":
		kind := gantry.Permanent
		if m.flaw == "calls a conflict transient" {
			kind = gantry.Transient
		}
		return gantry.Errorf(kind, gantry.CodeConflict, "deliver: taken")
	case there && m.flaw == "keeps quiet":
		return nil
	case out.Manifest && m.flaw == "drops the manifest":
		return nil
	case m.flaw == "cuts":
		b = b[:min(len(b), 1<<20)]
	case m.flaw == "adds":
		m.files[out.Path+".tmp"] = b
	}
	if m.files[out.Path] = b; b == nil {
		m.files[out.Path] = []byte{}
	}
	return nil
}

func TestSinkSuite(t *testing.T) {
	t.Parallel()
	expect(t, sinkCases(), func(flaw string) Shelf {
		m := &memorySink{flaw: flaw, files: map[string][]byte{}}
		return Shelf{Sink: m, List: m.list}
	}, map[string]string{
		"ignores the end":            "shows nothing when cancelled",
		"ignores the end later":      "shows nothing when cancelled midway",
		"escapes":                    "keeps below its folder",
		"leaks":                      "delivers",
		"publishes too soon":         "shows nothing of what cannot be read",
		"hides the error":            "shows nothing of what cannot be read",
		"does not compare":           "shows nothing of other bytes than announced",
		"refuses a repetition":       "repeats without a change",
		"overwrites":                 "lets one of several win",
		"keeps quiet":                "refuses other bytes",
		"calls a conflict transient": "refuses other bytes",
		"drops the manifest":         "delivers",
		"cuts":                       "delivers",
		"adds":                       "delivers one path at once",
	})
}
