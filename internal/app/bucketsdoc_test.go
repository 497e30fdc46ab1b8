package app_test

import (
	"os"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/api"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/driver/s3"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
)

// The example of docs/buckets.md is a pipeline, its addresses are those of the API, and it knows the codes.
func TestBucketsOfTheDocumentation(t *testing.T) {
	t.Parallel()
	p, err := pipeline.Parse("buckets.md", []byte(example(t, "buckets.md", "echo")), all.Drivers(), func(string) (string, bool) { return "x", true })
	if err != nil {
		t.Fatal(err)
	}
	if c := p.Sources[0].Config.(*s3.SourceConfig); len(c.Discover) != 3 || c.Token != "${env:ECHO_HOOK_TOKEN}" || len(c.Further()) != 1 {
		t.Errorf("%+v", c)
	}
	doc, err := os.ReadFile("../../docs/buckets.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"/hooks/s3/" + p.Name + "." + p.Sources[0].Name, "`POST /hooks/s3/PIPELINE.SOURCE`"} {
		if !strings.Contains(string(doc), want) {
			t.Errorf("it does not say %s", want)
		}
	}
	for _, code := range []gantry.Code{gantry.CodeMalformed, s3.CodeNotUnderstood, s3.CodeTooDeep, s3.CodeTooMany, s3.CodeBadKey, gantry.CodeTooLarge, api.CodeBadToken,
		api.CodeNoSource, api.CodeBusy, s3.CodeUnsettled, s3.CodeRestless, s3.CodeQueueMissing, "superseded", gantry.CodeSourceGone} {
		if !strings.Contains(string(doc), "`"+string(code)+"`") {
			t.Errorf("it does not know %s", code)
		}
	}
}
