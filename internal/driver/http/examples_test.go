package http_test

import (
	"os"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/driver/http"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
)

// The services that docs/http.md shows to answer later are a pipeline without a mistake, and each of them
// waits; the others do not.
func TestAsyncOfTheDocumentation(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	waiting := 0
	for i, block := range strings.Split(string(doc), "```yaml\n")[1:] {
		src, _, _ := strings.Cut(block, "```")
		p, err := pipeline.Parse("doc.yaml", []byte(src), all.Drivers(), func(string) (string, bool) { return "http://127.0.0.1", true })
		if err != nil {
			t.Errorf("block %d: %v", i, err)
			continue
		}
		for _, x := range p.Processors {
			driver, err := http.NewProcessor(t.Context(), *x.Config.(*http.ProcessorConfig), drivertest.Egress(t))
			if err != nil {
				t.Error(err)
				continue
			}
			d := driver.(gantry.Deferring).Deferral()
			if (d != nil) != (p.Name == "later") {
				t.Errorf("%s of %s waits as %+v", x.Name, p.Name, d)
			}
			if d != nil {
				waiting++
			}
			if x.Name == "called" && (d.Callback != "${env:LVEF_SECRET}" || d.Poll != 0) {
				t.Errorf("%+v", d)
			}
		}
	}
	if waiting != 5 {
		t.Errorf("%d services wait", waiting)
	}
}
