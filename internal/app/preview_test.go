package app_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
	"github.com/gantry-imaging/gantry/internal/sample"
)

func parsed(t *testing.T, src string) *gantry.Pipeline {
	t.Helper()
	p, err := pipeline.Parse("test.yaml", []byte(src), all.Drivers(), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// planned previews inputs. There is no database and no home.
func planned(t *testing.T, p *gantry.Pipeline, answers map[string]string, inputs ...string) *app.Previewed {
	t.Helper()
	v, err := app.Preview(t.Context(), app.PreviewOptions{Pipeline: p, Drivers: all.Drivers(), Inputs: inputs, Answers: answers})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestPreviewCallsNothing previews calls of a service that is there, and holds the requests that were made and not sent to
// those that a run then sends.
func TestPreviewCallsNothing(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	src := twoStages(s.URL)
	archive := file(t, "in.zip", packed(t, entry{name: "a", body: noise(9, [32]byte{1})}, entry{name: "b", body: noise(20, [32]byte{2})}))
	v := planned(t, parsed(t, src), nil, archive)
	if len(s.all()) != 0 {
		t.Fatalf("%d calls left", len(s.all()))
	}
	var urls []string
	for _, st := range v.Inputs[0].Tasks[0].Stages {
		for _, c := range st.Calls {
			urls = append(urls, c.First.URL)
			if c.First.Media != gantry.MediaPNG || c.First.Method != http.MethodPost || c.First.Size != v.Inputs[0].Items[0].Size || len(c.Parts) != 2 {
				t.Errorf("%s: %+v", st.Name, c)
			}
		}
	}
	if diff := cmp.Diff([]string{s.URL + "/score", s.URL + "/draw"}, urls); diff != "" {
		t.Error(diff)
	}
	// The control: on an open way, the same pipeline does reach the service.
	p := parsed(t, src).Processors[0]
	d, err := all.Drivers().NewProcessor(t.Context(), p.Kind, p.Config, openWay{})
	if err != nil {
		t.Fatal(err)
	}
	err = d.Process(t.Context(), &gantry.Request{Key: "k", Items: []gantry.Item{{Media: gantry.MediaPNG, Size: -1}},
		Open: func(context.Context, int) (io.ReadCloser, error) { return http.NoBody, nil },
		Receive: func(_ context.Context, _ string, _ int64, r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			return err
		}})
	if len(s.all()) != 1 || err != nil {
		t.Errorf("the control made %d calls: %v", len(s.all()), err)
	}
}

// openWay lets everything out.
type openWay struct{}

func (openWay) Transport() http.RoundTripper { return http.DefaultTransport }
func (openWay) DialContext(context.Context, string, string) (net.Conn, error) {
	return nil, net.ErrClosed
}

// TestPreviewIsTheRun holds the number of calls to what a run of the same files makes, where what is answered is what was assumed.
func TestPreviewIsTheRun(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	r := newRig(t, nil)
	src := twoStages(s.URL) + "extract: {frames: png}\n"
	input := file(t, "loop.dcm", sample.Ultrasound(4, 16, 16))
	v := planned(t, parsed(t, src), map[string]string{"draw": gantry.MediaPNG}, input)
	mustBeDone(t, r.one(src, input))
	want, got := map[string]int{}, map[string]int{}
	for _, st := range v.Inputs[0].Tasks[0].Stages {
		want["/"+st.Calls[0].Processor] = len(st.Calls[0].Parts)
	}
	for _, x := range s.all() {
		got[x.path]++
	}
	if diff := cmp.Diff(want, got); diff != "" || got["/draw"] != 4 {
		t.Errorf("(-previewed +called):\n%s", diff)
	}
}

// TestPreviewSaysWhatCannotBeSent: the driver itself says what it does not send.
func TestPreviewSaysWhatCannotBeSent(t *testing.T) {
	t.Parallel()
	p := parsed(t, head("x")+`
stages: [{name: a, call: m, pass: both}, {name: b, call: n}, {name: c, mode: cumulative, each: task, call: z}]
processors:
  m: {kind: http, url: "http://127.0.0.1:9/m?key=secret", timeout: 5s, limits: {concurrency: 2, rate: 3/s}, auth: a}
  n: {kind: http, url: "http://127.0.0.1:10/n"}
  z: {kind: http, url: "http://127.0.0.1:11/z", body: zip}
auth: {a: {kind: bearer, token: "${env:NOT_SET}"}}
`)
	v := planned(t, p, nil, file(t, "a.png", noise(9, [32]byte{1})))
	var got []string
	for _, st := range v.Inputs[0].Tasks[0].Stages {
		f := st.Calls[0].First
		got = append(got, strings.TrimSpace(string(f.Code)+" "+f.URL+" "+f.Media))
	}
	if diff := cmp.Diff([]string{"http://127.0.0.1:9/m image/png", "raw_takes_one", "http://127.0.0.1:11/z application/zip"}, got); diff != "" {
		t.Error(diff)
	}
	want := app.PreviewedTarget{PreviewedEndpoint: app.PreviewedEndpoint{Name: "m", Kind: "http", Target: "http://127.0.0.1:9", Auth: "a"},
		Concurrency: 2, Rate: 3, Burst: 1, Timeout: 5e9, Answer: gantry.MediaJSON}
	if diff := cmp.Diff(want, v.Processors[0]); diff != "" {
		t.Error(diff)
	}
	if x := v.Inputs[0].Tasks[0].Stages[2].Calls[0].First; x.Size != -1 {
		t.Errorf("knows the size of answers that are not there: %+v", x)
	}
}

// TestPreviewOfBadInputs gives each its own verdict, and goes on with the next.
func TestPreviewOfBadInputs(t *testing.T) {
	t.Parallel()
	p := parsed(t, twoStages("http://127.0.0.1:9"))
	good := noise(9, [32]byte{1})
	v := planned(t, p, nil, file(t, "a", []byte("text")), file(t, "b", good[:30]), file(t, "c", good))
	var codes []gantry.Code
	for _, x := range v.Inputs {
		codes = append(codes, x.Code)
	}
	if diff := cmp.Diff([]gantry.Code{"unsupported_format", "truncated", ""}, codes); diff != "" {
		t.Error(diff)
	}
	for name, o := range map[string]app.PreviewOptions{
		"no processor": {Answers: map[string]string{"other": gantry.MediaPNG}},
		"no file":      {Inputs: []string{"/nowhere"}},
	} {
		o.Pipeline, o.Drivers = p, all.Drivers()
		if v, err := app.Preview(t.Context(), o); err == nil {
			t.Errorf("%s: %+v", name, v)
		}
	}
}
