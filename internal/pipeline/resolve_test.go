package pipeline

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/google/go-cmp/cmp"
)

// roundTrip reads a resolved pipeline and wants the same version and the same pipeline, but for what
// is no part of a version.
func roundTrip(t *testing.T, p *gantry.Pipeline) {
	t.Helper()
	roundTripOf(t, p, fake{})
}

func roundTripOf(t *testing.T, p *gantry.Pipeline, k Kinds) {
	t.Helper()
	again, err := ParseResolved(p.Resolved, k)
	if err != nil {
		t.Fatalf("ParseResolved: %v\n%s", err, p.Resolved)
	}
	f, _, err := parseResolved(p.Resolved, k)
	if err != nil {
		t.Fatal(err)
	}
	rewritten, version, err := resolve(f)
	if err != nil || !bytes.Equal(rewritten, p.Resolved) || version != p.Version || again.Version != p.Version {
		t.Fatalf("written again (%v):\n%s\n%s", err, p.Resolved, rewritten)
	}
	want := *p
	want.Description, want.Priority, want.InProgress, want.States, want.Tests = "", gantry.PriorityNormal, 0, nil, nil
	want.Processors = slices.Clone(p.Processors)
	for i := range want.Processors {
		want.Processors[i].Limits = gantry.Limits{Concurrency: gantry.DefaultConcurrency, Breaker: gantry.DefaultBreaker}
	}
	if diff := cmp.Diff(&want, again, sameText); diff != "" {
		t.Fatalf("-parsed +read back\n%s", diff)
	}
}

func TestResolved(t *testing.T) {
	t.Parallel()
	p := mustParse(t, full, "ROOT", "/mnt/x", "ROUTE", "v1")
	roundTrip(t, p)
	want := `{"auth":{"desk":{"header":"X-API-Key","kind":"header","value":"${env:DESK}"},"door":{"kind":"basic","password":"${env:DOOR}","username":"gantry"},"model":{"kind":"bearer","token":"${file:/run/secrets/model}"}},` +
		`"extract":{"archives":[],"depth":2,"frames":"npy","max_bytes":"512MiB","max_entries":7,"max_ratio":9,"sample":"5/s","shard":512,"video":"jpeg","window":"40/400"},"gantry":"v1","name":"full","on_error":"skip",` +
		`"processors":{"finder":{"auth":"model","body":"zip","headers":{"X-Route":"v1","X-Site":"north"},"kind":"http","timeout":"10s","url":"http://a.local/v1?x=1&y=<2>"},` +
		`"other":{"auth":"desk","body":"raw","kind":"http","timeout":"1m","url":"http://b.local"}},` +
		`"retry":{"attempts":2,"factor":1.5,"initial":"500ms","max":"1m"},` +
		`"sinks":{"results":{"kind":"dir","path":"/srv/results","rejoin":"original"}},` +
		`"sources":{"abroad":{"auth":"door","kind":"dir","path":"/mnt/x/in","pattern":"*","settle":"1s"},"inbox":{"kind":"dir","path":"/etc/gantry/in","pattern":"*.dcm","settle":"5s"}},` +
		`"stages":[{"call":["finder"],"each":"task","mode":"sequential","name":"find","need":"all","on_error":"skip","pass":"both"},` +
		`{"call":["other"],"each":"part","keep_if":"result.score > 0.4","mode":"sequential","name":"again","need":"all","on_error":"fail"},` +
		`{"call":["finder","other"],"each":"batch","max":16,"mode":"fanout","name":"side","need":"1","on_error":"fail","when":"stages.again.other[0].ok"},` +
		`{"call":["other"],"each":"item","mode":"cumulative","name":"last","need":"all","on_error":"fail"}],` +
		`"timeouts":{"extracting":"1m","inferring":"1h30m","ingesting":"2m","queued":"720h","responding":"1m30s"},"when":"dicom.Modality == \"US\""}`
	if diff := cmp.Diff(want, string(p.Resolved)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if !json.Valid(p.Resolved) {
		t.Error("it is no JSON")
	}
}

// TestVersion changes a file: what means the same keeps the version, what a task would notice does
// not.
func TestVersion(t *testing.T) {
	t.Parallel()
	env := []string{"ROOT", "/mnt/x", "ROUTE", "v1"}
	version := mustParse(t, full, env...).Version
	for name, c := range map[string]struct {
		old, new string
		same     bool
	}{
		"comment":                  {"# a comment", "# another", true},
		"description":              {"Everything, once.", "Something else", true},
		"priority":                 {"urgent", "offpeak", true},
		"in_progress":              {"in_progress: 20", "in_progress: 21", true},
		"a state's limit":          {"extracting: 2", "extracting: 3", true},
		"a breaker":                {"rate: 120/m", "rate: 120/m, breaker: {failures: 0}", true},
		"limits of a processor":    {"rate: 120/m", "rate: 3/s", true},
		"other unit of a duration": {"timeout: 10s", "timeout: 10000ms", true},
		"minutes for seconds":      {"responding: 90s", "responding: 1m30s", true},
		"hours for days":           {"queued: 30d", "queued: 720h", true},
		"other unit of a size":     {"512MiB", "524288KiB", true},
		"other spelling of 1.5":    {"factor: 1.5", "factor: 15e-1", true},
		"a default, written out":   {"{name: full", "{name: full", true},
		"a list of one":            {"call: other", "call: [other]", true},
		"quotes":                   {"mode: sequential", `"mode": 'sequential'`, true},
		"order of keys":            {"headers: {X-Site: north, X-Route: \"${env:ROUTE}\"}", "headers: {X-Route: \"${env:ROUTE}\", X-Site: north}", true},
		"a variable, written out":  {"${env:ROUTE}?x", "v1?x", true},
		"another path to a folder": {"path: in,", "path: ../gantry/./in,", true},
		"no headers, written out":  {`url: "http://b.local"`, `url: "http://b.local", headers: {}`, true},
		"CRLF":                     {"\n", "\r\n", true},

		"url":            {"http://b.local", "http://c.local", false},
		"order of calls": {"call: [finder]", "call: [other]", false},
		"timeout":        {"timeout: 10s", "timeout: 11s", false},
		"settle":         {"settle: 5s", "settle: 6s", false},
		"header":         {"X-Site: north", "X-Site: south", false},
		"secret's place": {"/run/secrets/model", "/run/secrets/model2", false},
		"extract":        {"depth: 2", "depth: 3", false},
		"retry":          {"attempts: 2", "attempts: 3", false},
		"stage's name":   {"again", "anew", false},
		"name":           {"name: full", "name: fuller", false},
		"folder":         {"path: in,", "path: out,", false},
		"need":           {"need: any", "need: 1", true},
		"when":           {`dicom.Modality == "US"`, `dicom.Modality == "CT"`, false},
		"keep_if":        {"result.score > 0.4", "result.score > 0.5", false},
		"mode":           {"mode: cumulative", "mode: fanout", false},
		"max":            {"max: 16", "max: 17", false},
		"pass":           {"pass: both", "pass: inputs", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src := strings.ReplaceAll(full, c.old, c.new)
			if name == "order of calls" {
				src = strings.NewReplacer("call: other\n", "call: finder\n", "again.other", "again.finder").Replace(src)
			}
			p := mustParse(t, src, env...)
			if (p.Version == version) != c.same {
				t.Errorf("same version: %v", p.Version == version)
			}
			roundTrip(t, p)
		})
	}
	if p := mustParse(t, full, "ROOT", "/mnt/x", "ROUTE", "v2"); p.Version == version {
		t.Error("another variable gave the same version")
	}
}

// TestReadBackOld checks that a resolved pipeline is read with fewer rules than a file: the rules
// of today are not those that it was written under.
func TestReadBackOld(t *testing.T) {
	t.Parallel()
	for name, doc := range map[string]string{
		"unused processor":   `{"gantry":"v1","name":"x","processors":{"a":{"kind":"http","url":"http://a"},"b":{"kind":"http","url":"http://b"}},"stages":[{"call":["a"],"name":"s"}]}`,
		"a rule of a driver": `{"gantry":"v1","name":"x","processors":{"a":{"kind":"http","url":"gopher://a"}},"stages":[{"call":["a"],"name":"s"}]}`,
		"a reference as it is": `{"gantry":"v1","name":"x","processors":{"a":{"kind":"http","url":"http://${env:NOPE}/~"}},` +
			`"sinks":{"s":{"kind":"dir","path":"/x"}},"stages":[{"call":["a"],"name":"s"}]}`,
	} {
		p, err := ParseResolved([]byte(doc), fake{})
		if err != nil || string(p.Resolved) != doc || p.Version.IsZero() {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, doc := range map[string]string{
		"gone driver": `{"gantry":"v1","name":"x","sources":{"a":{"kind":"ftp"}},"stages":[{"call":["a"],"name":"s"}]}`,
		"gone key":    `{"gantry":"v1","name":"x","colour":"red","stages":[{"call":["a"],"name":"s"}]}`,
		"not JSON":    `{"gantry":`,
		"empty":       ``,
	} {
		if p, err := ParseResolved([]byte(doc), fake{}); err == nil || p != nil {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
}

// TestRandom writes files at random, in two spellings of the same, and wants one version from both
// and the same pipeline back from it.
func TestRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		a, b := randomFile(rand.New(rand.NewPCG(seed, 1)))
		p, q := mustParse(t, a, "V", "value"), mustParse(t, b, "V", "value")
		if p.Version != q.Version {
			t.Fatalf("seed %d: two versions of\n%s\n%s\n%s\n%s", seed, a, b, p.Resolved, q.Resolved)
		}
		roundTrip(t, p)
		roundTrip(t, q)
	}
}

// randomFile gives one pipeline written twice: with keys in another order, units in another size,
// and other quotes, and with comments.
func randomFile(r *rand.Rand) (string, string) {
	texts := []string{"a", "é ü", "a: b", `q"q`, `b\s`, "# no", "tab\there", "two\nlines", "${env:V}", "&", "<x>", "日本", "true", "5", "\U0001F600", " lead", "'", "~"}
	var a, b []string
	add := func(x, y string) { a, b = append(a, x), append(b, y) }
	seconds := 1 + r.IntN(5000)
	add(fmt.Sprintf("timeouts: {queued: %ds}", seconds), fmt.Sprintf("timeouts:\n  queued: %dms", seconds*1000))
	mib := 1 + r.IntN(5000)
	add(fmt.Sprintf("extract: {max_bytes: %dMiB}", mib), fmt.Sprintf("extract: {max_bytes: \"%dKiB\", depth: 3}", mib*1024))
	add(fmt.Sprintf("retry: {factor: %d}", 1+r.IntN(9)), "")
	b[len(b)-1] = a[len(a)-1] + " # a comment"
	var headers, shuffled []string
	for i := range r.IntN(6) {
		text, _ := json.Marshal(texts[r.IntN(len(texts))])
		headers = append(headers, fmt.Sprintf("H%d: %s", i, text))
		shuffled = append(shuffled, fmt.Sprintf("'H%d': %s", i, text))
	}
	r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	var stages string
	for i := range 1 + r.IntN(4) {
		stages += fmt.Sprintf("  - {name: s%d, call: p%d}\n", i, i%2)
	}
	other := ""
	if strings.Contains(stages, "p1") {
		other = "\n  p1: {kind: http, url: \"http://x/${env:V}\"}"
	}
	add(fmt.Sprintf("processors:\n  p0: {kind: http, url: \"http://h:%d\", headers: {%s}, body: raw}%s", 1+r.IntN(60000), strings.Join(headers, ", "), other), "")
	b[len(b)-1] = strings.Replace(strings.Replace(a[len(a)-1], strings.Join(headers, ", "), strings.Join(shuffled, ", "), 1), ", body: raw}", "}", 1)
	add("stages:\n"+stages, "stages:\n"+stages)
	r.Shuffle(len(b), func(i, j int) { b[i], b[j] = b[j], b[i] })
	head := "gantry: v1\nname: random\n"
	return head + strings.Join(a, "\n") + "\n", head + strings.Join(b, "\n\n# …\n") + "\n"
}
