package app_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
	"github.com/gantry-imaging/gantry/internal/postgres"
	"github.com/gantry-imaging/gantry/internal/sample"
)

// trial runs a test with what it says in YAML.
func (r *rig) trial(src string) app.TestOutcome {
	r.t.Helper()
	p := parsed(r.t, src)
	o, err := r.RunTest(r.t.Context(), p, p.Tests[0])
	if err != nil {
		r.t.Fatalf("%v\n%s", err, r.log.text())
	}
	if o.Pipeline != p.Name || o.Name != p.Tests[0].Name || o.OK != (len(o.Differences) == 0) {
		r.t.Errorf("%+v", o)
	}
	return o
}

// TestTrialsShipped runs the tests of the pipelines that ship, and then with an expectation each that is wrong.
func TestTrialsShipped(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	n := 0
	list, err := pipeline.LoadAll([]string{"../../pipelines"}, all.Drivers(), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		for _, one := range p.Tests {
			n++
			if o, err := r.RunTest(t.Context(), p, one); err != nil || !o.OK {
				t.Errorf("%s: %s: %v %+v", p.Name, one.Name, err, o)
			}
			one.Expect.Outputs += 100
			want := []string{"outputs"}
			if o, err := r.RunTest(t.Context(), p, one); err != nil || o.OK || cmp.Diff(want, whats(o)) != "" {
				t.Errorf("%s: %s, wrong: %v %+v", p.Name, one.Name, err, o)
			}
		}
	}
	if n < 4 {
		t.Errorf("%d tests", n)
	}
	// The record says that mocks were called, of a pipeline of its own.
	for _, c := range r.calls(postgres.Filter{}) {
		if !strings.HasPrefix(c.Target, "mock://test:") || !strings.HasSuffix(c.Target, "/"+c.Processor) {
			t.Fatalf("recorded %+v", c)
		}
	}
}

func whats(o app.TestOutcome) (out []string) {
	for _, d := range o.Differences {
		out = append(out, d.What)
	}
	return out
}

// TestTrialDifferences tells everything that is not as it should be, with what is.
func TestTrialDifferences(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	good, bad := file(t, "a.png", noise(9, [32]byte{1})), file(t, "b.png", []byte("no picture"))
	o := r.trial(twoStages("http://127.0.0.1:9") + `tests:
  - {name: t, input: ["` + good + `", "` + bad + `"], mock: {score: {score: 1}, draw: 5},
     expect: {state: failed, error: malformed, calls: {score: 2, draw: 1}, outputs: 3}}
`)
	want := []app.Difference{
		{What: "state of input 1", Want: "failed", Got: "done"},
		{What: "error of input 1", Want: "malformed", Got: "none"},
		{What: "error of input 2", Want: "malformed", Got: "unsupported_format: input is refused: unsupported_format"},
		{What: "calls of score", Want: "2", Got: "1"},
		{What: "outputs", Want: "3", Got: "2"},
	}
	if diff := cmp.Diff(want, o.Differences); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]int{"score": 1, "draw": 1}, o.Calls); diff != "" {
		t.Error(diff)
	}
}

// TestTrialAnswers gives every sort of answer, and looks at what the next stage makes of it.
func TestTrialAnswers(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	input := file(t, "a.png", noise(9, [32]byte{1}))
	folder := filepath.Dir(input)
	for name, b := range map[string][]byte{"m.png": noise(9, [32]byte{2}), "m.json": []byte(`[1]`), "m.npy": []byte("\x93NUMPY\x01\x00"), "m.dcm": study(t, 1)[0], "m.txt": []byte("text")} {
		if err := os.WriteFile(filepath.Join(folder, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	one := func(answer, expect string) app.TestOutcome {
		return r.trial(twoStages("http://127.0.0.1:9") + "tests: [{name: t, input: '" + input + "', mock: {score: " + answer + ", draw: $echo}, expect: {" + expect + "}}]\n")
	}
	for answer, expect := range map[string]string{
		"{score: 0.5}":                   "outputs: 2, calls: {score: 1, draw: 1}",
		"null":                           "outputs: 2",
		"$echo":                          "outputs: 1", // the second takes the place of the first
		"{$file: " + folder + "/m.png}":  "outputs: 1",
		"{$file: " + folder + "/m.dcm}":  "outputs: 1",
		"{$file: " + folder + "/m.json}": "outputs: 2",
		"{$file: " + folder + "/m.npy}":  "outputs: 1",
		"{$error: permanent}":            "state: failed, error: permanent, calls: {score: 1, draw: 0}, outputs: 0",
		"{$error: unavailable}":          "state: failed, error: unavailable, calls: {score: 3, draw: 0}, outputs: 0", // every try
		"{$error: bad_response}":         "state: failed, error: bad_response, calls: {score: 2}",
	} {
		if o := one(answer, expect); !o.OK {
			t.Errorf("%s: %+v", answer, o)
		}
	}
	// What is wrong with a test itself is told before anything runs.
	for answer, got := range map[string]string{
		"{$file: " + folder + "/m.txt}": "answer: the file is neither PNG, JPEG, DICOM, a NumPy array nor JSON",
		"{$file: " + folder + "/none}":  "no such file or directory",
	} {
		if diff := cmp.Diff([]app.Difference{{What: "mock of score", Want: "an answer", Got: got}}, one(answer, "").Differences); diff != "" {
			t.Error(diff)
		}
	}
	o := r.trial(twoStages("http://127.0.0.1:9") + "tests: [{name: t, input: [/nowhere, '" + folder + "'], mock: {score: 1, draw: 2}}]\n")
	want := []app.Difference{{What: "input 1", Want: "a file", Got: "no such file or directory"}, {What: "input 2", Want: "a file", Got: "no regular file"}}
	if diff := cmp.Diff(want, o.Differences); diff != "" || len(o.Tasks) != 0 {
		t.Error(diff)
	}
}

// TestTrialCallsTheOthers: a processor without a mock is called, and a later run of the same pipeline calls all.
func TestTrialCallsTheOthers(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	r := newRig(t, nil)
	input := file(t, "loop.dcm", sample.Ultrasound(3, 16, 16))
	src := twoStages(s.URL) + "extract: {frames: png}\ntests: [{name: t, input: '" + input + "', mock: {score: {score: 1}}, expect: {calls: {score: 3, draw: 3}, outputs: 6}}]\n"
	if o := r.trial(src); !o.OK {
		t.Errorf("%+v", o)
	}
	if got := paths(s); cmp.Diff(map[string]int{"/draw": 3}, got) != "" {
		t.Errorf("called %v", got)
	}
	mustBeDone(t, r.one(src, input))
	if got := paths(s); cmp.Diff(map[string]int{"/draw": 6, "/score": 3}, got) != "" {
		t.Errorf("after a run %v", got)
	}
	if p := parsed(t, src); p.Name != "two-stages" {
		t.Error("the pipeline has another name")
	}
	s2 := serve(t, func(w http.ResponseWriter, _ *http.Request, _ []byte, _ int) { w.WriteHeader(http.StatusBadRequest) })
	o := r.trial(twoStages(s2.URL) + "tests: [{name: t, input: '" + file(t, "a.png", noise(9, [32]byte{1})) +
		"', mock: {score: 1}, expect: {state: failed, error: http_400, calls: {draw: 1}}}]\n")
	if !o.OK || len(o.Tasks) != 1 || o.Tasks[0].State != gantry.Failed.String() {
		t.Errorf("%+v", o)
	}
}

func paths(s *service) map[string]int {
	out := map[string]int{}
	for _, x := range s.all() {
		out[x.path]++
	}
	return out
}
