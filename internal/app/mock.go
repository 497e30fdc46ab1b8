package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/gate"
	"github.com/gantry-imaging/gantry/internal/media"
)

// maxMock is the largest file that a mock answers with, in bytes.
const maxMock = 64 << 20

// npyMagic begins every NumPy array (NumPy Enhancement Proposal 1).
const npyMagic = "\x93NUMPY"

// mock is a processor that reads all that it is sent and answers as a test says.
type mock struct {
	echo  bool
	fails *gantry.Kind
	media string
	body  []byte
}

// newMock reads what a test says of a processor: see gantry.PipelineTest.
func newMock(answer any) (mock, error) {
	if answer == gantry.MockEcho {
		return mock{echo: true}, nil
	}
	m, _ := answer.(map[string]any)
	if name, ok := m[gantry.MockError].(string); ok {
		kind, known := gantry.ParseKind(name)
		if !known {
			return mock{}, fmt.Errorf("%s: no kind of failure", gantry.MockError)
		}
		return mock{fails: &kind}, nil
	}
	if path, ok := m[gantry.MockFile].(string); ok {
		return fileMock(path)
	}
	b, err := json.Marshal(answer)
	return mock{media: gantry.MediaJSON, body: b}, err
}

// fileMock answers with a file, of the kind that its content shows.
func fileMock(path string) (mock, error) {
	f, err := os.Open(path)
	if err != nil {
		return mock{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxMock+1))
	if err != nil {
		return mock{}, err
	}
	x := mock{media: media.Detect(b[:min(len(b), media.HeadSize)]), body: b}
	switch {
	case len(b) > maxMock:
		return mock{}, fmt.Errorf("answer: more than %d bytes", maxMock)
	case bytes.HasPrefix(b, []byte(npyMagic)):
		x.media = gantry.MediaNPY
	case x.media == "" && json.Valid(b):
		x.media = gantry.MediaJSON
	}
	switch x.media {
	case gantry.MediaPNG, gantry.MediaJPEG, gantry.MediaDICOM, gantry.MediaNPY, gantry.MediaJSON:
		return x, nil
	}
	return mock{}, fmt.Errorf("answer: the file is neither PNG, JPEG, DICOM, a NumPy array nor JSON")
}

// Process reads every item to its end, as a service would, and answers.
func (x mock) Process(ctx context.Context, r *gantry.Request) error {
	m := gate.MeterFrom(ctx)
	for i := range r.Items {
		if err := readItem(ctx, r, i, m); err != nil {
			return err
		}
	}
	m.Began()
	if x.fails != nil {
		return gantry.Errorf(*x.fails, "", "answer: the test wants it to fail")
	}
	if !x.echo {
		return r.Receive(ctx, x.media, int64(len(x.body)), m.CountResponse(bytes.NewReader(x.body)))
	}
	for i := range r.Items {
		if err := echoItem(ctx, r, i, m); err != nil {
			return err
		}
	}
	return nil
}

func readItem(ctx context.Context, r *gantry.Request, i int, m *gate.Meter) error {
	b, err := r.Open(ctx, i)
	if err != nil {
		return err
	}
	defer b.Close()
	_, err = io.Copy(io.Discard, m.CountRequest(b))
	return err
}

func echoItem(ctx context.Context, r *gantry.Request, i int, m *gate.Meter) error {
	b, err := r.Open(ctx, i)
	if err != nil {
		return err
	}
	defer b.Close()
	return r.Receive(ctx, r.Items[i].Media, -1, m.CountResponse(b))
}

// counting tells of the calls of a processor that left.
type counting struct {
	gantry.Processor
	called func()
}

// Process makes the call.
func (c counting) Process(ctx context.Context, r *gantry.Request) error {
	err := c.Processor.Process(ctx, r)
	if m := gate.MeterFrom(ctx); m != nil && m.HasBegun() {
		c.called()
	}
	return err
}
