package main

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/engine"
	"github.com/gantry-imaging/gantry/internal/sample"
)

// loopFile is a file of five frames.
func loopFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "loop.dcm")
	if err := os.WriteFile(path, sample.Ultrasound(5, 16, 16), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPlan prints what every frame would be sent to, with no home and no database.
func TestPlan(t *testing.T) {
	t.Setenv("GANTRY_HOME", "/nowhere/to/write")
	t.Setenv("GANTRY_DATABASE_URL", "postgres://127.0.0.1:1/none")
	loop := loopFile(t)
	code, out, errs := typed(t, "plan", "-f", "../../pipelines/multiframe.yaml", "--media", "mask", loop)
	for _, want := range []string{"pipeline multiframe  version ", "one output each: image/png of mask\n", "input    loop.dcm  application/dicom  ",
		"5 files and frames", "stage 1  mask  sequential, each part, ", "  mask  5 calls  http://127.0.0.1:8095  (8 at once, 200/s, burst 20; 1m0s each)\n",
		"first: POST http://127.0.0.1:8095/v1/mask  image/png, ", "    input#0 image/png, frame 1, ", "    … and 2 more\n", "delivers to results  dir:", "put together", "nothing was called\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q", want)
		}
	}
	if code != exitOK || errs != "" || strings.Contains(out, "frame 4") {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
	if _, out, _ = typed(t, "plan", "-f", "../../pipelines/multiframe.yaml", "--all", loop); !strings.Contains(out, "frame 5, ") {
		t.Errorf("--all\n%s", out)
	}
	code, out, _ = typed(t, "plan", "-f", "../../pipelines/fanout.yaml", "../../pipelines/embed.go", loop)
	for _, want := range []string{"fails    unsupported_format: input is refused", "when  all(stages.models.score, .ok)  depends on answers; taken to hold",
		"application/zip, size known when sent", "input application/dicom, 2252 B + input application/json, answer of models/score + input application/json, answer of models/mask"} {
		if code != exitFailed || !strings.Contains(out, want) {
			t.Errorf("%d: no %q in\n%s", code, want, out)
		}
	}
}

// TestPlanIsShort lists the first few of what is wrong, and counts the others.
func TestPlanIsShort(t *testing.T) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := range 9 {
		w, err := z.Create(fmt.Sprint(i))
		if err == nil {
			_, err = w.Write([]byte("no picture"))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "nine.zip")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, _ := typed(t, "plan", "-f", "../../pipelines/first-light.yaml", path)
	if code != exitFailed || strings.Count(out, "  refused  ") != 3 || !strings.Contains(out, "  … and 6 more refused or remarked on\n") || strings.Contains(out, "stage 1") {
		t.Errorf("%d\n%s", code, out)
	}
	part := engine.PreviewPart{Code: "truncated", Items: []engine.PreviewItem{{Path: "input#0"}}}
	b.Reset()
	text := planText{w: &b, few: 1}
	text.parts([]engine.PreviewPart{part, {}, part, {}, {}})
	if want := "    input#0 , 0 B  cannot be read  truncated\n    \n    … and 2 more\n    … and 1 more that cannot be read\n"; b.String() != want {
		t.Errorf("%q", b.String())
	}
}

// TestPlanJSON reads the object that it prints.
func TestPlanJSON(t *testing.T) {
	code, out, _ := typed(t, "plan", "--json", "-f", "../../pipelines/multiframe.yaml", loopFile(t))
	var v struct {
		Pipeline   string
		Processors []struct {
			Name, Target, Assumed_answer string
			Concurrency                  int
		}
		Inputs []struct {
			Media string
			Tasks []struct {
				Stages []struct {
					Calls []struct {
						First struct{ Method, Media string }
						Parts []struct{ Items []struct{ Path string } }
					}
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != exitOK {
		t.Fatalf("%d: %v\n%s", code, err, out)
	}
	c := v.Inputs[0].Tasks[0].Stages[0].Calls[0]
	if v.Pipeline != "multiframe" || v.Processors[0].Assumed_answer != "application/json" || len(c.Parts) != 5 || c.Parts[4].Items[0].Path != "input#4" || c.First.Media != "image/png" {
		t.Errorf("%+v", v)
	}
}

// TestPlanUse refuses what cannot be meant.
func TestPlanUse(t *testing.T) {
	loop := loopFile(t)
	for name, args := range map[string][]string{
		"no processor": {"-f", "../../pipelines/multiframe.yaml", "--media", "masks", loop},
		"no input":     {"-f", "../../pipelines/multiframe.yaml", "/nowhere"},
		"bad file":     {"-f", "../../pipelines/bad/when-keyword.yaml", loop},
	} {
		if code, out, errs := typed(t, append([]string{"plan"}, args...)...); code != exitUsage || out != "" || errs == "" {
			t.Errorf("%s: %d\n%s%s", name, code, out, errs)
		}
	}
}
