package http

import (
	"cmp"
	"context"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// CodeBadPath: a delivery's path is not below the URL. It is Illegal.
const CodeBadPath gantry.Code = "bad_path"

// SinkConfig is what a pipeline file says about a sink of kind http.
type SinkConfig struct {
	URL          string            `yaml:"url" required:"true" doc:"Where results go: an absolute http or https URL, which may hold a query. With method put each file goes to its own path below."`
	Method       string            `yaml:"method" default:"put" doc:"put: each file to the URL and its path. post: each file to the URL itself, its path in the header X-Gantry-Path."`
	Headers      map[string]string `yaml:"headers" doc:"Headers that are the same in every request."`
	ManifestOnly bool              `yaml:"manifest_only" default:"false" doc:"true: only the manifest is sent, as a message that a task is done."`
}

// The values of SinkConfig.Method.
const (
	methodPut  = "put"
	methodPost = "post"
)

// pathHeader is the header of a file's path, escaped as in a URL.
const pathHeader = "X-Gantry-Path"

// Target is the URL's origin, as a processor's.
func (c SinkConfig) Target() gantry.Target { return gantry.WebTarget(c.URL) }

// Check lists what is wrong with the config.
func (c SinkConfig) Check() []gantry.FieldProblem {
	var found gantry.FieldProblems
	found.Add("url", gantry.CheckWebURL(c.URL))
	found.Add("method", checkOne(c.Method, methodPut, methodPost))
	for name := range c.Headers {
		if key := http.CanonicalHeaderKey(name); key == pathHeader || key == "If-None-Match" {
			found.Add("headers", key+": is set by gantry")
		}
	}
	return append(found, checkHeaders(c.Headers)...)
}

// sink is a web server that takes files.
type sink struct {
	url      *url.URL
	post     bool
	manifest bool // and nothing else
	header   http.Header
	rt       http.RoundTripper
	now      func() time.Time
	drain    time.Duration
}

// NewSink makes a sink. A config that does not Check is Illegal with code bad_config.
func NewSink(_ context.Context, c SinkConfig, egress gantry.Egress) (gantry.Sink, error) {
	for _, p := range c.Check() {
		return nil, gantry.Errorf(gantry.Illegal, CodeBadConfig, "open sink: %s: %s", p.Key, p.Text)
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, gantry.Errorf(gantry.Illegal, CodeBadConfig, "open sink: url: is no URL")
	}
	return &sink{
		url: u, post: c.Method == methodPost, manifest: c.ManifestOnly, header: staticHeader(c.Headers),
		rt: egress.Transport(), now: time.Now, drain: drainTime,
	}, nil
}

// Deliver sends one file in one request, with its digest (Content-Digest, RFC 9530 section 2) and
// its path as Idempotency-Key; a PUT also says If-None-Match: * (RFC 9110 section 13.1.2). Any 2xx
// is success. So is 409 or 412 if its answer's Repr-Digest or Content-Digest is that of the file:
// it lies there already. Without it, or with another, something else does: Permanent with code
// conflict. Other statuses are classified as a processor's. A file that is not the bytes that it
// should be never makes a whole request: Transient with code size_mismatch or checksum_mismatch.
func (s *sink) Deliver(ctx context.Context, out gantry.Delivery) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !fs.ValidPath(out.Path) || out.Path == "." {
		return gantry.Errorf(gantry.Illegal, CodeBadPath, "deliver: the path is not below the URL")
	}
	if s.manifest && !out.Manifest {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, err := out.Open(ctx)
	if err != nil {
		return err
	}
	var want []byte
	if !out.SHA.IsZero() {
		want = out.SHA[:]
	}
	file := struct {
		io.Reader
		io.Closer
	}{newChecked(ctx, r, want, gantry.Transient), r}
	in := &input{content: newWhole(file, out.Size), size: out.Size}
	defer in.Close()
	req, err := s.request(ctx, out, in)
	if err != nil {
		return err
	}
	resp, err := exchange(ctx, s.rt, req, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	defer time.AfterFunc(s.drain, cancel).Stop()
	err = s.judge(resp, out, in)
	io.CopyN(io.Discard, resp.Body, drainLimit)
	return err
}

func (s *sink) request(ctx context.Context, out gantry.Delivery, in *input) (*http.Request, error) {
	method, u := http.MethodPut, *s.url
	escaped := escape(out.Path)
	if s.post {
		method = http.MethodPost
	} else {
		u.RawPath = strings.TrimSuffix(u.EscapedPath(), "/") + "/" + escaped
		u.Path = strings.TrimSuffix(u.Path, "/") + "/" + out.Path
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), in)
	if err != nil {
		return nil, gantry.Errorf(gantry.Illegal, CodeBadConfig, "deliver: the URL makes no request")
	}
	req.Header = s.header.Clone()
	req.Header.Set("Content-Type", cmp.Or(out.Media, mediaOctets))
	req.Header.Set(defaultKeyHeader, escaped)
	req.Header.Set(pathHeader, escaped)
	if !out.SHA.IsZero() {
		req.Header.Set("Content-Digest", digest(out.SHA))
	}
	if !s.post {
		req.Header.Set("If-None-Match", "*")
	}
	req.ContentLength = out.Size
	return req, nil
}

// escape makes each part of a path safe for a URL and for a header.
func escape(path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return strings.Join(parts, "/")
}

// judge says what an answer means.
func (s *sink) judge(resp *http.Response, out gantry.Delivery, in *input) error {
	switch {
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		if !in.isWhole() {
			return gantry.Errorf(gantry.BadResponse, CodeAnsweredEarly, "read answer: it came before the file was sent")
		}
		return nil
	case resp.StatusCode == http.StatusConflict, resp.StatusCode == http.StatusPreconditionFailed:
		if !out.SHA.IsZero() && says(resp.Header, digest(out.SHA)) {
			return nil
		}
		return gantry.Errorf(gantry.Permanent, gantry.CodeConflict, "deliver: status %d: something else is there already", resp.StatusCode)
	}
	return refusal("deliver", resp, s.now())
}
