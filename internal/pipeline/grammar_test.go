package pipeline

import (
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// inMapping puts keys into one of the mappings of a file that is otherwise right.
func inMapping(where, keys string) string {
	switch where {
	case "file":
		return small + keys + "\n"
	case "stage":
		return strings.Replace(small, "call: finder", "call: finder, "+keys, 1)
	case "processor":
		return strings.Replace(small, "kind: http", "kind: http, "+keys, 1)
	case "source":
		return small + "sources: {in: {kind: dir, path: x, " + keys + "}}\n"
	case "sink":
		return small + "sinks: {out: {kind: dir, path: x, " + keys + "}}\n"
	}
	return small + where + ": {" + keys + "}\n"
}

// TestLater: what the design has and this release has not is said to come, and not called unknown.
func TestLater(t *testing.T) {
	t.Parallel()
	for where, keys := range map[string][]string{
		"file":      {"deidentify", "keep_input", "notify"},
		"limits":    {"queued"},
		"sink":      {"send", "commit"},
		"processor": {"send", "async", "await"},
		"source":    {"discover"},
	} {
		for _, key := range keys {
			wantMistake(t, inMapping(where, key+": {a: [b]}"), `key "`+key+`" belongs to a later release`)
		}
	}
	for where, values := range map[string][]string{
		"extract": {"archives: [7z]", "archives: [zip, 7z]"},
	} {
		for _, value := range values {
			wantMistake(t, inMapping(where, value), "belongs to a later release")
		}
	}
}

// TestLaterKinds does the same for drivers and credentials, until the register has them.
func TestLaterKinds(t *testing.T) {
	t.Parallel()
	for role, kinds := range map[string][]string{
		"sources":    {"dicom", "dicomweb", "http"},
		"processors": {"oip", "torchserve", "tfserving", "dicom", "sagemaker", "graphql"},
		"sinks":      {"dicom", "dicomweb", "http"},
	} {
		for _, kind := range kinds {
			one := "  x: {kind: " + kind + ", whatever: 5}\n"
			src := small + role + ":\n" + one
			if role == "processors" {
				src = "gantry: v1\nname: small\nstages: [{name: find, call: x}]\nprocessors:\n" + one
			}
			wantMistake(t, src, `"`+kind+`" belongs to a later release`)
		}
	}
	for _, kind := range []string{"mtls", "oauth2"} {
		src := strings.Replace(small, `find"}}`, `find", auth: a}}`, 1) + "auth: {a: {kind: " + kind + "}}\n"
		wantMistake(t, src, `auth "`+kind+`" belongs to a later release`)
	}
}

// TestBounds gives every bounded key of the grammar the last value that is right and the first
// that is not.
func TestBounds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ where, right, wrong string }{
		{"extract", "depth: 1", "depth: 0"}, {"extract", "depth: 16", "depth: 17"},
		{"extract", "max_bytes: 1B", "max_bytes: 0B"}, {"extract", "max_bytes: 64TiB", "max_bytes: 65TiB"},
		{"extract", "max_entries: 1", "max_entries: 0"}, {"extract", "max_entries: 10000000", "max_entries: 10000001"},
		{"extract", "max_ratio: 1", "max_ratio: 0"}, {"extract", "max_ratio: 1000000", "max_ratio: 1000001"},
		{"limits", "in_progress: 1", "in_progress: 0"}, {"limits", "in_progress: 1000000", "in_progress: 1000001"},
		{"limits", "extracting: 1", "extracting: 0"}, {"limits", "responding: 1000000", "responding: 1000001"},
		{"timeouts", "queued: 1ms", "queued: 1us"}, {"timeouts", "extracting: 1ms", "extracting: 0s"},
		{"timeouts", "ingesting: 1ms", "ingesting: 0s"}, {"timeouts", "inferring: 3650d", "inferring: 3651d"},
		{"timeouts", "responding: 1ms", "responding: -1s"},
		{"retry", "attempts: 1", "attempts: 0"}, {"retry", "attempts: 1000", "attempts: 1001"},
		{"retry", "factor: 1", "factor: 0.9"}, {"retry", "factor: 100", "factor: 100.1"},
		{"retry", "initial: 5m", "initial: 301s"}, {"retry", "max: 2s", "max: 1s"}, {"retry", "initial: 1ms", "initial: 0s"},
		{"processor", "timeout: 1ms", "timeout: 0s"},
		{"processor", "limits: {concurrency: 1}", "limits: {concurrency: 0}"},
		{"processor", "limits: {concurrency: 100000}", "limits: {concurrency: 100001}"},
		{"processor", "limits: {rate: 1000000/s}", "limits: {rate: 1000001/s}"},
		{"processor", "limits: {rate: 1/s, burst: 1}", "limits: {rate: 1/s, burst: 0}"},
		{"processor", "limits: {breaker: {failures: 0}}", "limits: {breaker: {failures: -1}}"},
		{"processor", "limits: {breaker: {open: 1ms}}", "limits: {breaker: {open: 25h}}"},
		{"stage", "each: task", "each: tasks"}, {"stage", "on_error: skip", "on_error: Skip"},
		{"stage", "mode: sequential", "mode: parallel"},
		{"stage", "each: batch, max: 1", "each: batch, max: 0"}, {"stage", "mode: fanout, need: 1", "mode: fanout, need: 2"}, {"stage", "mode: fanout, need: all", "mode: fanout, need: 0"},
		{"stage", "pass: inputs", "pass: all"},
		{"stage", "mode: cumulative, each: item", "mode: cumulative, each: items"},
		{"file", "priority: offpeak", "priority: later"}, {"file", "on_error: fail", "on_error: stop"},
	} {
		wantMistake(t, inMapping(c.where, c.right), "")
		words := strings.FieldsFunc(c.wrong, func(r rune) bool { return strings.ContainsRune(" {},", r) })
		key := words[len(words)-2] // the last one, with its colon
		if c.where == "retry" && key == "initial:" && c.wrong != "initial: 0s" {
			key = "max:" // the default is what it does not fit
		}
		wantMistake(t, inMapping(c.where, c.wrong), key+" ")
	}
}

// TestNames tries the names of everything that has one.
func TestNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 63)
	for name, right := range map[string]bool{
		"a": true, "0": true, "ct-head-2": true, "-": true, long: true,
		long + "a": false, "A": false, "a_b": false, "a.b": false, "a b": false, "é": false, "a/b": false, "../a": false, "a\\n": false,
	} {
		quoted := `"` + name + `"`
		for what, src := range map[string]string{
			"pipeline":  strings.Replace(small, "name: small", "name: "+quoted, 1),
			"stage":     strings.Replace(small, "name: find", "name: "+quoted, 1),
			"processor": strings.NewReplacer("call: finder", "call: "+quoted, "{finder:", "{"+quoted+":").Replace(small),
			"source":    small + "sources: {" + quoted + ": {kind: dir, path: x}}\n",
			"sink":      small + "sinks: {" + quoted + ": {kind: dir, path: x}}\n",
			"credential": strings.Replace(small, `find"}}`, `find", auth: `+quoted+`}}`, 1) +
				"auth: {" + quoted + ": {kind: bearer, token: '${env:T}'}}\n",
		} {
			if got := mistakes(t, src); (got == nil) != right || len(got) > 1 {
				t.Errorf("%s %s: %q", what, quoted, got)
			}
		}
	}
}

// TestAuth checks who may refer to a credential, and what each kind must have.
func TestAuth(t *testing.T) {
	t.Parallel()
	const bearer = "auth: {a: {kind: bearer, token: '${env:T}'}}\n"
	for _, where := range []string{"source", "sink", "processor"} {
		wantMistake(t, inMapping(where, "auth: a")+bearer, "")
		wantMistake(t, inMapping(where, "auth: a"), `auth: no credential "a"`)
		wantMistake(t, inMapping(where, "auth: [a]")+bearer, "auth: want one value, have a list")
		// Taken for absent, it would send calls unsigned.
		wantMistake(t, inMapping(where, "auth: ''")+bearer, "auth: it is empty")
		wantMistake(t, inMapping(where, `auth: "${env:WHO}"`)+bearer, "auth: it is empty", "WHO", "")
		wantMistake(t, inMapping(where, `auth: "${env:WHO}"`)+bearer, "", "WHO", "a")
	}
	for block, want := range map[string]string{
		"{kind: bearer}":                                    "token is missing in auth.a",
		"{kind: basic, username: u}":                        "password is missing in auth.a",
		"{kind: basic, password: '${env:P}'}":               "username is missing in auth.a",
		"{kind: basic, username: '', password: '${env:P}'}": "username: it is empty",
		"{kind: bearer, token: '${env:T}', username: u}":    `unknown key "username"`,
		"{kind: basc}":                                      `did you mean "basic"`,
		"{}":                                                "kind is missing in auth.a",
	} {
		wantMistake(t, inMapping("processor", "auth: a")+"auth: {a: "+block+"}\n", want)
	}
}

// TestOneTarget: limits are counted by target, so two names for one must agree on them.
func TestOneTarget(t *testing.T) {
	t.Parallel()
	two := func(a, b string) string {
		return "gantry: v1\nname: two\nstages: [{name: s, call: a}, {name: t, call: b}]\nprocessors:\n" +
			"  a: {kind: http, url: " + a + "}\n  b: {kind: http, url: " + b + "}\n"
	}
	wantMistake(t, two("'http://h/x', limits: {concurrency: 2}", "'http://h/y', limits: {concurrency: 2}"), "")
	wantMistake(t, two("'http://h/x', limits: {concurrency: 2}", "'http://i/y', limits: {concurrency: 3}"), "")
	wantMistake(t, two("'http://h/x', limits: {rate: 60/m}", "'http://h/y', limits: {rate: 1/s}"), "")
	wantMistake(t, two("'http://h/x', limits: {concurrency: 4}", "'http://h/y'"), "")
	wantMistake(t, two("'http://h/x', limits: {concurrency: 2}", "'http://h/y'"), `6:3: limits: processor "a" calls the same target, http://h, with other limits`)
	wantMistake(t, two("'http://h/x'", "'http://h/y', limits: {rate: 5/s}"), "calls the same target")
}

// TestServable asks for what gantry run brings along and gantry serve does not.
func TestServable(t *testing.T) {
	t.Parallel()
	source, sink := "sources: {in: {kind: dir, path: x}}\n", "sinks: {out: {kind: dir, path: x}}\n"
	for src, want := range map[string]string{source + sink: "", source: "sinks", sink: "sources"} {
		err := Servable(mustParse(t, small+src))
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || gantry.KindOf(err) != gantry.Illegal) {
			t.Errorf("%s: %v", src, err)
		}
	}
}
