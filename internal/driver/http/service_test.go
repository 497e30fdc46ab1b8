package http

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"path"
	"strconv"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// openProcessor makes a processor that posts to a handler.
func openProcessor(t *testing.T, c ProcessorConfig, h http.HandlerFunc) *processor {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	c.URL = server.URL + c.URL
	return openAt(t, c)
}

func openAt(t *testing.T, c ProcessorConfig) *processor {
	t.Helper()
	p, err := NewProcessor(t.Context(), c, drivertest.Egress(t))
	if err != nil {
		t.Fatal(err)
	}
	return p.(*processor)
}

// serve is the fake service behind a model. It takes every form of body, and says its answers in
// the form that is asked for.
func serve(m *drivertest.Model, answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		items, err := taken(r)
		if err != nil {
			return // not a whole request
		}
		speak(w, r, answer, m.Ask(drivertest.Posted{Key: r.Header.Get("Idempotency-Key"), Items: items}))
	}
}

// speak answers a request as a model says, or goes wrong as it says.
func speak(w http.ResponseWriter, r *http.Request, answer string, a drivertest.Answer) {
	status := map[drivertest.Fault]int{
		drivertest.Busy: 503, drivertest.Broken: 500, drivertest.Refusing: 422, drivertest.Denying: 401, drivertest.Missing: 404,
	}[a.Fault]
	if len(a.Body) > 0 && status == 0 {
		a.Media, a.Body = worded(answer, a)
	}
	switch a.Fault {
	case drivertest.Silent:
		<-r.Context().Done()
		return
	case drivertest.Resetting:
		panic(http.ErrAbortHandler)
	case drivertest.Babbling:
		a.Media = "text/html; charset=utf-8"
	case drivertest.Busy:
		if a.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(a.RetryAfter/time.Second)))
		}
	case drivertest.Cutting:
		w.Header().Set("Content-Length", strconv.Itoa(len(a.Body)+1))
		if answer != "" { // within an output: those that came whole before are received
			a.Body = a.Body[:len(a.Body)-100]
		}
	}
	if a.Media != "" {
		w.Header().Set("Content-Type", a.Media)
	}
	if status != 0 {
		w.WriteHeader(status)
	}
	w.Write(a.Body)
	if a.Fault == drivertest.Cutting {
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

// taken reads the items of a request of any form, with readers that are not the driver's.
func taken(r *http.Request) ([]drivertest.Medium, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	media, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return nil, err
	}
	switch {
	case media == mediaForm:
		return fromForm(body, params["boundary"])
	case media == gantry.MediaZIP:
		return fromZip(body)
	case media == gantry.MediaJSON && bytes.HasPrefix(body, []byte(`{"inputs":[`)):
		var in struct {
			Inputs []struct {
				Media string
				Data  []byte
			}
		}
		err := json.Unmarshal(body, &in)
		var items []drivertest.Medium
		for _, x := range in.Inputs {
			items = append(items, drivertest.Medium{Media: x.Media, Body: x.Data})
		}
		return items, err
	}
	return []drivertest.Medium{{Media: media, Body: body}}, nil
}

func fromForm(body []byte, boundary string) ([]drivertest.Medium, error) {
	var items []drivertest.Medium
	for form := multipart.NewReader(bytes.NewReader(body), boundary); ; {
		part, err := form.NextPart()
		if err == io.EOF {
			return items, nil
		}
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(part)
		if err != nil {
			return nil, err
		}
		items = append(items, drivertest.Medium{Media: part.Header.Get("Content-Type"), Body: b})
	}
}

func fromZip(body []byte) ([]drivertest.Medium, error) {
	z, err := zip.NewReader(bytes.NewReader(body), int64(len(body)))
	if err != nil {
		return nil, err
	}
	media := map[string]string{".dcm": gantry.MediaDICOM, ".png": gantry.MediaPNG, ".json": gantry.MediaJSON}
	var items []drivertest.Medium
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		items = append(items, drivertest.Medium{Media: media[path.Ext(f.Name)], Body: b})
	}
	return items, nil
}

// worded puts an answer into a form.
func worded(answer string, a drivertest.Answer) (media string, body []byte) {
	switch answer {
	case answerMultipart:
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		part, _ := w.CreatePart(textproto.MIMEHeader{"Content-Type": {a.Media}})
		part.Write(a.Body)
		w.Close()
		return mediaMixed + "; boundary=" + w.Boundary(), b.Bytes()
	case answerBase64:
		type one struct {
			Media string `json:"media"`
			Data  []byte `json:"data"`
		}
		b, _ := json.Marshal(map[string][]one{"outputs": {{a.Media, a.Body}}})
		return gantry.MediaJSON, b
	}
	return a.Media, a.Body
}

// Every form of body and of answer does what every processor must do.
func TestProcessor(t *testing.T) {
	t.Parallel()
	for _, c := range []ProcessorConfig{
		{}, {Body: bodyZip}, {Body: bodyMultipart}, {Body: bodyJSON}, {Answer: answerMultipart}, {Body: bodyJSON, Answer: answerBase64},
	} {
		t.Run(c.Body+" "+c.Answer, func(t *testing.T) {
			drivertest.Processor(t, func(t *testing.T, m *drivertest.Model) gantry.Processor {
				return openProcessor(t, c, serve(m, c.Answer))
			})
		})
	}
}

func TestBatch(t *testing.T) {
	t.Parallel()
	for _, body := range []string{bodyZip, bodyMultipart, bodyJSON} {
		t.Run(body, func(t *testing.T) {
			drivertest.Batch(t, func(t *testing.T, m *drivertest.Model) gantry.Processor {
				return openProcessor(t, ProcessorConfig{Body: body}, serve(m, ""))
			})
		})
	}
}

// output is what was received.
type output struct {
	Media string
	Size  int64
	Body  string
}

// request makes a request of items that hold bodies. Its outputs are appended to out.
func request(out *[]output, bodies ...string) *gantry.Request {
	req := &gantry.Request{
		Key: "key",
		Open: func(_ context.Context, i int) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader([]byte(bodies[i]))), nil
		},
		Receive: func(_ context.Context, media string, size int64, body io.Reader) error {
			b, err := io.ReadAll(body)
			if err == nil {
				*out = append(*out, output{media, size, string(b)})
			}
			return err
		},
	}
	for _, b := range bodies {
		req.Items = append(req.Items, gantry.Item{Media: gantry.MediaDICOM, Size: int64(len(b))})
	}
	return req
}

// serveJobs is the fake service of jobs: their URLs say how they go, and below them is the answer.
func serveJobs(j *drivertest.Jobs) http.HandlerFunc {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/jobs", func(w http.ResponseWriter, r *http.Request) {
		items, err := taken(r)
		if err != nil {
			return
		}
		id, after, a := j.Submit(drivertest.Posted{Key: r.Header.Get("Idempotency-Key"), Items: items})
		if id == "" {
			speak(w, r, "", a)
			return
		}
		if after > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(after/time.Second)))
		}
		w.Header().Set("Location", "/v1/jobs/"+id)
		w.WriteHeader(http.StatusAccepted)
	})
	mux.HandleFunc("GET /v1/jobs/{id}", func(w http.ResponseWriter, r *http.Request) {
		look := j.Look(r.PathValue("id"))
		switch {
		case look.State == drivertest.Unknown:
			look.Fault = drivertest.Missing
		case look.After > 0:
			w.Header().Set("Retry-After", strconv.Itoa(int(look.After/time.Second)))
		}
		states := map[drivertest.JobState]string{drivertest.AtWork: "running", drivertest.Ended: "succeeded", drivertest.GivenUp: "failed"}
		speak(w, r, "", drivertest.Answer{Fault: look.Fault, Media: gantry.MediaJSON, Body: []byte(`{"status":"` + states[look.State] + `","error":"` + secret + `"}`)})
	})
	mux.HandleFunc("GET /v1/jobs/{id}/result", func(w http.ResponseWriter, r *http.Request) {
		speak(w, r, "", j.Fetch(r.PathValue("id")))
	})
	mux.HandleFunc("DELETE /v1/jobs/{id}", func(w http.ResponseWriter, r *http.Request) {
		if !j.Drop(r.PathValue("id")) {
			w.WriteHeader(http.StatusNotFound)
		}
	})
	return mux.ServeHTTP
}

// Answers that come later are waited for as every driver must.
func TestDeferring(t *testing.T) {
	t.Parallel()
	drivertest.Deferring(t, func(t *testing.T, j *drivertest.Jobs) func() gantry.Deferring {
		server := httptest.NewServer(serveJobs(j))
		t.Cleanup(server.Close)
		c := patient(func(a *AsyncConfig) { a.Status, a.Result = "/status", "{ticket}/result" })
		c.URL = server.URL + c.URL
		return func() gantry.Deferring { return openAt(t, c) }
	})
}
