package engine

import (
	"bytes"
	"encoding/json"
	"io"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// manifest is the record that goes beside the outputs, the commit point for whoever reads them. It
// is a pure function of what was committed before the task began to respond: no times, no tries,
// no names of files.
type manifest struct {
	Gantry   string           `json:"gantry"`
	Task     string           `json:"task"`
	Pipeline string           `json:"pipeline"`
	Version  string           `json:"version"`
	Input    *manifestInput   `json:"input,omitempty"`
	Inputs   []manifestInput  `json:"inputs,omitempty"` // of a collection, in the place of input
	Items    []manifestItem   `json:"items"`
	Outputs  []manifestOutput `json:"outputs"`
	Errors   []manifestError  `json:"errors"`
	Children []manifestChild  `json:"children,omitempty"`
}

// manifestInput has an ETag in place of the digest where the original was read in place and never whole.
type manifestInput struct {
	SHA256 string `json:"sha256,omitempty"`
	ETag   string `json:"etag,omitempty"`
	Size   int64  `json:"size"`
	Media  string `json:"media"`
}

type manifestItem struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
	Media  string `json:"media"`
	Remark string `json:"remark,omitempty"`
}

type manifestOutput struct {
	Path      string `json:"path"`
	SHA256    string `json:"sha256"`
	Bytes     int64  `json:"bytes"`
	Media     string `json:"media"`
	Stage     string `json:"stage"`
	Processor string `json:"processor"`
	Parent    string `json:"parent"`
	Call      string `json:"call,omitempty"` // of a container, each of what lies in it has its own

	Joined []manifestJoined `json:"joined,omitempty"`
}

// manifestJoined is an output that lies in a container.
type manifestJoined struct {
	Parent string `json:"parent"`
	SHA256 string `json:"sha256"`
	Call   string `json:"call"`
}

type manifestError struct {
	Item  string `json:"item"`
	Stage string `json:"stage,omitempty"`
	Code  string `json:"code"`
}

// newManifest has no items yet.
func (w *work) newManifest() manifest {
	m := manifest{Gantry: "manifest/v1", Task: w.task.PublicID, Pipeline: w.plan.Name, Version: w.plan.Version.String(),
		Items: []manifestItem{}, Outputs: []manifestOutput{}, Errors: []manifestError{}}
	if !w.many {
		root, _ := w.item(0)
		in := w.input(root)
		m.Input = &in
		return m
	}
	for _, x := range w.originals() {
		m.Inputs = append(m.Inputs, w.input(x))
	}
	return m
}

func (w *work) input(x gantry.Item) manifestInput {
	in := manifestInput{Size: x.Size, Media: x.Media}
	switch {
	case !x.SHA.IsZero():
		in.SHA256 = x.SHA.String()
	case x.Transform == fromSource:
		in.ETag = w.etag(x)
	}
	return in
}

func (w *work) manifest(outputs []delivered) ([]byte, error) {
	m := w.newManifest()
	for _, x := range w.leaves() {
		if x.Rejected || x.SHA.IsZero() {
			m.Errors = append(m.Errors, manifestError{Item: w.path(x), Code: string(x.Reason)})
			continue
		}
		m.Items = append(m.Items, manifestItem{Path: w.path(x), SHA256: x.SHA.String(), Bytes: x.Size, Media: x.Media, Remark: string(x.Reason)})
	}
	for s, p := range w.passages {
		for _, g := range p.groups {
			m.Errors = append(m.Errors, w.gaps(int16(s), g)...)
		}
	}
	strip := len(w.prefix())
	for _, x := range outputs {
		st := w.plan.Stages[x.Stage]
		o := manifestOutput{Path: x.path[strip:], SHA256: x.SHA.String(), Bytes: x.Size, Media: x.Media,
			Stage: st.Name, Processor: st.Call[x.Processor], Parent: w.parent(x), Call: x.key}
		for _, j := range x.joined {
			o.Joined = append(o.Joined, manifestJoined{Parent: w.parent(j), SHA256: j.SHA.String(), Call: j.key})
		}
		m.Outputs = append(m.Outputs, o)
	}
	return m.bytes()
}

func (m manifest) bytes() ([]byte, error) {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, gantry.Errorf(gantry.Illegal, "", "write manifest: %w", err)
	}
	return append(b, '\n'), nil
}

// parent names what an output was made of.
func (w *work) parent(x delivered) string {
	if p, ok := w.item(x.Origin); ok {
		return w.path(p)
	}
	return "input"
}

// gaps lists the parts about a group that failed, by processor, those too whose stage could do without.
func (w *work) gaps(stage int16, g group) (out []manifestError) {
	st := w.plan.Stages[stage]
	for c := range st.Call {
		p, _ := w.live(stage, int16(c), g.ordinal)
		if p.Status != gantry.PartFailed {
			continue
		}
		for _, o := range g.origins {
			x, _ := w.item(o)
			out = append(out, manifestError{Item: w.path(x), Stage: st.Name, Code: string(p.Reason)})
		}
	}
	return out
}

func bytesBody(b []byte) body { return io.NopCloser(bytes.NewReader(b)) }
