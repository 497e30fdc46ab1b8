package pipeline

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// stagesOf puts stages over two processors into a file.
func stagesOf(stages ...string) string {
	return "gantry: v1\nname: small\nprocessors:\n  a: {kind: http, url: 'http://h/a'}\n  b: {kind: http, url: 'http://h/b'}\nstages:\n  - " +
		strings.Join(append(stages, "{name: uses-both, mode: fanout, call: [a, b]}"), "\n  - ") + "\n"
}

// TestStageKeys holds mode, each, call, max and need against one another.
func TestStageKeys(t *testing.T) {
	t.Parallel()
	for stage, want := range map[string]string{
		"{name: s, call: a}":                                                               "",
		"{name: s, call: [a, b]}":                                                          "7:21: call: a sequential stage calls one processor, not 2",
		"{name: s, mode: cumulative, call: [a, b]}":                                        "call: a cumulative stage calls one processor, not 2",
		"{name: s, mode: fanout, call: a}":                                                 "",
		"{name: s, mode: fanout, call: []}":                                                "call: it is empty",
		"{name: s, mode: fanout, call: [a, b], need: 2}":                                   "",
		"{name: s, mode: fanout, call: [a, b], need: any}":                                 "",
		"{name: s, mode: fanout, call: [a, b], need: 3}":                                   "need: 3 of 2 processors can never answer",
		"{name: s, mode: fanout, call: [a, b], need: 02}":                                  `need: "02" is neither all`,
		"{name: s, mode: fanout, call: [a, b], need: -1}":                                  `need: "-1" is neither all`,
		"{name: s, mode: fanout, call: [a, b], need: anny}":                                `did you mean "any"`,
		"{name: s, mode: cumulative, call: a, need: all}":                                  "need: it goes with mode: fanout, not with mode: cumulative",
		"{name: s, each: batch, max: 8, call: a}":                                          "",
		"{name: s, each: batch, call: a}":                                                  "7:21: each: batch wants max",
		"{name: s, each: batch, mx: 8, call: a}":                                           `unknown key "mx" (did you mean "max"?)`,
		"{name: s, each: batch, max: 100001, call: a}":                                     "max: it must be at most 100000",
		"{name: s, each: item, max: 8, call: a}":                                           "max: it goes with each: batch, not with each: item",
		"{name: s, each: item, mode: cumulative, call: a}":                                 "",
		"{name: s, mode: fanout, call: [a, a]}":                                            `call: "a" stands twice`,
		"{name: s, mode: fan, need: any, call: a}":                                         `mode: "fan" is not one of`,
		"{name: s, each: batches, max: 8, call: a}":                                        `each: "batches" is not one of`,
		"{name: s, mode: fanout, call: [a, b], keep_if: 'result > 1'}":                     `unknown name "result"`,
		"{name: s, mode: fanout, call: [a, b], keep_if: 'results.a > 1 or results.b > 1'}": "",
	} {
		wantMistake(t, stagesOf(stage), want)
	}
}

// TestStageResults: an expression speaks of earlier stages and their processors.
func TestStageResults(t *testing.T) {
	t.Parallel()
	first := "{name: first, mode: fanout, call: [a, b]}"
	for when, want := range map[string]string{
		"all(stages.first.a, .ok)": "", "all(stages.first.b, .result.score > 1)": "", "all(stages.first.c, .ok)": `8:53: when: stages.first has no "c"`,
		"all(stages.frst.a, .ok)": `stages has no "frst" (did you mean "first"?)`, "all(stages.second.a, .ok)": "earlier stages only", "all(stages.uses-both.a, .ok)": `stages has no "uses"`,
		`all(stages["uses-both"].a, .ok)`: "earlier stages only",
	} {
		got := mistakes(t, stagesOf(first, "{name: second, call: a, when: '"+when+"'}"))
		if want == "" && got == nil || want != "" && len(got) > 0 && strings.Contains(got[0], want) {
			continue
		}
		t.Errorf("%s: %q, want %q", when, got, want)
	}
}

// TestFirstLightOfOld reads what the release before this one kept of a pipeline, and of its version.
func TestFirstLightOfOld(t *testing.T) {
	t.Parallel()
	doc := `{"extract":{"archives":["zip"],"depth":3,"max_bytes":"20GiB","max_entries":100000,"max_ratio":200},"gantry":"v1","name":"first-light","on_error":"fail",` +
		`"processors":{"score":{"body":"raw","kind":"http","timeout":"20s","url":"http://127.0.0.1:8095/v1/quality"}},"retry":{"attempts":5,"factor":2,"initial":"2s","max":"5m"},` +
		`"stages":[{"call":["score"],"each":"part","mode":"sequential","name":"quality","on_error":"fail"}],"timeouts":{"extracting":"15m","inferring":"1h","ingesting":"5m","queued":"12h","responding":"15m"}}`
	p, err := ParseResolved([]byte(doc), fake{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"zip"}, p.Extract.Archives); diff != "" || p.When != nil || p.Stages[0].When != nil || p.Stages[0].Mode != gantry.Sequential {
		t.Errorf("%+v", p)
	}
}

// TestValues writes and reads the scalars of values.go.
func TestValues(t *testing.T) {
	t.Parallel()
	var s sample
	for text, want := range map[string]float64{"5": 5, "5/s": 5, "30/m": 0.5, "0.5": 0.5} {
		if err := s.UnmarshalText([]byte(text)); err != nil || float64(s) != want {
			t.Errorf("%s: %v, %v", text, s, err)
		}
	}
	for _, text := range []string{"", "x", "5/d", "0", "-1", "1e9", "/s"} {
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("sample %q is right", text)
		}
	}
	var w window
	for _, text := range []string{"file", "full", "stored", "40/400", "-600/1500", "0.5/1.5"} {
		if err := w.UnmarshalText([]byte(text)); err != nil || string(w) != text {
			t.Errorf("window %s: %v", text, err)
		}
	}
	for _, text := range []string{"", "ful", "40", "40/", "/400", "40/0.5", "40/-1", "a/b", "1/2/3", "NaN/5", "5/Inf"} {
		if err := w.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("window %q is right", text)
		}
	}
}
