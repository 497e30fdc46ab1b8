package app

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/gantry-imaging/gantry/internal/driver"
	"github.com/gantry-imaging/gantry/internal/engine"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// PreviewOptions say what a preview is of.
type PreviewOptions struct {
	Pipeline *gantry.Pipeline
	Drivers  *driver.Register
	Inputs   []string          // files
	Answers  map[string]string // media type of what processors are taken to answer; JSON for those that are not named
}

// Previewed is what a pipeline would do with its inputs.
type Previewed struct {
	Pipeline   string              `json:"pipeline"`
	Version    string              `json:"version"`
	Processors []PreviewedTarget   `json:"processors"` // those that stages call
	Sinks      []PreviewedEndpoint `json:"sinks"`
	Inputs     []PreviewedInput    `json:"inputs"`
}

// PreviewedEndpoint is one end of the pipeline.
type PreviewedEndpoint struct {
	Name   string `json:"name"`
	Kind   string `json:"kind"`
	Target string `json:"target"`
	Auth   string `json:"auth,omitempty"` // the name of what requests are signed with
	Rejoin bool   `json:"rejoin,omitempty"`
}

// PreviewedTarget is a processor with what bounds its calls, and what it is taken to answer.
type PreviewedTarget struct {
	PreviewedEndpoint
	Concurrency int           `json:"concurrency"`
	Rate        float64       `json:"rate_per_second"` // 0: no limit
	Burst       int           `json:"burst"`
	Timeout     time.Duration `json:"timeout_ns"`
	Answer      string        `json:"assumed_answer"`
}

// PreviewedInput is one file.
type PreviewedInput struct {
	Input string `json:"input"`
	*engine.Preview
}

// Preview says what a pipeline would call for its inputs. Nothing is called: the drivers make
// their requests on a way out that looks at them and refuses. It needs no database.
func Preview(ctx context.Context, o PreviewOptions) (*Previewed, error) {
	scratch, err := os.MkdirTemp("", "gantry-")
	if err != nil {
		return nil, fmt.Errorf("make scratch folder: %w", err)
	}
	defer os.RemoveAll(scratch)
	for name := range o.Answers {
		if _, err := o.Pipeline.Processor(name); err != nil {
			return nil, err
		}
	}
	out := &Previewed{Pipeline: o.Pipeline.Name, Version: o.Pipeline.Version.String(), Sinks: []PreviewedEndpoint{}, Inputs: []PreviewedInput{}}
	drivers := map[string]gantry.Processor{}
	for _, p := range o.Pipeline.Processors {
		if drivers[p.Name], err = o.Drivers.NewProcessor(ctx, p.Kind, p.Config, shut{}); err != nil {
			return nil, fmt.Errorf("processor %s: %w", p.Name, err)
		}
		out.Processors = append(out.Processors, target(p, o.Answers[p.Name]))
	}
	for _, s := range o.Pipeline.Sinks {
		out.Sinks = append(out.Sinks, previewed(s))
	}
	for _, input := range o.Inputs {
		p, err := engine.NewPreview(ctx, engine.PreviewOptions{Pipeline: o.Pipeline, Input: input, Answers: o.Answers, Scratch: scratch,
			Compose: func(ctx context.Context, name string, r *gantry.Request) engine.Composed {
				return compose(ctx, drivers[name], r)
			}})
		if err != nil {
			return nil, fmt.Errorf("read input: %w", err)
		}
		out.Inputs = append(out.Inputs, PreviewedInput{Input: input, Preview: p})
	}
	return out, nil
}

func previewed(e gantry.Endpoint) PreviewedEndpoint {
	x := PreviewedEndpoint{Name: e.Name, Kind: e.Kind, Target: targetOf(e.Config).Key(), Rejoin: e.Rejoin == gantry.RejoinOriginal}
	if e.Auth != nil {
		x.Auth = e.Auth.Name
	}
	return x
}

func target(p gantry.Processing, answer string) PreviewedTarget {
	x := PreviewedTarget{PreviewedEndpoint: previewed(p.Endpoint), Concurrency: p.Limits.Concurrency, Rate: p.Limits.Rate, Burst: max(1, p.Limits.Burst),
		Timeout: p.Timeout, Answer: answer}
	if x.Concurrency == 0 {
		x.Concurrency = gantry.DefaultConcurrency
	}
	if answer == "" {
		x.Answer = gantry.MediaJSON
	}
	return x
}

// compose lets a driver make a request, and gives what it would have sent.
func compose(ctx context.Context, p gantry.Processor, r *gantry.Request) engine.Composed {
	x := &engine.Composed{Size: -1}
	err := p.Process(context.WithValue(ctx, shutKey{}, x), r)
	if x.Method == "" && err != nil {
		x.Code, x.Reason = gantry.CodeOf(err), err.Error()
	}
	for _, item := range r.Items {
		if item.Stage != gantry.OriginalStage {
			x.Size = -1 // of an answer that is not there
		}
	}
	return *x
}

// shut is a way out through which nothing leaves. What would is noted in the value that shutKey has
// in the ctx of the request.
type shut struct{}

type shutKey struct{}

// Transport gives the way of HTTP.
func (s shut) Transport() http.RoundTripper { return s }

// RoundTrip notes a request and refuses it. The body is not read.
func (shut) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r.Body.Close()
	}
	if x, ok := r.Context().Value(shutKey{}).(*engine.Composed); ok {
		at := url.URL{Scheme: r.URL.Scheme, Host: r.URL.Host, Path: r.URL.Path}
		x.Method, x.URL, x.Media, x.Size = r.Method, at.String(), r.Header.Get("Content-Type"), r.ContentLength
	}
	return nil, errShut()
}

// DialContext refuses.
func (shut) DialContext(context.Context, string, string) (net.Conn, error) { return nil, errShut() }

func errShut() error {
	return gantry.Errorf(gantry.Permanent, "not_called", "send: a preview calls nothing")
}
