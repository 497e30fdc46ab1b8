package all_test

import (
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/driver/http"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

func TestDrivers(t *testing.T) {
	t.Parallel()
	r := all.Drivers()
	for role, want := range map[gantry.Boundary][]string{
		gantry.AtSource: {"dicom", "dir", "http", "s3"}, gantry.AtProcessor: {"dicom", "http"}, gantry.AtSink: {"dicom", "dir", "http", "s3"}, gantry.AtArchive: {"dicom", "dicomweb"},
	} {
		if diff := cmp.Diff(want, r.Kinds(role)); diff != "" {
			t.Errorf("kinds at %s (-want +got):\n%s", role, diff)
		}
	}
}

// Every field of every config can stand in a pipeline file and says what it is for.
func TestConfigs(t *testing.T) {
	t.Parallel()
	r := all.Drivers()
	for _, role := range []gantry.Boundary{gantry.AtSource, gantry.AtProcessor, gantry.AtSink, gantry.AtArchive} {
		for _, kind := range r.Kinds(role) {
			c, _ := r.Config(role, kind)
			if _, ok := c.(gantry.Targeted); !ok {
				t.Errorf("%s %s says no target", role, kind)
			}
			checked, ok := c.(gantry.Checked)
			if !ok || len(checked.Check()) == 0 {
				t.Errorf("%s %s: an empty config is not refused", role, kind)
			}
			for i, s := 0, reflect.TypeOf(c).Elem(); i < s.NumField(); i++ {
				tag := s.Field(i).Tag
				if tag.Get("yaml") == "" || tag.Get("doc") == "" || tag.Get("required") != "" && tag.Get("default") != "" {
					t.Errorf("%s %s: the tags of %s are %s", role, kind, s.Field(i).Name, tag)
				}
			}
		}
	}
}

func TestDriversOpen(t *testing.T) {
	t.Parallel()
	r, e, folder := all.Drivers(), drivertest.Egress(t), t.TempDir()
	set := func(role gantry.Boundary, kind, field, value string) any {
		c, _ := r.Config(role, kind)
		reflect.ValueOf(c).Elem().FieldByName(field).SetString(value)
		return c
	}
	if s, err := r.NewSource(t.Context(), "dir", set(gantry.AtSource, "dir", "Path", folder), e); s == nil || err != nil {
		t.Errorf("source: %v, %v", s, err)
	}
	if s, err := r.NewSource(t.Context(), "http", &http.SourceConfig{MaxMiB: 1}, e); s == nil || err != nil {
		t.Errorf("source: %v, %v", s, err)
	}
	if p, err := r.NewProcessor(t.Context(), "http", set(gantry.AtProcessor, "http", "URL", "http://model.test"), e); p == nil || err != nil {
		t.Errorf("processor: %v, %v", p, err)
	}
	if s, err := r.NewSink(t.Context(), "dir", set(gantry.AtSink, "dir", "Path", folder), e); s == nil || err != nil {
		t.Errorf("sink: %v, %v", s, err)
	}
	if s, err := r.NewSink(t.Context(), "http", set(gantry.AtSink, "http", "URL", "http://hooks.test"), e); s == nil || err != nil {
		t.Errorf("sink: %v, %v", s, err)
	}
}
