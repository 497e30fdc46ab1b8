package pipeline

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDiagram(t *testing.T) {
	t.Parallel()
	p := mustParse(t, stagesOf("{name: one, call: a, keep_if: 'result.score > 0.4'}")+"  - {name: report, mode: cumulative, each: task, call: b, when: 'dicom.Modality == \"#`US\"'}\n"+
		"sources: {in: {kind: dir, path: /secret/in}}\nsinks: {out: {kind: dir, path: x}}\nlimits: {in_progress: 7}\n")
	want := `flowchart LR
  take{{"unpack zip, tar, tar.gz, tar.zst"}}
  source0[/"in (dir)"/]
  source0 --> take
  note0["7 tasks at once"]:::note -.- take
  subgraph stage0["one: sequential, each part"]
  call0_0["a (http)"]
  end
  left0(( ))
  take --> call0_0
  call0_0 -->|"keep if result.score #gt; 0.4"| left0
  note1["4 at once, 1m each"]:::note -.- call0_0
  subgraph stage1["uses-both: fanout, each part"]
  call1_0["a (http)"]
  call1_1["b (http)"]
  end
  left1(( ))
  left0 --> call1_0
  call1_0 --> left1
  note2["4 at once, 1m each"]:::note -.- call1_0
  left0 --> call1_1
  call1_1 --> left1
  note3["4 at once, 1m each"]:::note -.- call1_1
  subgraph stage2["report: cumulative, each task"]
  call2_0["b (http)"]
  end
  left2(( ))
  left1 -->|"when dicom.Modality == #quot;#35;#96;US#quot;"| call2_0
  call2_0 --> left2
  take -.-> call2_0
  left0 -.-> call2_0
  note4["4 at once, 1m each"]:::note -.- call2_0
  sink0[\"out (dir)"\]
  left2 --> sink0
  classDef note fill:none,stroke-dasharray:3 3
`
	if diff := cmp.Diff(want, Diagram(p)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestDiagramSaysAll looks for the settings that the first does not have, and for every end of an
// arrow among the nodes.
func TestDiagramSaysAll(t *testing.T) {
	t.Parallel()
	text := Diagram(mustParse(t, full, "ROOT", "/mnt/x", "ROUTE", "v1"))
	for _, want := range []string{"take as it is; when dicom.Modality == #quot;US#quot;",
		"side: fanout, each batch of up to 16, need 1 of 2", "find: sequential, each task, pass both", "8 at once, 2/s, 10s each"} {
		if !strings.Contains(text, want) {
			t.Errorf("lacks %s in\n%s", want, text)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)-\.?-?>?(?:\|"[^"]*"\|)? (\w+)$`).FindAllStringSubmatch(text, -1) {
		if !regexp.MustCompile(`(?m)^  ` + m[1] + `[\[({]`).MatchString(text) {
			t.Errorf("an arrow to %s, which is nowhere", m[1])
		}
	}
	if strings.Contains(text, "/mnt") || strings.Contains(text, "a.local") {
		t.Error("shows addresses")
	}
}
