package dicom_test

import (
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/driver/dicom"
	"github.com/gantry-imaging/gantry/internal/pipeline"
)

// inFile is a pipeline file with one sink.
func inFile(sink, more string) string {
	return "gantry: v1\nname: p\nstages: [{name: s, call: m}]\nprocessors: {m: {kind: http, url: \"http://m.test\"}}\n" + more + "sinks:\n  pacs: {kind: dicom, host: pacs.test, aet: PACS" + sink + "}\n"
}

// TestSinkInFile reads what a file says, and says what is wrong with it.
func TestSinkInFile(t *testing.T) {
	t.Parallel()
	p, err := pipeline.Parse("p.yaml", []byte(inFile(`, commit: true, listen: ":11112", tls: {use: true}`, "")), all.Drivers(), nil)
	if err != nil {
		t.Fatal(err)
	}
	c, ok := p.Sinks[0].Config.(*dicom.SinkConfig)
	if !ok || c.Port != 104 || c.Calling != "GANTRY" || len(c.Send) != 1 || c.Send[0] != "dicom" || c.Associations != 4 || !c.TLS.Use || c.Patience().Minutes() != 10 {
		t.Errorf("%+v", p.Sinks[0].Config)
	}
	for sink, want := range map[string]string{
		`, send: [dicom, png]`:           "png",
		`, send: [manifest]`:             "manifest",
		`, port: 70000`:                  "port",
		`, calling: "SEVENTEEN LETTERS"`: "calling",
		`, commit: true`:                 "listen",
		`, listen: ":11112"`:             "listen",
		`, associations: 0`:              "associations",
		`, comit: true`:                  `did you mean "commit"`,
		`, commit: true, listen: ":1", commit_within: 8m`: "timeouts.responding is 15m",
	} {
		_, err := pipeline.Parse("p.yaml", []byte(inFile(sink, "")), all.Drivers(), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", sink, err)
		}
	}
	if _, err := pipeline.Parse("p.yaml", []byte(inFile(`, commit: true, listen: ":1", commit_within: 8m`, "timeouts: {responding: 20m}\n")), all.Drivers(), nil); err != nil {
		t.Error(err)
	}
}
