package engine

import (
	"context"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// CodeNoOutput: a task has no output of this path. It is NotFound.
const CodeNoOutput gantry.Code = "no_output"

// Results are what a task that is done left: its manifest, byte for byte as it was delivered, and the outputs
// that it names.
type Results struct {
	Manifest []byte

	w       *work
	outputs []delivered
}

// Results reads what the rows of a task say that was delivered. The task's State must be Responding. Close
// them.
func (e *Engine) Results(ctx context.Context, t gantry.Task) (*Results, error) {
	w := &work{e: e, task: t, shelf: newShelf(e)}
	r := &Results{w: w}
	if t.Role == gantry.Shard {
		return nil, gantry.Errorf(gantry.NotFound, CodeNoOutput, "what the task left is delivered by the one that it is a part of")
	}
	err := w.load(ctx)
	if err == nil && len(w.members) > 0 { // each of them delivers its own
		r.Manifest, err = w.memberManifest()
	} else if err == nil {
		if r.outputs, err = w.outputs(ctx); err == nil {
			r.Manifest, err = w.manifest(r.outputs)
		}
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// Open opens an output by its path in the manifest. The item says its media type, size and digest.
func (r *Results) Open(ctx context.Context, path string) (gantry.Item, body, error) {
	prefix := r.w.prefix()
	for _, x := range r.outputs {
		if x.path == prefix+path {
			b, err := r.w.open(ctx, x.Item)
			return x.Item, b, err
		}
	}
	return gantry.Item{}, nil, gantry.Errorf(gantry.NotFound, CodeNoOutput, "the task has no such output")
}

// Close gives back what reading them held.
func (r *Results) Close() { r.w.shelf.close() }
