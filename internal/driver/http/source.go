package http

import (
	"context"
	"fmt"
	"io"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// SourceConfig is what a pipeline file says about a source of kind http: the upload API of the serving
// process.
type SourceConfig struct {
	MaxMiB int `yaml:"max_mib" default:"2048" min:"1" max:"1048576" doc:"The largest upload, in MiB."`
}

const maxMiB = 1 << 20

// Target is the upload API itself: nothing is reached through it.
func (c SourceConfig) Target() gantry.Target { return gantry.Target{Scheme: "upload", Host: "api"} }

// Limit is the largest upload in bytes.
func (c SourceConfig) Limit() int64 { return int64(c.MaxMiB) << 20 }

// Check lists what is wrong with the config.
func (c SourceConfig) Check() []gantry.FieldProblem {
	if c.MaxMiB < 1 || c.MaxMiB > maxMiB {
		return []gantry.FieldProblem{{Key: "max_mib", Text: fmt.Sprintf("is not from 1 to %d", maxMiB)}}
	}
	return nil
}

// source is a source that announces nothing: its objects come with requests.
type source struct{}

// NewSource makes a source. A config that does not Check is Illegal with code bad_config.
func NewSource(_ context.Context, c SourceConfig, _ gantry.Egress) (gantry.Source, error) {
	for _, p := range c.Check() {
		return nil, gantry.Errorf(gantry.Illegal, CodeBadConfig, "open source: %s: %s", p.Key, p.Text)
	}
	return source{}, nil
}

// Watch waits for the end of ctx.
func (source) Watch(ctx context.Context, _ func(context.Context, gantry.Object) error) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// Open is NotFound with code source_gone: the bytes of an upload go by once, with its request.
func (source) Open(context.Context, string) (io.ReadCloser, error) {
	return nil, gantry.Errorf(gantry.NotFound, gantry.CodeSourceGone, "open upload: its bytes came with its request")
}
