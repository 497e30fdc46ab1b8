package drivertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

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
