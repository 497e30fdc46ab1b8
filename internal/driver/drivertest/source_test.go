package drivertest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// memorySource announces what a map holds, looking every few milliseconds, with a flaw.
type memorySource struct {
	flaw  string
	mu    sync.Mutex
	files map[string][]byte
	looks int
}

func (m *memorySource) put(name string, b []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[name] = b
	return nil
}

func (m *memorySource) remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.files, name)
	return nil
}

func (m *memorySource) objects() []gantry.Object {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.looks++
	var all []gantry.Object
	for name, b := range m.files {
		sum := fmt.Sprintf("%x", sha256.Sum256(b))
		o := gantry.Object{Ref: name, Name: path.Base(name), Size: int64(len(b)), Sequencer: sum[:16]}
		switch m.flaw {
		case "makes sequencers":
			o.Sequencer = fmt.Sprint(m.looks)
		case "knows no sequencer":
			o.Sequencer = "1"
		case "guesses the size":
			o.Size++
		case "moves":
			o.Ref += sum
		}
		if m.flaw != "sees no folders" || !strings.Contains(name, "/") {
			all = append(all, o)
		}
	}
	return all
}

func (m *memorySource) Watch(ctx context.Context, announce func(context.Context, gantry.Object) error) error {
	if m.flaw == "fails at the end" {
		<-ctx.Done()
		return errors.New("it ended")
	}
	seen := map[string]string{}
	for tick := time.NewTicker(5 * time.Millisecond); ; {
		for _, o := range m.objects() {
			if seen[o.Ref] == o.Sequencer || ctx.Err() != nil {
				continue
			}
			if m.flaw == "does not wait" {
				go announce(ctx, o)
				continue
			}
			if err := announce(ctx, o); err == nil || m.flaw == "gives up" {
				seen[o.Ref] = o.Sequencer
			}
		}
		if m.flaw == "looks once" {
			<-ctx.Done()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (m *memorySource) Open(_ context.Context, ref string) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.files[ref]
	if m.flaw == "moves" {
		b, ok = m.files[ref[:max(len(ref)-64, 0)]]
	}
	switch {
	case !ok && m.flaw == "knows no code":
		return nil, gantry.Errorf(gantry.NotFound, "", "open: none")
	case !ok:
		return nil, gantry.Errorf(gantry.NotFound, gantry.CodeSourceGone, "open: gone")
	case m.flaw == "cuts":
		b = b[:min(len(b), 1<<20)]
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func TestSourceSuite(t *testing.T) {
	t.Parallel()
	expect(t, sourceCases(), func(flaw string) Inbox {
		m := &memorySource{flaw: flaw, files: map[string][]byte{}}
		return Inbox{Source: m, Put: m.put, Remove: m.remove}
	}, map[string]string{
		"makes sequencers":   "gives an object one sequencer",
		"knows no sequencer": "announces again what was replaced",
		"guesses the size":   "announces what is there and what comes",
		"moves":              "announces again what was replaced",
		"sees no folders":    "announces what is there and what comes",
		"fails at the end":   "ends when cancelled",
		"does not wait":      "ends while it announces",
		"gives up":           "announces again what was not taken",
		"looks once":         "announces what is there and what comes",
		"knows no code":      "knows what is gone",
		"cuts":               "announces what is there and what comes",
	})
}
