package api

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestOpenAPI holds the description to the routes, to the fields of what is answered and to the states, and
// every reference in it to something.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	var doc struct {
		OpenAPI    string
		Paths      map[string]map[string]json.RawMessage
		Components struct {
			Schemas map[string]struct {
				Properties map[string]struct{ Enum []string }
			}
		}
	}
	if err := json.Unmarshal(openAPI, &doc); err != nil || !strings.HasPrefix(doc.OpenAPI, "3.1.") {
		t.Fatalf("%q, %v", doc.OpenAPI, err)
	}
	var said, served []string
	for path, item := range doc.Paths {
		for method := range item {
			if method != "parameters" {
				said = append(said, strings.ToUpper(method)+" "+path)
			}
		}
	}
	for _, table := range []routes{newTasks(nil).routes(), newCallbacks(nil).routes(), newHooks(nil).routes(), sourceRoutes(nil), collectionRoutes(nil)} {
		for pattern := range table {
			if !strings.HasPrefix(pattern, "/") && pattern != "GET /api/openapi.json" { // what serves no method refuses
				served = append(served, strings.ReplaceAll(pattern, "...", ""))
			}
		}
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(served)), slices.Sorted(slices.Values(said))); diff != "" {
		t.Errorf("routes (-served +said):\n%s", diff)
	}
	for name, of := range map[string]reflect.Type{"Task": reflect.TypeFor[Task](), "Why": reflect.TypeFor[Why](), "Collection": reflect.TypeFor[Collection](), "Cause": reflect.TypeFor[Cause](), "Problem": reflect.TypeFor[problem](),
		"SourceStatus": reflect.TypeFor[gantry.SourceStatus](), "SourceLag": reflect.TypeFor[gantry.SourceLag](), "SweepStatus": reflect.TypeFor[gantry.SweepStatus](),
		"ArrivalCounts": reflect.TypeFor[gantry.ArrivalCounts](), "ChannelStatus": reflect.TypeFor[gantry.ChannelStatus](), "SourceFailure": reflect.TypeFor[gantry.SourceFailure]()} {
		var fields []string
		for i := range of.NumField() {
			field, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
			fields = append(fields, field)
		}
		if diff := cmp.Diff(slices.Sorted(slices.Values(fields)), slices.Sorted(maps.Keys(doc.Components.Schemas[name].Properties))); diff != "" {
			t.Errorf("%s (-answered +said):\n%s", name, diff)
		}
	}
	var states []string
	for s := gantry.Queued; s <= gantry.Cancelled; s++ {
		states = append(states, s.String())
	}
	if diff := cmp.Diff(states, doc.Components.Schemas["Task"].Properties["state"].Enum); diff != "" {
		t.Errorf("states (-ours +said):\n%s", diff)
	}
	var all any
	json.Unmarshal(openAPI, &all)
	if n := follow(t, all, all); n < 10 {
		t.Errorf("%d references", n)
	}
}

// follow finds what every reference below x points to in all, and counts them.
func follow(t *testing.T, all, x any) (n int) {
	switch x := x.(type) {
	case []any:
		for _, y := range x {
			n += follow(t, all, y)
		}
	case map[string]any:
		for key, y := range x {
			if ref, ok := y.(string); ok && key == "$ref" {
				at := all
				for _, step := range strings.Split(ref, "/")[1:] {
					at, _ = at.(map[string]any)[step]
				}
				if n++; at == nil {
					t.Errorf("%s points to nothing", ref)
				}
			}
			n += follow(t, all, y)
		}
	}
	return n
}
