package pipeline

import (
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/google/go-cmp/cmp"
)

// TestTests reads an entry with everything that it may say: paths are relative to the file, and what
// is not said has its default.
func TestTests(t *testing.T) {
	t.Parallel()
	p := mustParse(t, small+`tests:
  - {name: all, input: [a.png, /b/c.dcm], mock: {finder: {$file: answers/m.png}}, expect: {state: failed, calls: {finder: 3}, outputs: 0, error: permanent}}
  - {name: json, input: a.png, mock: {finder: {score: 0.5, boxes: [{$x: 1}, null, true]}}}
  - {name: fails, input: a.png, mock: {finder: {$error: unavailable}}}
  - {name: echoes, input: a.png, mock: {finder: $echo}}
  - {name: text, input: a.png, mock: {finder: "5 $"}}
`)
	done := gantry.Expectation{State: gantry.Done, Outputs: -1}
	a := []string{"/etc/gantry/a.png"}
	want := []gantry.PipelineTest{
		{Name: "all", Input: []string{"/etc/gantry/a.png", "/b/c.dcm"}, Mock: map[string]any{"finder": map[string]any{"$file": "/etc/gantry/answers/m.png"}},
			Expect: gantry.Expectation{State: gantry.Failed, Calls: map[string]int{"finder": 3}, Error: "permanent"}},
		{Name: "json", Input: a, Expect: done, Mock: map[string]any{"finder": map[string]any{"score": 0.5, "boxes": []any{map[string]any{"$x": 1.0}, nil, true}}}},
		{Name: "fails", Input: a, Mock: map[string]any{"finder": map[string]any{"$error": "unavailable"}}, Expect: done},
		{Name: "echoes", Input: a, Mock: map[string]any{"finder": "$echo"}, Expect: done},
		{Name: "text", Input: a, Mock: map[string]any{"finder": "5 $"}, Expect: done},
	}
	if diff := cmp.Diff(want, p.Tests); diff != "" {
		t.Error(diff)
	}
	if bare := mustParse(t, small); bare.Version != p.Version {
		t.Error("tests change the version")
	}
}

// TestTestsMistakes tries what one word alone cannot get wrong; pipelines/bad has the others.
func TestTestsMistakes(t *testing.T) {
	t.Parallel()
	one := func(rest string) string { return small + "tests: [{name: one, input: a.png, " + rest + "}]\n" }
	for rest, want := range map[string]string{
		"mock: {finder: {$file: a, b: c}}":          "mock: $file stands alone",
		"mock: {finder: {$file: ''}}":               "mock: $file is a path",
		"mock: {finder: {$file: [a]}}":              "mock: $file is a path",
		"mock: {finder: {$error: 5}}":               "mock: $error is a kind",
		"expect: {state: failed, error: malformed}": "",
		"expect: {calls: {finder: -1}}":             "at least 0",
		"expect: {outputs: none}":                   "outputs: ",
		"expects: {}":                               `unknown key "expects" (did you mean "expect"?)`,
	} {
		got := mistakes(t, one(rest))
		if want == "" && len(got) > 0 || want != "" && (len(got) != 1 || !strings.Contains(got[0], want)) {
			t.Errorf("%s\ngot  %q\nwant %q", rest, got, want)
		}
	}
	// A mock is no use of a processor, and a definition that is mistaken hides no name from it.
	wantMistake(t, strings.Replace(one("mock: {other: 1}"), "processors: {", `processors: {other: {kind: http, url: "http://h/x"}, `, 1),
		`processor "other" is used by nothing`)
	wantMistake(t, "gantry: v1\nname: small\nstages: [{name: find, call: finder}]\nprocessors: 5\n"+
		"tests: [{name: one, input: a.png, mock: {finder: 1}}]\n", "processors: want a mapping")
}
