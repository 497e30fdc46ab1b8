package drivertest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// failing gives the names of the cases that find something wrong.
func failing[F any](t *testing.T, patience time.Duration, cases []testCase[F], open func() F) []string {
	t.Helper()
	var mu sync.Mutex
	var names []string
	var wg sync.WaitGroup
	for _, c := range cases {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := c.run(ctx, open()); err != nil {
				mu.Lock()
				defer mu.Unlock()
				names = append(names, c.name)
			}
		})
	}
	wg.Wait()
	return names
}

// expect runs a suite on a double that is right and on those that have a flaw each: the case that
// is named must find it.
func expect[F any](t *testing.T, cases []testCase[F], open func(flaw string) F, flaws map[string]string) {
	t.Helper()
	if names := failing(t, patience, cases, func() F { return open("") }); len(names) != 0 {
		t.Errorf("without a flaw: %q fail", names)
	}
	for flaw, name := range flaws {
		t.Run(flaw, func(t *testing.T) {
			t.Parallel()
			named := slices.DeleteFunc(slices.Clone(cases), func(c testCase[F]) bool { return c.name != name })
			if names := failing(t, time.Second, named, func() F { return open(flaw) }); len(names) != 1 {
				t.Errorf("not found by %q", name)
			}
		})
	}
}

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

// memoryProcessor asks the model itself, with a flaw.
type memoryProcessor struct {
	flaw  string
	model *Model
	calls int
	mu    sync.Mutex
}

func (m *memoryProcessor) Process(ctx context.Context, req *gantry.Request) error {
	if err := ctx.Err(); err != nil && m.flaw != "ignores the end" {
		return err
	}
	in, err := m.read(ctx, req)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.calls++
	key := req.Key
	if m.flaw == "makes keys" {
		key = fmt.Sprint(key, m.calls)
	}
	m.mu.Unlock()
	a := m.model.Ask(Posted{Key: key, Items: []Medium{in}})
	if m.flaw == "sends twice" {
		m.model.Ask(Posted{Key: key, Items: []Medium{in}})
	}
	if a.Fault == Silent {
		<-ctx.Done()
		if errors.Is(ctx.Err(), context.DeadlineExceeded) && m.flaw != "knows no deadline" {
			return gantry.Errorf(gantry.Timeout, "", "post: too late")
		}
		return ctx.Err()
	}
	if err := m.judge(a); err != nil {
		return err
	}
	return m.hand(ctx, req, a)
}

func (m *memoryProcessor) read(ctx context.Context, req *gantry.Request) (Medium, error) {
	r, err := req.Open(ctx, 0)
	if err != nil {
		return Medium{}, err
	}
	if m.flaw != "leaks" {
		defer r.Close()
	}
	b, err := io.ReadAll(r)
	switch size := req.Items[0].Size; {
	case err != nil && m.flaw == "sends what it could not read":
		err = nil
	case err != nil && m.flaw == "hides the error of reading":
		err = gantry.Errorf(gantry.Transient, "", "post: broke off")
	case err == nil && size >= 0 && size != int64(len(b)) && m.flaw != "does not count":
		err = gantry.Errorf(gantry.Transient, "", "read item: another size")
	}
	if m.flaw == "cuts" {
		b = b[:min(len(b), 1<<20)]
	}
	return Medium{req.Items[0].Media, b}, err
}

func (m *memoryProcessor) judge(a Answer) error {
	kinds := map[Fault]gantry.Kind{
		Busy: gantry.Unavailable, Broken: gantry.Transient, Refusing: gantry.Permanent, Denying: gantry.Denied,
		Missing: gantry.NotFound, Babbling: gantry.BadResponse, Resetting: gantry.Transient,
	}
	kind, failed := kinds[a.Fault]
	if !failed || m.flaw == "takes "+string(a.Fault) {
		return nil
	}
	e := gantry.Errorf(kind, "", "post: %s", a.Fault)
	if e.RetryAfter = a.RetryAfter; m.flaw == "forgets Retry-After" {
		e.RetryAfter = 0
	}
	if m.flaw == "quotes" {
		e.Err = fmt.Errorf("post: %s: %s", a.Fault, a.Body)
	}
	if m.flaw == "classifies nothing" {
		return e.Err
	}
	return e
}

func (m *memoryProcessor) hand(ctx context.Context, req *gantry.Request, a Answer) error {
	if len(a.Body) == 0 && m.flaw != "hands nothing on" {
		return nil
	}
	var body io.Reader = bytes.NewReader(a.Body)
	size := int64(len(a.Body))
	if a.Fault == Cutting && m.flaw != "takes cutting" {
		body = (&handles{}).reader(a.Body, gantry.Errorf(gantry.Transient, "", "read answer: cut"))
	}
	switch m.flaw {
	case "guesses the size":
		size++
	case "hands on half":
		body = io.LimitReader(body, 50_000)
	case "hands on late":
		go req.Receive(ctx, a.Media, size, body)
		return nil
	}
	err := req.Receive(ctx, a.Media, size, body)
	if err != nil && m.flaw == "hides the error of receiving" {
		err = gantry.Errorf(gantry.Transient, "", "post: broke off")
	}
	return err
}

func TestProcessorSuite(t *testing.T) {
	t.Parallel()
	flaws := map[string]string{
		"ignores the end":              "sends nothing when cancelled",
		"makes keys":                   "keeps the key of a part",
		"sends twice":                  "sends an item and takes the answer",
		"knows no deadline":            "ends at its deadline",
		"leaks":                        "sends an item and takes the answer",
		"sends what it could not read": "hands on an error of reading",
		"hides the error of reading":   "hands on an error of reading",
		"does not count":               "finds an item of another size",
		"cuts":                         "sends an item and takes the answer",
		"forgets Retry-After":          "classifies busy",
		"quotes":                       "classifies refusing",
		"classifies nothing":           "classifies broken",
		"hands nothing on":             "takes an empty answer",
		"guesses the size":             "sends an item and takes the answer",
		"hands on half":                "sends an item and takes the answer",
		"hands on late":                "calls side by side",
		"hides the error of receiving": "hands on an error of receiving",
	}
	for _, f := range []Fault{Busy, Broken, Refusing, Denying, Missing, Babbling, Resetting, Cutting} {
		flaws["takes "+string(f)] = "classifies " + string(f)
	}
	expect(t, processorCases(), func(flaw string) served {
		m := newModel()
		return served{m, &memoryProcessor{flaw: flaw, model: m}}
	}, flaws)
}

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
