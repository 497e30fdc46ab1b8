package pipeline

import (
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/driver/all"
)

// Mistakes in what a sink makes of a task, and in what becomes of inputs, stand in their places.
func TestSinkTemplates(t *testing.T) {
	t.Parallel()
	const file = `gantry: v1
name: drop
sources:
  inbox: {kind: s3, bucket: same, prefix: drop/, AFTER}
sinks:
  out: {kind: s3, bucket: same, SINK}
stages: [{name: find, call: finder}]
processors: {finder: {kind: http, url: "http://127.0.0.1:1/"}}
`
	for _, c := range []struct{ after, sink, want string }{
		{"after: move, move_to: done/", `key: "{pipeline}-results/{task}/{path}"`, ""},
		{"after: delete", `prefix: out/, metadata: {t: "{task}"}, tags: {s: "{stage}"}, encryption: {kind: AES256}`, ""},
		{"after: keep", `prefix: out/, key: "{date}/{path}"`, "p.yaml:6:47: key: {task} is missing"},
		{"after: keep", `prefix: out/, key: "{task}/{PatientName}/{path}"`, "p.yaml:6:47: key: {PatientName} is no variable"},
		{"after: keep", `prefix: out/, tags: {s: "{dicom.PatientID}"}`, "p.yaml:6:47: tags: s: {dicom.PatientID} is no variable"},
		{"after: keep", `key: "{pipeline}/{task}/{path}"`, `p.yaml:6:3: source "inbox" would take what sink "out" lays down`},
		{"after: keep", `key: "{source}/{task}/{path}"`, `p.yaml:6:3: source "inbox" would take what sink "out" lays down`},
		{"after: keep", `prefix: drop/in, key: "{pipeline}/{task}/{path}"`, `p.yaml:6:3: source "inbox" would take what sink "out" lays down`},
		{"after: keep", `prefix: kept-, key: "{pipeline}/{task}/{path}"`, ""},
		{"after: move, move_to: drop/done/", "prefix: out/", "p.yaml:4:63: move_to: lies below prefix"},
		{"after: move, move_to: done/}\n  other: {kind: s3, bucket: same, prefix: do", "prefix: out/", `p.yaml:4:3: source "other" would take what source "inbox" moves`},
		{"after: move, move_to: done/}\n  other: {kind: s3, bucket: other, prefix: do", "prefix: out/", ""},
		{"after: keep", "prefix: out/, encryption: {kind: aes}", `p.yaml:6:66: kind: "aes" is not one of AES256, aws:kms, aws:kms:dsse`},
		{"after: keep", "prefix: out/, encryption: {kind: AES256, key_id: k}", "p.yaml:6:47: encryption: key_id and bucket_key go with kind"},
	} {
		src := strings.NewReplacer("AFTER", c.after, "SINK", c.sink).Replace(file)
		_, err := Parse("p.yaml", []byte(src), all.Drivers(), nil)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s, %s: %v", c.after, c.sink, err)
		}
	}
}

// TestReruns refuses a source that takes away what a rerun reads again, and lets be what keeps a copy, reruns nothing or takes
// nothing away.
func TestReruns(t *testing.T) {
	t.Parallel()
	const file = `gantry: v1
name: reruns
sources: {inbox: {kind: s3, bucket: same, SOURCE}}
stages: [{name: find, call: finder}]
processors: {finder: {kind: http, url: "http://127.0.0.1:1/"}}
group: {by: GROUP}
`
	for _, c := range []struct{ source, group, want string }{
		{"after: move, move_to: done/, exclude: [done/]", "prefix, quiet: 1s", "p.yaml:3:50: after: source"},
		{"after: delete, copy: never", "series, quiet: 1s, late: rerun", "p.yaml:3:50: after: source"},
		{"after_failed: move, failed_to: bad/, exclude: [bad/]", "prefix, quiet: 1s", "p.yaml:3:57: after_failed: source"},
		{"after: delete, copy: always", "prefix, quiet: 1s", ""},
		{"after: delete", "prefix, quiet: 1s, late: append", ""},
		{"after: delete", "prefix, quiet: 1s, late: ignore", ""},
		{"after: delete", "study", ""},
		{"after: tag, after_failed: tag", "prefix, quiet: 1s", ""},
	} {
		_, err := Parse("p.yaml", []byte(strings.NewReplacer("SOURCE", c.source, "GROUP", c.group).Replace(file)), all.Drivers(), nil)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s, %s: %v", c.source, c.group, err)
		}
	}
}
