package s3

import (
	"errors"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func TestSourceConfigAfter(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		set  func(*SourceConfig)
		key  string
		text string
	}{
		"another word":        {func(c *SourceConfig) { c.After = "burn" }, "after", "neither"},
		"delete what failed":  {func(c *SourceConfig) { c.AfterFailed = "delete" }, "after_failed", "never deleted"},
		"move to nowhere":     {func(c *SourceConfig) { c.After = "move" }, "after", "wants move_to"},
		"to without move":     {func(c *SourceConfig) { c.MoveTo = "done/" }, "move_to", "goes with after: move"},
		"failed to, no move":  {func(c *SourceConfig) { c.FailedTo = "f/" }, "failed_to", "goes with after_failed: move"},
		"to where it is":      {func(c *SourceConfig) { c.After, c.MoveTo = "move", "in/" }, "move_to", "taken again"},
		"below where it is":   {func(c *SourceConfig) { c.After, c.MoveTo = "move", "in/moved/" }, "move_to", "taken again"},
		"failed below it":     {func(c *SourceConfig) { c.AfterFailed, c.FailedTo = "move", "in/failed/" }, "failed_to", "taken again"},
		"above where it is":   {func(c *SourceConfig) { c.After, c.MoveTo = "move", "i" }, "move_to", "taken again"},
		"beginning with /":    {func(c *SourceConfig) { c.After, c.MoveTo = "move", "/done" }, "move_to", "no beginning"},
		"below, left out":     {func(c *SourceConfig) { c.After, c.MoveTo = "move", "in/done/x/" }, "", ""},
		"beside":              {func(c *SourceConfig) { c.After, c.MoveTo, c.AfterFailed = "move", "done/", "tag" }, "", ""},
		"all is taken anyway": {func(c *SourceConfig) { c.Prefix, c.After, c.MoveTo = "", "move", "done/" }, "move_to", "taken again"},
	} {
		conf := SourceConfig{Bucket: "results", Prefix: "in/", Exclude: []string{"in/done/"}}
		c.set(&conf)
		found := conf.Check()
		if c.key == "" && len(found) == 0 {
			continue
		}
		if len(found) != 1 || found[0].Key != c.key || !strings.Contains(found[0].Text, c.text) {
			t.Errorf("%s: %v", name, found)
		}
	}
	s, err := NewSource(t.Context(), SourceConfig{Bucket: "inbox", After: "delete"}, signed{})
	if err != nil {
		t.Fatal(err)
	}
	tidy := s.(gantry.Tidying)
	if op, ok := tidy.After(gantry.Done); op != gantry.OpDelete || !ok {
		t.Errorf("%v %v", op, ok)
	}
	if _, ok := tidy.After(gantry.Failed); ok {
		t.Error("what failed does not stay")
	}
	for _, mark := range []string{"", "{}", `{"key":"a"}`, `{"key":"a","etag":"e"`} {
		if err := tidy.Tidy(t.Context(), mark, gantry.Done, nothing); !errors.As(err, new(*gantry.Error)) || gantry.KindOf(err) != gantry.Illegal {
			t.Errorf("%q: %v", mark, err)
		}
	}
}
