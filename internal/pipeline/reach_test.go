package pipeline

import (
	"fmt"
	"strings"
	"testing"
)

const (
	comesBack = "results would come back as inputs without end: "
	goesRound = "inputs would be moved without end: "
)

// inBucket is a pipeline's source and sink in one bucket.
func inBucket(in, rest, out string) string {
	return "sources: {in: {kind: s3, bucket: same, prefix: " + in + rest + "}}\nsinks: {results: {kind: s3, bucket: " + out + "}}\n"
}

// TestLoopsOverMoves: what a source moves is what another takes, so that results may come back by that as well, and inputs go round.
// Beside each way there is one with its guard in place.
func TestLoopsOverMoves(t *testing.T) {
	t.Parallel()
	const moves, shared = ", after: move, move_to: ", "sources:\n  incoming: {kind: s3, bucket: same, prefix: in/%, routes: [{to: a}]}\n"
	for name, c := range map[string]struct {
		sources   string // % is for the rest
		pipelines map[string]string
		want      string
		chains    int
	}{
		"what another moves to where the own source looks": {"", map[string]string{"a": inBucket("in/", "", "same, prefix: out/"), "b": inBucket("out/", moves+"in/", "other")},
			"p/a.yaml:6:9: " + comesBack + `a → sink "results" → b's source "in" moves it → source "in" → a`, 0},
		"the same if that failed": {"", map[string]string{"a": inBucket("in/", "", "same, prefix: out/"), "b": inBucket("out/", ", after_failed: move, failed_to: in/", "other")},
			comesBack + `a → sink "results" → b's source "in" moves it → source "in" → a`, 0},
		"the same of a shared source": {strings.Replace(shared, "%", "", 1), map[string]string{
			"a": "sinks: {results: {kind: s3, bucket: same, prefix: out/}}\n", "b": inBucket("out/", moves+"in/", "other")},
			comesBack + `a → sink "results" → b's source "in" moves it → source "incoming" → a`, 0},
		"by two that move": {"", map[string]string{"a": inBucket("in/", "", "same, prefix: out/"), "b": inBucket("out/", moves+"next/", "other"), "c": inBucket("next/", moves+"in/", "other")},
			comesBack + `a → sink "results" → b's source "in" moves it → c's source "in" moves it → source "in" → a`, 0},
		"of folders": {"", map[string]string{"a": "sources: {in: {kind: dir, path: ../in}}\nsinks: {results: {kind: dir, path: ../out}}\n",
			"b": "sources: {in: {kind: dir, path: ../out, after: move, move_to: ../in}}\nsinks: {results: {kind: dir, path: ../end}}\n"},
			comesBack + `a → sink "results" → b's source "in" moves it → source "in" → a`, 0},
		"into a hidden folder": {"", map[string]string{"a": "sources: {in: {kind: dir, path: ../in}}\nsinks: {results: {kind: dir, path: ../out}}\n",
			"b": "sources: {in: {kind: dir, path: ../out, after: move, move_to: ../in/.seen}}\nsinks: {results: {kind: dir, path: ../end}}\n"}, "", 1},
		"two that move to one another": {"", map[string]string{"a": inBucket("in/", moves+"out/", "other"), "b": inBucket("out/", moves+"in/", "other")},
			"p/a.yaml:5:11: " + goesRound + `a's source "in" moves it → b's source "in" moves it → source "in"`, 0},
		"one of them shared": {strings.Replace(shared, "%", moves+"out/", 1), map[string]string{
			"a": "sinks: {results: {kind: s3, bucket: other}}\n", "b": inBucket("out/", moves+"in/", "other")},
			"gantry.yaml:4:3: " + goesRound + `source "incoming" moves it → b's source "in" moves it → source "incoming"`, 0},
		"three, and further down each time": {"", map[string]string{"a": inBucket("in/", moves+"x/", "other"), "b": inBucket("x/", moves+"y/", "other"), "c": inBucket("y/", moves+"in/z/", "other")},
			goesRound + `a's source "in" moves it → b's source "in" moves it → c's source "in" moves it → source "in"`, 0},
		"names that both have": {"", map[string]string{"a": inBucket("in/", ", pattern: 'scan-*'"+moves+"out/", "other"), "b": inBucket("out/", ", pattern: '*.dcm'"+moves+"in/", "other")},
			goesRound + `a's source "in" moves it → b's source "in" moves it → source "in"`, 0},

		"by what moves it again": {"", map[string]string{"a": inBucket("y/", ", exclude: [y/x/]", "same, prefix: x/x/x/"), "b": inBucket("x/", moves+"y/", "other"), "c": inBucket("y/x/", moves+"x/", "other")},
			comesBack + `a → sink "results" → b's source "in" moves it → c's source "in" moves it → b's source "in" moves it → c's source "in" moves it → b's source "in" moves it → source "in" → a`, 0},
		"names that begin otherwise once moved": {"", map[string]string{"a": inBucket("in/", ", pattern: 'scan-*'"+moves+"out/x-", "other"), "b": inBucket("out/", ", pattern: 'x-*'"+moves+"in/scan-", "other")},
			goesRound + `a's source "in" moves it → b's source "in" moves it → source "in"`, 0},
		"names that begin otherwise, of a prefix that ends in them": {"", map[string]string{"a": inBucket("in/", ", pattern: 'x-*'"+moves+"out/scan-", "other"),
			"b": inBucket("out/s", ", pattern: 'scan-*'"+moves+"in/x-", "other")}, goesRound + `a's source "in" moves it → b's source "in" moves it → source "in"`, 0},
		"further down each time, and left out elsewhere": {"", map[string]string{"a": inBucket("in/", ", exclude: [in/z/y/]"+moves+"out/", "other"), "b": inBucket("out/", moves+"in/z/", "other")},
			goesRound + `a's source "in" moves it → b's source "in" moves it → source "in"`, 0},

		"by what moves it not again": {"", map[string]string{"a": inBucket("y/", ", exclude: [y/x/]", "same, prefix: x/x/x/"), "b": inBucket("x/", moves+"y/", "other"),
			"c": inBucket("y/x/", ", exclude: [y/x/x/]"+moves+"x/", "other")}, "", 1},
		"names that do not begin so once moved": {"", map[string]string{"a": inBucket("in/", ", pattern: 'scan-*'"+moves+"out/x-", "other"), "b": inBucket("out/", ", pattern: 'x-*'"+moves+"in/", "other")}, "", 0},
		"names that begin so but the first time": {"", map[string]string{"a": inBucket("''", ", pattern: 'x-*', exclude: [b/scan-]"+moves+"b/scan-", "other"),
			"b": inBucket("b/scan-", ", pattern: 'scan-*', exclude: [b/scan-scan-]"+moves+"b/", "other")}, "", 0},
		"further down until it is left out": {"", map[string]string{"a": inBucket("in/", ", exclude: [in/z/z/z/]"+moves+"out/", "other"), "b": inBucket("out/", moves+"in/z/", "other")}, "", 0},
		"moved out of the way":              {"", map[string]string{"a": inBucket("in/", moves+"done/", "same, prefix: out/"), "b": inBucket("out/", moves+"read/", "other")}, "", 1},
		"moved to a third":                  {"", map[string]string{"a": inBucket("in/", moves+"next/", "other"), "b": inBucket("next/", "", "other")}, "", 0},
		"one folder by names": {"", map[string]string{"a": inBucket("in/", ", pattern: '*.dcm', exclude: [in/a/, in/b/]"+moves+"in/a/", "other"),
			"b": inBucket("in/", ", pattern: '*.nii', exclude: [in/a/, in/b/]"+moves+"in/b/", "other")}, "", 0},
		"one folder by names alone": {"", map[string]string{"a": inBucket("in/", ", pattern: '*.dcm', exclude: [in/a/]"+moves+"in/a/", "other"),
			"b": inBucket("in/", ", pattern: '*.nii', exclude: [in/b/]"+moves+"in/b/", "other")}, "", 0},
		"names that no result has": {"", map[string]string{"a": inBucket("arch/", ", pattern: 'scan-*'", "same, prefix: out/"), "b": inBucket("out/", moves+"arch/", "other")}, "", 1},
		"beside in one archive": {"", map[string]string{"a": inBucket("arch/scans/", "", "same, prefix: out/results/"), "b": inBucket("out/", moves+"arch/", "other")},
			"", 1},
		"the very part of an archive": {"", map[string]string{"a": inBucket("arch/results/", "", "same, prefix: out/results/"), "b": inBucket("out/", moves+"arch/", "other")},
			comesBack + `a → sink "results" → b's source "in" moves it → source "in" → a`, 0},
		"excluded in the archive": {"", map[string]string{"a": inBucket("arch/", ", exclude: [arch/results/]", "same, prefix: out/results/"), "b": inBucket("out/", moves+"arch/", "other")}, "", 1},
		"excluded there by the key": {"", map[string]string{"a": inBucket("arch/", ", exclude: [arch/results/]", `same, prefix: out/, key: "results/{task}/{path}"`),
			"b": inBucket("out/", moves+"arch/", "other")}, "", 1},
		"excluded where it was": {"", map[string]string{"a": inBucket("in/", "", "same, prefix: out/kept/"), "b": inBucket("out/", ", exclude: [out/kept/]"+moves+"in/", "other")}, "", 0},
		"excluded where it was, by the key": {"", map[string]string{"a": inBucket("in/kept/", "", `same, prefix: out/, key: "{source}/{task}/{path}"`),
			"b": inBucket("out/", ", exclude: [out/kept/]"+moves+"in/", "other")}, "", 1},
		"and not excluded": {"", map[string]string{"a": inBucket("in/kept/", "", `same, prefix: out/, key: "{source}/{task}/{path}"`),
			"b": inBucket("out/", moves+"in/", "other")}, comesBack + `a → sink "results" → b's source "in" moves it → source "in" → a`, 0},
		"below its own name": {"", map[string]string{"a": inBucket("in/a/", "", `same, prefix: in/, key: "{pipeline}/{task}/{path}"`)},
			`source "in" would take what sink "results" lays down, again and again`, 0},
		"below its own name, by another": {"", map[string]string{"a": inBucket("in/a/", "", `same, prefix: out/, key: "{pipeline}/{task}/{path}"`),
			"b": inBucket("out/", moves+"in/", "other")}, comesBack + `a → sink "results" → b's source "in" moves it → source "in" → a`, 0},
		"below the name of another":                          {"", map[string]string{"a": inBucket("in/b/", "", `same, prefix: in/, key: "{pipeline}/{task}/{path}"`)}, "", 0},
		"what is moved comes once more, and is shorter then": {"", map[string]string{"a": inBucket("in/", moves+"done/", "other"), "b": inBucket("done/urgent/", moves+"in/", "other")}, "", 0},
		"names that only one has":                            {"", map[string]string{"a": inBucket("in/", ", pattern: '*.dcm'"+moves+"out/", "other"), "b": inBucket("out/", ", pattern: '*.nii'"+moves+"in/", "other")}, "", 0},
		"names that no file has all of": {"", map[string]string{"a": inBucket("in/", moves+"x/", "other"), "b": inBucket("x/", ", pattern: '*.dcm'"+moves+"y/", "other"),
			"c": inBucket("y/", ", pattern: '*.nii'"+moves+"in/", "other")}, "", 0},
		"another bucket": {"", map[string]string{"a": inBucket("in/", moves+"out/", "other"), "b": "sources: {in: {kind: s3, bucket: else, prefix: out/" + moves + "in/}}\nsinks: {results: {kind: s3, bucket: other}}\n"}, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, text := deployedAs(t, c.sources, c.pipelines)
			switch {
			case c.want == "" && text != "", c.want != "" && !strings.Contains(text+"\n", c.want+"\n"), strings.Count(text, "without end") > 1:
				t.Errorf("want %q, got\n%s", c.want, text)
			case c.want == "" && len(s.Chains) != c.chains:
				t.Errorf("chains %q", s.Chains)
			}
		})
	}
}

// TestTooManyWays: where more ways lead on than anybody follows, there may be one that leads back, and nobody says that there is none.
func TestTooManyWays(t *testing.T) {
	t.Parallel()
	for layers, want := range map[int]string{12: "", 15: `inputs may be moved on in more than 10000 ways: nobody can tell whether they come back: p0's source "in" moves it`} {
		pipelines := map[string]string{}
		for i := range layers {
			pipelines[fmt.Sprint("p", i)] = inBucket(fmt.Sprintf("in%d/", i), fmt.Sprintf(", after: move, move_to: in%d/x/, after_failed: move, failed_to: in%d/y/", i+1, i+1), "other")
		}
		if _, text := deployedAs(t, "", pipelines); want == "" && text != "" || !strings.Contains(text, want) {
			t.Errorf("%d layers: %s", layers, text)
		}
	}
}
