package app

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/api"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// TestWhyIsSaid holds every sentence to the facts that it comes from, in the order of their weight.
func TestWhyIsSaid(t *testing.T) {
	t.Parallel()
	for name, c := range whyCases {
		var got []string
		for _, x := range told(c.with) {
			got = append(got, x.Code+": "+x.Text)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestWhyWithoutItsPipeline says what it can of a task whose pipeline this program cannot read.
func TestWhyWithoutItsPipeline(t *testing.T) {
	t.Parallel()
	f := postgres.Facts{Now: noon, State: gantry.Inferring, Phase: gantry.Owned, Owner: 12, Parts: []postgres.Parts{{Planned: 1, Later: 1, Due: after(1e9), Tries: 1, Code: "timeout"}},
		Processes: []postgres.Process{{ID: 12, ExpiresAt: *after(1e9)}}}
	got := causes(f, nil)
	if len(got) != 2 || got[0].Text != "1 part for processor 0 is tried again from 2026-11-26T12:00:01Z (in 1s) on: attempt 1 of the first ended with timeout." ||
		!strings.HasSuffix(got[1].Text, "works on it: inferring; processor 0 has answered 0 of 1 part, 1 planned.") {
		t.Errorf("%+v", got)
	}
}

// TestWhyForMachines holds what is beside the sentences.
func TestWhyForMachines(t *testing.T) {
	t.Parallel()
	got := told(func(f *postgres.Facts) {
		f.Parts = []postgres.Parts{{Planned: 9}}
		f.Limits[1].InUse, f.Limits[1].Waiting = 4, 5
		f.Limits[1].Holders = []postgres.FactHolder{{Process: 12, Host: "pacs-gw", Units: 3}, {Process: 9, Units: 1, HeldUntil: after(1e9)}}
	})
	i := slices.IndexFunc(got, func(c api.Cause) bool { return c.Code == WhyUnits })
	want := api.Cause{Code: WhyUnits, Text: got[i].Text, Limit: "http://a", Holders: []api.Holder{{Process: 12, Host: "pacs-gw", Units: 3}, {Process: 9, Units: 1, HeldUntil: after(1e9)}}}
	if diff := cmp.Diff(want, got[i]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestWhyIsDocumented holds docs/why.md to the codes that there are, and its sentences to what is said.
func TestWhyIsDocumented(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/why.md")
	if err != nil {
		t.Fatal(err)
	}
	src, err := os.ReadFile("why.go")
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]bool{}
	for _, c := range whyCases {
		for _, x := range c.want {
			said[x] = true
		}
	}
	var listed, known []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([^|]*) \\|").FindAllStringSubmatch(string(doc), -1) {
		if listed = append(listed, row[1]); !said[row[1]+": "+row[2]] && row[1] != WhyUnknown {
			t.Errorf("no test says %s: %s", row[1], row[2])
		}
	}
	for _, x := range regexp.MustCompile(`\tWhy\w+ += "([a-z_]+)"`).FindAllStringSubmatch(string(src), -1) {
		known = append(known, x[1])
	}
	if diff := cmp.Diff(known, listed); diff != "" {
		t.Errorf("codes (-known +listed):\n%s", diff)
	}
}
