package pipeline

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

const movesOn = small + `move_if:
  - {when: 'error.kind == "unavailable" and error.stage == "find"', to: other}
  - {when: 'attempt > 2 and leg == 0 and state == "inferring" and error.code startsWith "http_"', to: third, legs: 5}
`

// TestMoveIf reads rules, and reads them again from the version.
func TestMoveIf(t *testing.T) {
	t.Parallel()
	p := mustParse(t, movesOn)
	again, err := ParseResolved(p.Resolved, fake{})
	if err != nil {
		t.Fatal(err)
	}
	vars := func(kind, code string, attempt, leg int) map[string]any {
		return map[string]any{"error": map[string]any{"kind": kind, "code": code, "stage": "find"}, "state": "inferring", "attempt": attempt, "leg": leg}
	}
	for _, x := range []*gantry.Pipeline{p, again} {
		if len(x.MoveIf) != 2 || x.MoveIf[0].To != "other" || x.MoveIf[0].Legs != gantry.MaxLegs || x.MoveIf[1].To != "third" || x.MoveIf[1].Legs != 5 {
			t.Fatalf("%+v", x.MoveIf)
		}
		for i, c := range []struct {
			vars  map[string]any
			holds [2]bool
		}{
			{vars("unavailable", "http_503", 3, 0), [2]bool{true, true}},
			{vars("permanent", "http_400", 3, 0), [2]bool{false, true}},
			{vars("permanent", "http_400", 3, 1), [2]bool{false, false}},
			{vars("timeout", "timeout", 9, 0), [2]bool{false, false}},
		} {
			for j, r := range x.MoveIf {
				if got, err := r.When.Holds(c.vars); err != nil || got != c.holds[j] {
					t.Errorf("case %d, rule %d: %v %v", i, j, got, err)
				}
			}
		}
	}
	if without := mustParse(t, small); p.Version == without.Version || strings.Contains(string(without.Resolved), "move_if") {
		t.Error("rules are no part of the version")
	}
}

// TestMoveIfMistakes says what is wrong with a rule.
func TestMoveIfMistakes(t *testing.T) {
	t.Parallel()
	for rule, want := range map[string]string{
		`{when: 'error.knd == "x"', to: other}`:         `error has no "knd" (did you mean "kind"?)`,
		`{when: 'error.kind', to: other}`:               "it gives text, not true or false",
		`{when: 'dicom.Modality == "CT"', to: other}`:   `unknown name "dicom"`,
		`{when: 'leg == 0', to: small}`:                 "cannot move to the pipeline that it is in",
		`{when: 'leg == 0', to: "Other One"}`:           "is no name of a pipeline",
		`{when: 'leg == 0'}`:                            "to is missing",
		`{to: other}`:                                   "when is missing",
		`{when: 'leg == 0', to: other, legs: 1}`:        "legs: it must be at least 2",
		`{when: 'leg == "0"', to: other}`:               "mismatched types number and text",
		`{when: 'attempt in [1, 2] or true', to: ok-1}`: "",
	} {
		src := small + "move_if: [" + rule + "]\n"
		if got := mistakes(t, src); want == "" && len(got) != 0 || want != "" && (len(got) != 1 || !strings.Contains(got[0], want)) {
			t.Errorf("%s: %q, want %q", rule, got, want)
		}
	}
}

// TestCheckServed holds the rules of several files against one another, and those of one alone to nothing.
func TestCheckServed(t *testing.T) {
	t.Parallel()
	dir := folder(t, map[string]string{
		"p/small.yaml": movesOn,
		"p/other.yaml": strings.Replace(small, "name: small", "name: other", 1) + "move_if: [{when: 'true', to: small}]\n",
		"q/third.yaml": strings.Replace(small, "name: small", "name: third", 1),
		"bad.yaml":     "gantry: v1\n",
	})
	check := func(paths ...string) (names []string, text string) {
		for i := range paths {
			paths[i] = dir + "/" + paths[i]
		}
		all, err := CheckServed(paths, nil, fake{}, os.LookupEnv)
		if all != nil {
			for _, p := range all.Pipelines {
				names = append(names, p.Name)
			}
		}
		if err != nil {
			if _, ok := errors.AsType[Problems](err); !ok {
				t.Fatal(err)
			}
			text = strings.ReplaceAll(err.Error(), dir+"/", "")
		}
		return names, text
	}
	if names, text := check("p", "q"); text != "" || len(names) != 3 {
		t.Errorf("%v %s", names, text)
	}
	if names, text := check("p/small.yaml"); text != "" || len(names) != 1 {
		t.Errorf("a file alone: %v %s", names, text)
	}
	_, text := check("p")
	if lines := strings.Split(text, "\n"); len(lines) != 3 || !strings.HasPrefix(lines[0], "p/small.yaml:7:") || !strings.HasSuffix(lines[0], `: to: no pipeline here is named "third"`) ||
		!strings.HasPrefix(lines[1][strings.Index(lines[2], "^"):], "third, legs: 5") {
		t.Errorf("%s", text)
	}
	if _, text := check("p", "bad.yaml"); !strings.Contains(text, "bad.yaml") || strings.Contains(text, "third") {
		t.Errorf("%s", text)
	}
}

// TestLimitsOfServed: files that give one target other limits are refused, with both places; equal ones, and other targets, are not.
func TestLimitsOfServed(t *testing.T) {
	t.Parallel()
	calling := func(name, processors string) string {
		return "gantry: v1\nname: " + name + "\nstages: [{name: one, call: p}, {name: two, call: q}]\nprocessors:\n" + processors
	}
	dir := folder(t, map[string]string{
		"a.yaml": calling("a", "  p: {kind: http, url: \"http://h/x\", limits: {concurrency: 2}}\n  q: {kind: http, url: \"http://i/x\"}\n"),
		"b.yaml": calling("b", "  p: {kind: http, url: \"http://h/y\", limits: {concurrency: 2}, timeout: 3s}\n  q: {kind: http, url: \"http://j/x\", limits: {rate: 5/s}}\n"),
		"c.yaml": calling("c", "  p: {kind: http, url: \"http://h/x\"}\n  q: {kind: http, url: \"http://h/y\"}\n"),
		"d.yaml": calling("d", "  p: {kind: http, url: \"http://k/x\"}\n  q: {kind: http, url: \"http://i/y\", limits: {concurrency: 1}}\n"),
	})
	for _, load := range []func([]string, []Shared, Kinds, func(string) (string, bool)) (*Served, error){LoadServed, CheckServed} {
		if _, err := load([]string{dir + "/a.yaml", dir + "/b.yaml"}, nil, all.Drivers(), os.LookupEnv); err != nil {
			t.Error(err)
		}
		_, err := load([]string{dir}, nil, all.Drivers(), os.LookupEnv)
		if err == nil {
			t.Fatal("one target has three limits")
		}
		var got []string
		for line := range strings.Lines(strings.ReplaceAll(err.Error(), dir+"/", "")) {
			if strings.Contains(line, ".yaml:") {
				got = append(got, strings.TrimSpace(line))
			}
		}
		want := []string{"c.yaml:5:3: limits: a.yaml:5:38 calls the same target, http://h, with other limits",
			"d.yaml:6:38: limits: a.yaml:6:3 calls the same target, http://i, with other limits"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}
