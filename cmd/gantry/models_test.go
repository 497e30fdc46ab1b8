package main

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/driver/all"
	httpdriver "github.com/gantry-imaging/gantry/internal/driver/http"
	"github.com/gantry-imaging/gantry/internal/models"
	"github.com/gantry-imaging/gantry/internal/pipeline"
)

// TestShippedPipelinesFindTheirModels asks the reference models for every service that a pipeline which
// ships calls.
func TestShippedPipelinesFindTheirModels(t *testing.T) {
	s := httptest.NewServer(models.Handler(models.Options{}))
	defer s.Close()
	for _, dir := range []string{"../../pipelines", "../../deploy/pipelines"} {
		list, err := pipeline.LoadAll([]string{dir}, all.Drivers(), func(string) (string, bool) { return "x", true })
		if err != nil || len(list) == 0 {
			t.Fatalf("%s: %d pipelines, %v", dir, len(list), err)
		}
		for _, p := range list {
			for _, x := range p.Processors {
				c, ok := x.Config.(*httpdriver.ProcessorConfig)
				if !ok {
					t.Fatalf("%s of %s is no service over HTTP", x.Name, p.Name)
				}
				u, err := url.Parse(c.URL)
				if err != nil || u.Host != modelsAddress {
					t.Errorf("%s of %s calls %s: %v", x.Name, p.Name, c.URL, err)
					continue
				}
				resp, err := http.Post(s.URL+u.Path, "application/octet-stream", strings.NewReader("x"))
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode == http.StatusNotFound {
					t.Errorf("%s: there is no %s for processor %s of %s", filepath.Base(dir), u.Path, x.Name, p.Name)
				}
			}
		}
	}
}
