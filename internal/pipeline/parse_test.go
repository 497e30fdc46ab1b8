package pipeline

import (
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/google/go-cmp/cmp"
)

// full sets every key to something that is not its default.
const full = `# a comment
gantry: v1
name: full
description: "Everything, once."
priority: urgent
sources:
  inbox: {kind: dir, path: in, pattern: "*.dcm", settle: 5s}
  abroad: {kind: dir, path: "${env:ROOT}/in", auth: door}
when: 'dicom.Modality == "US"'
extract: {archives: [], depth: 2, max_bytes: 512MiB, max_entries: 7, max_ratio: 9, frames: npy, video: jpeg, window: 40/400, sample: 300/m}
limits: {in_progress: 20, extracting: 2, inferring: 9}
timeouts: {queued: 30d, extracting: 1m, ingesting: 2m, inferring: 1h30m, responding: 90s}
retry: {attempts: 2, initial: 500ms, factor: 1.5, max: 1m}
on_error: skip
stages:
  - {name: find, mode: sequential, each: task, call: [finder], on_error: skip, pass: both}
  - name: again
    call: other
    keep_if: result.score > 0.4
  - {name: side, mode: fanout, each: batch, max: 16, need: any, call: [finder, other], when: "stages.again.other[0].ok"}
  - {name: last, mode: cumulative, each: item, call: other}
sinks:
  results: {kind: dir, path: /srv/out/../results, rejoin: original}
processors:
  finder:
    kind: http
    url: "http://a.local/${env:ROUTE}?x=1&y=<2>"
    body: zip
    headers: {X-Site: north, X-Route: "${env:ROUTE}"}
    timeout: 10s
    limits: {concurrency: 8, rate: 120/m, burst: 40}
    auth: model
  other: {kind: http, url: "http://b.local", auth: desk}
auth:
  desk: {kind: header, header: X-API-Key, value: "${env:DESK}"}
  model: {kind: bearer, token: "${file:/run/secrets/model}"}
  door: {kind: basic, username: gantry, password: "${env:DOOR}"}
`

func TestParseFull(t *testing.T) {
	t.Parallel()
	got := mustParse(t, full, "ROOT", "/mnt/x", "ROUTE", "v1")
	want := &gantry.Pipeline{
		Name: "full", Description: "Everything, once.", Priority: gantry.PriorityUrgent,
		Sources: []gantry.Endpoint{
			{Name: "abroad", Kind: "dir", Config: &dirSource{Path: "/mnt/x/in", Pattern: "*", Settle: time.Second},
				Auth: &gantry.Credential{Name: "door", Kind: "basic", Username: "gantry", Password: "${env:DOOR}"}},
			{Name: "inbox", Kind: "dir", Config: &dirSource{Path: "/etc/gantry/in", Pattern: "*.dcm", Settle: 5 * time.Second}},
		},
		Sinks: []gantry.Endpoint{{Name: "results", Kind: "dir", Config: &dirSink{Path: "/srv/results"}, Rejoin: gantry.RejoinOriginal}},
		Processors: []gantry.Processing{
			{Endpoint: gantry.Endpoint{Name: "finder", Kind: "http",
				Config: &httpProcessor{URL: "http://a.local/v1?x=1&y=<2>", Body: "zip", Headers: map[string]string{"X-Site": "north", "X-Route": "v1"}},
				Auth:   &gantry.Credential{Name: "model", Kind: "bearer", Token: "${file:/run/secrets/model}"}},
				Timeout: 10 * time.Second, Limits: gantry.Limits{Concurrency: 8, Rate: 2, Burst: 40, Breaker: gantry.DefaultBreaker}},
			{Endpoint: gantry.Endpoint{Name: "other", Kind: "http", Config: &httpProcessor{URL: "http://b.local", Body: "raw"},
				Auth: &gantry.Credential{Name: "desk", Kind: "header", Header: "X-API-Key", Value: "${env:DESK}"}},
				Timeout: time.Minute, Limits: gantry.Limits{Concurrency: gantry.DefaultConcurrency, Breaker: gantry.DefaultBreaker}},
		},
		Stages: []gantry.Stage{
			{Name: "find", Mode: gantry.Sequential, Each: gantry.EachTask, Call: []string{"finder"}, OnError: gantry.OnErrorSkip, Pass: gantry.PassBoth},
			{Name: "again", Mode: gantry.Sequential, Each: gantry.EachPart, Call: []string{"other"}, OnError: gantry.OnErrorFail, KeepIf: &condition{text: "result.score > 0.4"}},
			{Name: "side", Mode: gantry.Fanout, Each: gantry.EachBatch, Call: []string{"finder", "other"}, Max: 16, Need: 1, OnError: gantry.OnErrorFail, When: &condition{text: "stages.again.other[0].ok"}},
			{Name: "last", Mode: gantry.Cumulative, Each: gantry.EachItem, Call: []string{"other"}, OnError: gantry.OnErrorFail},
		},
		When: &condition{text: `dicom.Modality == "US"`},
		Extract: gantry.Extract{Archives: []string{}, Depth: 2, MaxBytes: 512 << 20, MaxEntries: 7, MaxRatio: 9,
			Frames: gantry.RenderNPY, Video: gantry.RenderJPEG, Window: "40/400", Sample: 5, Shard: 512},
		InProgress: 20, States: map[gantry.State]int{gantry.Extracting: 2, gantry.Inferring: 9},
		Timeouts: gantry.Timeouts{Queued: 30 * 24 * time.Hour, Extracting: time.Minute, Ingesting: 2 * time.Minute,
			Inferring: 90 * time.Minute, Responding: 90 * time.Second},
		Retry:   gantry.RetryPolicy{Attempts: 2, Initial: 500 * time.Millisecond, Factor: 1.5, Max: time.Minute},
		OnError: gantry.OnErrorSkip,
		Version: got.Version, Resolved: got.Resolved,
	}
	if diff := cmp.Diff(want, got, sameText); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if err := Servable(got); err != nil {
		t.Error(err)
	}
}

// TestDefaults checks the defaults that the design gives.
func TestDefaults(t *testing.T) {
	t.Parallel()
	got := mustParse(t, small)
	want := &gantry.Pipeline{
		Name: "small", Priority: gantry.PriorityNormal, Processors: got.Processors, Stages: got.Stages,
		Extract: gantry.Extract{Archives: []string{"zip", "tar", "tar.gz", "tar.zst"}, Depth: 3, MaxBytes: 20 << 30, MaxEntries: 100000, MaxRatio: 200, Window: "file", Shard: 512},
		Timeouts: gantry.Timeouts{Queued: 12 * time.Hour, Extracting: 15 * time.Minute, Ingesting: 5 * time.Minute,
			Inferring: time.Hour, Responding: 15 * time.Minute},
		Retry:   gantry.RetryPolicy{Attempts: 5, Initial: 2 * time.Second, Factor: 2, Max: 5 * time.Minute},
		OnError: gantry.OnErrorFail, Version: got.Version, Resolved: got.Resolved,
	}
	if diff := cmp.Diff(want, got, sameText); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if c := got.Processors[0].Limits.Concurrency; c != gantry.DefaultConcurrency {
		t.Errorf("concurrency %d, want DefaultConcurrency", c)
	}
	err := Servable(got)
	if err == nil || !strings.Contains(err.Error(), "sources") || !strings.Contains(err.Error(), "sinks") || gantry.KindOf(err) != gantry.Illegal {
		t.Errorf("Servable: %v", err)
	}
}

// TestAtOnce checks that a mistake does not hide others, nor make up new ones.
func TestAtOnce(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		src  string
		want []string
	}{
		"misspelt call key: its processor is not called unused": {strings.Replace(small, "call:", "cal:", 1),
			[]string{`3:23: unknown key "cal" (did you mean "call"?)`}},
		"misspelt auth key: its credential is not called unused": {
			strings.Replace(small, `find"}}`, `find", auht: a}}`, 1) + "auth: {a: {kind: bearer, token: '${env:T}'}}\n",
			[]string{`4:70: unknown key "auht" (did you mean "auth"?)`}},
		"wrong section: its names are not called missing": {strings.Replace(small, `{finder: {kind: http, url: "http://127.0.0.1:8095/find"}}`, "[finder]", 1),
			[]string{`4:13: processors: want a mapping of keys to values, have a list`}},
		"no processors": {strings.Split(small, "processors")[0], []string{`3:29: call: no processor "finder"`}},
		"wrong kind: its other keys are not judged": {strings.Replace(small, "kind: http", "kind: htp", 1),
			[]string{`4:29: kind: "htp" is no kind of processor; there is http (did you mean "http"?)`}},
		"wrong kind and a wrong key of ours": {strings.Replace(small, "kind: http", "kind: htp, timeout: 5", 1),
			[]string{`4:29: kind: "htp" is no kind of processor; there is http (did you mean "http"?)`,
				`4:43: timeout: "5" has no unit (did you mean "5s"?)`}},
		"another version: nothing else is judged": {"gantry: v7\nstuff: [1, 2]\n",
			[]string{`1:9: gantry: "v7" is not a grammar that this release reads (did you mean "v1"?)`}},
		"misspelt gantry":      {strings.Replace(small, "gantry", "gantri", 1), []string{`1:1: unknown key "gantri" (did you mean "gantry"?)`}},
		"rules wait for types": {small + "retry: {initial: 1h, max: 5}\n", []string{`5:27: max: "5" has no unit (did you mean "5s"?)`}},
		"undecodable call":     {strings.Replace(small, "call: finder", "call: [[finder]]", 1), []string{"3:30: call: want one value, have a list"}},
	} {
		if diff := cmp.Diff(c.want, mistakes(t, c.src)); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
}

// TestEnvironment checks what variables may and may not do.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	with := func(text string) string { return sink("map: {k: \"" + text + "\"}") }
	for name, c := range map[string]struct{ text, value, want, err string }{
		"whole":              {"${env:V}", "x", "x", ""},
		"inside, twice":      {"a ${env:V}-${env:V}", "x", "a x-x", ""},
		"empty but set":      {"a${env:V}", "", "a", ""},
		"taken as it is":     {"${env:V}", "${env:V} $ {", "${env:V} $ {", ""},
		"dollars alone":      {"$V $5 {x}", "", "$V $5 {x}", ""},
		"YAML in a variable": {"${env:V}", "a: [b", "a: [b", ""},
		"unset":              {"${env:W}", "x", "", "the environment variable W is not set"},
		"a file":             {"${file:/etc/passwd}", "x", "", "${…} here is ${env:NAME}"},
		"shell":              {"${V}", "x", "", "${…} here is ${env:NAME}"},
		"open":               {"${env:V", "x", "", "${…} here is ${env:NAME}"},
		"bad name":           {"${env:1V}", "x", "", "${…} here is ${env:NAME}"},
		"control character":  {"${env:V}", "a\x1b[31m", "", "control character"},
		"not UTF-8":          {"${env:V}", "\xff", "", "not UTF-8"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantMistake(t, with(c.text), c.err, "V", c.value)
			if c.err != "" {
				return
			}
			p := mustParse(t, with(c.text), "V", c.value)
			if got := p.Sinks[0].Config.(*everything).Map["k"]; got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
