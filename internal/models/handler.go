package models

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/auth"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Limits of the service.
const (
	DefaultMaxBody = 256 << 20 // bytes of a request
	MaxPixels      = 64 << 20  // of an image, known before anything is decoded
)

// poolLimit is the largest buffer that is kept for the next request, in bytes.
const poolLimit = 32 << 20

// Options sets how the services answer. The zero value answers at once and never fails.
type Options struct {
	Latency time.Duration // added to every call of a model, as if the model were slow
	Fail    float64       // the share of calls, 0 to 1, that are answered with Status and no result
	Status  int           // of those answers, 400 to 599; 0: 503
	Seed    uint64        // chooses which calls fail: call n of a handler fails or not by Seed and n alone
	MaxBody int64         // bytes of a request; 0: DefaultMaxBody

	Secret    auth.Secret    // what callbacks are signed with; without it there are none
	Callbacks []netip.Prefix // where callbacks may go beside this machine
}

// Model names what made a result.
type Model struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// models of this package. A change of any output raises its version.
func enhancer() Model { return Model{"gantry-clahe", "1.0.0"} }
func assessor() Model { return Model{"gantry-quality", "1.0.0"} }
func masker() Model   { return Model{"gantry-otsu", "1.0.0"} }
func reporter() Model { return Model{"gantry-report", "1.0.0"} }
func surveyor() Model { return Model{"gantry-volume", "1.0.0"} }
func mirror() Model   { return Model{"gantry-identity", "1.0.0"} }

// service is the state of one Handler.
type service struct {
	opt       Options
	faults    faults
	maxPixels int
	seats     chan struct{} // one for each image being decoded or computed
	buffers   sync.Pool     // *bytes.Buffer
	scratch   sync.Pool     // *scratch
	encoders  pngBuffers
	jobs      *jobs
}

// closing is a handler with work of its own, which Close ends.
type closing struct {
	http.Handler
	*jobs
}

// Handler serves, by POST, /v1/enhance (an image in, a PNG out), /v1/quality (an image in, a
// Quality as JSON out), /v1/mask (an image in, a PNG of its size out: 255 where it is bright, 0
// elsewhere), /v1/report (all items of a task in, a Report as JSON out), /v1/volume (the slices of a
// series in, a Volume as JSON and a PNG out, by multipart/mixed) and /v1/identity (the body
// out again), and GET /healthz. An image is a PNG, a JPEG or a DICOM file of one uncompressed grey
// frame; what it is its bytes say, not its Content-Type. A request is one image, or several as a
// ZIP archive, as files of multipart/form-data, or as JSON {"inputs": [{"media", "data": base64}]};
// several are answered in their order, by multipart/mixed or in one JSON. The same bytes get the
// same answer.
// Errors are JSON problems (RFC 9457): 413 for a body over MaxBody, 415 for what is no image, 422
// for one that is broken or has a layout or size that is not served.
//
// Below /async/ the same services answer later: a POST gives 202 and a Location under /async/jobs/, which
// says how the work goes (GET) and takes it back (DELETE); docs/models.md has the query that shapes it. Where the
// request has a Callback-Url, and Options a Secret, the result is sent there, signed (auth.SignCallback). The
// handler is an io.Closer, which ends the work.
// It may be called concurrently; as many images are worked on at once as there are processors.
func Handler(o Options) http.Handler {
	s := newService(o)
	return closing{s.routes(), s.jobs}
}

func newService(o Options) *service {
	if o.MaxBody <= 0 {
		o.MaxBody = DefaultMaxBody
	}
	if o.Status < 400 || o.Status > 599 {
		o.Status = http.StatusServiceUnavailable
	}
	s := &service{
		opt:       o,
		faults:    faults{share: o.Fail, seed: o.Seed},
		maxPixels: MaxPixels,
		seats:     make(chan struct{}, runtime.GOMAXPROCS(0)),
	}
	s.buffers.New = func() any { return new(bytes.Buffer) }
	s.scratch.New = func() any { return new(scratch) }
	s.jobs = newJobs(s, newCaller(o.Secret, o.Callbacks))
	return s
}

func (s *service) routes() http.Handler {
	mux := http.NewServeMux()
	for path, run := range map[string]runner{
		"/v1/enhance": s.image(s.enhance), "/v1/quality": s.image(s.quality), "/v1/mask": s.image(s.mask),
		"/v1/report": s.report, "/v1/volume": s.volume, "/v1/identity": identity,
	} {
		mux.HandleFunc("POST "+path, s.model(run))
		mux.HandleFunc(path, allow(http.MethodPost))
		mux.HandleFunc("POST /async"+path, s.jobs.submit(run))
		mux.HandleFunc("/async"+path, allow(http.MethodPost))
	}
	mux.HandleFunc("GET /async/jobs/{id}", s.jobs.poll)
	mux.HandleFunc("DELETE /async/jobs/{id}", s.jobs.cancel)
	mux.HandleFunc("GET /async/jobs/{id}/result", s.jobs.collect)
	mux.HandleFunc("GET /healthz", health)
	mux.HandleFunc("/healthz", allow("GET, HEAD"))
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		problem{Status: http.StatusNotFound, Code: gantry.Code(gantry.NotFound.String()), Detail: "no such service"}.write(w)
	})
	return mux
}

// runner computes an answer into out.
type runner func(in request, out *bytes.Buffer) (media string, err error)

// model is the way of every call: read the whole body, take the time that a model would take,
// fail if it is this call's turn, else compute and answer. The body is read before a failure is
// answered, since a peer that is cut off while it sends may never see the answer.
func (s *service) model(run runner) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		in, out := s.buffer(), s.buffer()
		defer s.release(in, out)
		if err := s.read(w, r, in); err != nil {
			problemOf(err).write(w)
			return
		}
		if !wait(r.Context(), s.opt.Latency) {
			return
		}
		if s.faults.next() {
			problem{Status: s.opt.Status, Code: "simulated", Detail: "this failure was asked for"}.write(w)
			return
		}
		select {
		case s.seats <- struct{}{}:
		case <-r.Context().Done():
			return
		}
		media, err := func() (string, error) {
			defer func() { <-s.seats }()
			return run(request{r.Header.Get("Content-Type"), in.Bytes()}, out)
		}()
		if err != nil {
			problemOf(err).write(w)
			return
		}
		answer(w, http.StatusOK, media, out.Bytes())
	}
}

// errEncoded refuses a Content-Encoding.
var errEncoded = errors.New("content codings are not served")

// read takes the body into b, which grows with what comes and not with what is announced.
func (s *service) read(w http.ResponseWriter, r *http.Request, b *bytes.Buffer) error {
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return errEncoded
	}
	if r.ContentLength > s.opt.MaxBody {
		return &http.MaxBytesError{Limit: s.opt.MaxBody}
	}
	_, err := b.ReadFrom(http.MaxBytesReader(w, r.Body, s.opt.MaxBody))
	if _, big := errors.AsType[*http.MaxBytesError](err); err != nil && !big {
		return errBody
	}
	return err
}

// errBody hides what the connection said about a body that broke off.
var errBody = errors.New("the body broke off")

func (s *service) enhance(body []byte, out *bytes.Buffer) (string, error) {
	p, err := s.decode(body)
	if err != nil {
		return "", err
	}
	defer s.scratch.Put(p.scratch)
	equalise(p, defaultTiles, defaultClip)
	return gantry.MediaPNG, p.encode(out, &s.encoders)
}

func (s *service) quality(body []byte, out *bytes.Buffer) (string, error) {
	p, err := s.decode(body)
	if err != nil {
		return "", err
	}
	defer s.scratch.Put(p.scratch)
	return gantry.MediaJSON, json.NewEncoder(out).Encode(assess(p))
}

func (s *service) mask(body []byte, out *bytes.Buffer) (string, error) {
	p, err := s.decode(body)
	if err != nil {
		return "", err
	}
	defer s.scratch.Put(p.scratch)
	segment(p)
	return gantry.MediaPNG, p.encode(out, &s.encoders)
}

// identity answers the body, as what it was sent as. A type that a browser might run is answered
// as bytes.
func identity(in request, out *bytes.Buffer) (string, error) {
	if len(in.body) == 0 {
		return "", gantry.Errorf(gantry.Illegal, gantry.CodeEmpty, "an empty body")
	}
	out.Write(in.body)
	switch form := in.form(); form {
	case gantry.MediaPNG, gantry.MediaJPEG, gantry.MediaDICOM, gantry.MediaJSON, gantry.MediaZIP, gantry.MediaNPY, "multipart/form-data":
		return in.media, nil
	}
	return "application/octet-stream", nil
}

func health(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, gantry.MediaJSON, struct {
		Status string  `json:"status"`
		Models []Model `json:"models"`
	}{"ok", []Model{enhancer(), assessor(), masker(), reporter(), surveyor(), mirror()}})
}

func allow(methods string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Allow", methods)
		problem{Status: http.StatusMethodNotAllowed, Code: "method_not_allowed", Detail: "allowed: " + methods}.write(w)
	}
}

func (s *service) buffer() *bytes.Buffer {
	b := s.buffers.Get().(*bytes.Buffer)
	b.Reset()
	return b
}

func (s *service) release(buffers ...*bytes.Buffer) {
	for _, b := range buffers {
		if b.Cap() <= poolLimit {
			s.buffers.Put(b)
		}
	}
}

func answer(w http.ResponseWriter, status int, media string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", media)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	w.Write(body) // an error means that the peer has gone
}

func writeJSON(w http.ResponseWriter, status int, media string, v any) {
	b, err := json.Marshal(v)
	if err != nil { // never for the types of this package
		panic(err)
	}
	answer(w, status, media, append(b, '\n'))
}
