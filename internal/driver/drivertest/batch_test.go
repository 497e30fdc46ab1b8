package drivertest

import (
	"context"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// memoryBatch asks the model itself about all items, with a flaw.
type memoryBatch struct {
	flaw  string
	model *Model
}

func (m *memoryBatch) Process(ctx context.Context, req *gantry.Request) error {
	var items []Medium
	for i := range req.Items {
		in, err := m.read(ctx, req, i)
		if err != nil && m.flaw == "skips what is bad" {
			continue
		}
		if err != nil {
			return err
		}
		items = append(items, in)
	}
	switch m.flaw {
	case "turns the order":
		slices.Reverse(items)
	case "sends a hundred":
		items = items[:min(100, len(items))]
	case "forgets types":
		items[0].Media = ""
	case "ends at what looks like an end":
		items[1].Body = items[1].Body[:min(4, len(items[1].Body))]
	}
	m.model.Ask(Posted{Key: req.Key, Items: items})
	return nil
}

func (m *memoryBatch) read(ctx context.Context, req *gantry.Request, i int) (Medium, error) {
	r, err := req.Open(ctx, i)
	if err != nil && m.flaw == "hides errors" {
		err = fmt.Errorf("open item")
	}
	if err != nil {
		return Medium{}, err
	}
	if m.flaw != "leaks" || i == 0 {
		defer r.Close()
	}
	b, err := io.ReadAll(r)
	if size := req.Items[i].Size; err == nil && size >= 0 && size != int64(len(b)) && m.flaw != "does not count" {
		err = gantry.Errorf(gantry.Transient, "", "read item: another size")
	}
	if i == 2 && m.flaw == "does not mind the last" {
		err = nil
	}
	return Medium{req.Items[i].Media, b}, err
}

func TestBatchSuite(t *testing.T) {
	t.Parallel()
	expect(t, batchCases(), func(flaw string) served {
		m := newModel()
		return served{m, &memoryBatch{flaw: flaw, model: m}}
	}, map[string]string{
		"turns the order":                "sends all items in order",
		"forgets types":                  "sends all items in order",
		"ends at what looks like an end": "sends all items in order",
		"leaks":                          "sends all items in order",
		"sends a hundred":                "sends many items",
		"hides errors":                   "hands on an error of opening one",
		"does not mind the last":         "hands on an error of reading one",
		"does not count":                 "finds one of another size",
		"skips what is bad":              "sends nothing whole when cancelled midway",
	})
}
