package http

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Codes of requests that cannot be sent. They are Illegal, size_mismatch is Transient.
const (
	CodeBadConfig    gantry.Code = "bad_config"
	CodeRawTakesOne  gantry.Code = "raw_takes_one"
	CodeNoItems      gantry.Code = "no_items"
	CodeSizeMismatch gantry.Code = "size_mismatch" // an item is not as long as it is known to be
)

// drainTime is how long the rest of an answer that nobody wants may take, so that its connection
// can be used again.
const drainTime = 2 * time.Second

// lookTime is how long a look at a job, or its deletion, may take: nothing else bounds control traffic.
const lookTime = 30 * time.Second

// processor is a service behind one URL.
type processor struct {
	config ProcessorConfig // its empty fields filled, but for metadata
	url    *url.URL
	header http.Header
	rt     http.RoundTripper
	now    func() time.Time
	drain  time.Duration
	look   time.Duration
}

// NewProcessor makes a processor. A config that does not Check is Illegal with code bad_config.
func NewProcessor(_ context.Context, c ProcessorConfig, egress gantry.Egress) (gantry.Processor, error) {
	for _, p := range c.Check() {
		return nil, gantry.Errorf(gantry.Illegal, CodeBadConfig, "open processor: %s: %s", p.Key, p.Text)
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, gantry.Errorf(gantry.Illegal, CodeBadConfig, "open processor: url: is no URL")
	}
	c.Body, c.Answer = cmp.Or(c.Body, bodyRaw), cmp.Or(c.Answer, answerAuto)
	c.Field, c.KeyHeader = cmp.Or(c.Field, defaultField), cmp.Or(c.KeyHeader, defaultKeyHeader)
	c.Async = c.Async.withDefaults()
	h := staticHeader(c.Headers)
	h.Set("Accept", c.accept())
	return &processor{config: c, url: u, header: h, rt: egress.Transport(), now: time.Now, drain: drainTime, look: lookTime}, nil
}

// staticHeader is what every request of a driver has.
func staticHeader(headers map[string]string) http.Header {
	h := http.Header{}
	for name, value := range headers {
		h.Set(name, value)
	}
	h.Set("Accept-Encoding", "identity") // what is kept is what was sent
	if h.Get("User-Agent") == "" {
		h.Set("User-Agent", "gantry")
	}
	return h
}

// Process posts the items and hands the answer on. It talks to the transport directly: a client
// would follow redirects and wrap errors together with the URL.
//
// An error while reading an item comes out as it is, and the service then never got a whole
// request. What the transport says is passed on if it is classified already.
func (p *processor) Process(ctx context.Context, req *gantry.Request) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in, err := p.open(ctx, req)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := p.request(ctx, req, in)
	if err != nil {
		return err
	}
	resp, err := exchange(ctx, p.rt, out, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return p.answer(ctx, cancel, resp, in.arrived, req)
}

// exchange sends a request whose body is in. An error of reading that comes before one of the
// transport.
func exchange(ctx context.Context, rt http.RoundTripper, out *http.Request, in *input) (*http.Response, error) {
	resp, err := rt.RoundTrip(out)
	if failed := in.failure(ctx); failed != nil {
		if resp != nil {
			resp.Body.Close()
		}
		return nil, failed
	}
	if err != nil {
		return nil, classify(ctx, "send", err)
	}
	return resp, nil
}

// open opens the body. It is open before the request is made, so what cannot be read is never
// begun.
func (p *processor) open(ctx context.Context, req *gantry.Request) (*input, error) {
	n := len(req.Items)
	if n == 0 {
		return nil, gantry.Errorf(gantry.Illegal, CodeNoItems, "post: there is nothing to send")
	}
	switch p.config.Body {
	case bodyZip:
		return &input{content: newArchive(ctx, req), size: -1, media: gantry.MediaZIP}, nil
	case bodyMultipart:
		return compose(ctx, req, multipartForm(req.Key, p.config.Field, p.config.Metadata)), nil
	case bodyJSON:
		return compose(ctx, req, jsonForm(p.config.Metadata)), nil
	}
	if n > 1 {
		return nil, gantry.Errorf(gantry.Illegal, CodeRawTakesOne, "post: a raw body takes one item, not %d; set body: zip, multipart or json", n)
	}
	r, err := req.Open(ctx, 0)
	if err != nil {
		return nil, err
	}
	gantry.SendAlone(r)
	item, size := req.Items[0], req.Items[0].Size
	if s, ok := r.(gantry.Sized); ok && size < 0 {
		size = s.Size()
	}
	return &input{content: newWhole(r, size), size: size, media: cmp.Or(item.Media, mediaOctets)}, nil
}

func compose(ctx context.Context, req *gantry.Request, f form) *input {
	return &input{content: newComposed(ctx, req, f), size: f.size(req.Items), media: f.media}
}

func (p *processor) request(ctx context.Context, req *gantry.Request, in *input) (*http.Request, error) {
	out, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url.String(), in)
	if err != nil {
		return nil, gantry.Errorf(gantry.Illegal, CodeBadConfig, "post: the URL makes no request")
	}
	out.Header = p.header.Clone()
	out.Header.Set("Content-Type", in.media)
	out.Header.Set(p.config.KeyHeader, req.Key)
	out.ContentLength = in.size
	return out, nil
}
