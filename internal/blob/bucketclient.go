package blob

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	maxAnswer     = 8 << 20   // bytes of an answer that is no blob: a page of a listing, an error
	continueAbove = 128 << 10 // a body larger than this, in bytes, waits for the server's word
	maxPrefix     = 512       // bytes; a key has at most 1024
	maxPause      = 15 * time.Minute
)

var (
	bucketPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	regionPattern = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)
	prefixPattern = regexp.MustCompile(`^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$`)
)

// Place says where a bucket is.
type Place struct {
	Bucket    string
	Prefix    string // below which the store lies, without a slash at its ends; empty: the whole bucket
	Endpoint  string // http:// or https:// with a host; empty: AWS
	Region    string // empty: us-east-1
	PathStyle bool   // the bucket stands in the path and not in the host name
}

// ParsePlace reads s3://bucket or s3://bucket/prefix. Other texts are Illegal.
func ParsePlace(text string) (Place, error) {
	rest, ok := strings.CutPrefix(text, "s3://")
	if !ok || strings.Contains(rest, "//") {
		return Place{}, gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "blob store: it is no address such as s3://bucket/prefix")
	}
	bucket, prefix, _ := strings.Cut(rest, "/")
	p := Place{Bucket: bucket, Prefix: strings.TrimSuffix(prefix, "/")}
	return p, p.Check()
}

// Check says what is wrong with a place; it is Illegal.
func (p Place) Check() error {
	reason := ""
	u, err := url.Parse(p.Endpoint)
	switch {
	case !bucketPattern.MatchString(p.Bucket):
		reason = "the bucket's name has 3 to 63 lower-case letters, digits, dots and hyphens"
	case p.Prefix != "" && (len(p.Prefix) > maxPrefix || !prefixPattern.MatchString(p.Prefix) || strings.Contains("/"+p.Prefix+"/", "/./") || strings.Contains("/"+p.Prefix+"/", "/../")):
		reason = "the prefix has letters, digits, and _ . - in parts that slashes divide"
	case p.Region != "" && !regionPattern.MatchString(p.Region):
		reason = "the region is no name of one"
	case p.Endpoint != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != ""):
		reason = "the endpoint is http:// or https:// with a host, a port if need be, and nothing else"
	default:
		return nil
	}
	return gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "blob store in a bucket: %s", reason)
}

func (p Place) region() string {
	if p.Region != "" {
		return p.Region
	}
	return "us-east-1"
}

// base is the server's URL.
func (p Place) base() string {
	if p.Endpoint != "" {
		return strings.TrimSuffix(p.Endpoint, "/")
	}
	host := "https://s3." + p.region() + ".amazonaws.com"
	if strings.HasPrefix(p.Region, "cn-") {
		host += ".cn"
	}
	return host
}

// Target is the server that requests go to: the bucket is part of it, in the host name or as the model. It has
// to stand in the path before an address, and where it has labels of its own, which no certificate covers.
func (p Place) Target() gantry.Target {
	u, err := url.Parse(p.base())
	if err != nil {
		return gantry.Target{Scheme: "https", Model: p.Bucket}
	}
	t := gantry.Target{Scheme: u.Scheme, Host: u.Hostname(), Port: u.Port()}
	if _, err := netip.ParseAddr(t.Host); p.PathStyle || err == nil || strings.Contains(p.Bucket, ".") {
		t.Model = p.Bucket
		return t
	}
	t.Host = p.Bucket + "." + t.Host
	return t
}

// newClient makes a client of the SDK that does nothing by itself: it sends through a transport that signs, and
// neither tries again nor takes checksums that were not asked for.
func newClient(p Place, rt http.RoundTripper) *sdk.Client {
	base := p.base()
	return sdk.New(sdk.Options{
		BaseEndpoint:                 &base,
		Region:                       p.region(),
		UsePathStyle:                 p.Target().Model != "",
		HTTPClient:                   door{rt},
		Credentials:                  aws.AnonymousCredentials{},
		Retryer:                      aws.NopRetryer{},
		RequestChecksumCalculation:   aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation:   aws.ResponseChecksumValidationWhenRequired,
		ContinueHeaderThresholdBytes: continueAbove,
		DisableS3ExpressSessionAuth:  aws.Bool(true),
		Logger:                       logging.Nop{},
		DisableClockSkewCorrection:   true,
		DisableLogOutputChecksumValidationSkipped: true,
	})
}

// door is a transport as the SDK wants it. Answers other than a read range have to be small.
type door struct{ rt http.RoundTripper }

// Do sends one request.
func (d door) Do(req *http.Request) (*http.Response, error) {
	req.Header.Set("User-Agent", "gantry")
	resp, err := d.rt.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if req.Method != http.MethodGet || resp.StatusCode != http.StatusPartialContent {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	}
	return resp, nil
}

// signedBody makes an operation send the digest of its body, which is then part of the signature. It takes the
// place of the SDK's own step, which would read the body first.
func signedBody(sum gantry.Digest) func(*sdk.Options) {
	return sdk.WithAPIOptions(func(stack *middleware.Stack) error {
		_, err := stack.Finalize.Swap((*v4.ComputePayloadSHA256)(nil).ID(), payloadHash(sum.String()))
		return err
	})
}

type payloadHash string

// ID is that of the step in whose place it stands.
func (payloadHash) ID() string { return (*v4.ComputePayloadSHA256)(nil).ID() }

// HandleFinalize sets the digest.
func (h payloadHash) HandleFinalize(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
	return next.HandleFinalize(v4.SetPayloadHash(ctx, string(h)), in)
}

// status gives the HTTP status that an operation failed with; 0 if there was no such answer.
func status(err error) int {
	if r, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && r.Response != nil {
		return r.HTTPStatusCode()
	}
	return 0
}

// meanings are the error codes of the protocol that say more than the status.
var meanings = map[string]struct {
	kind gantry.Kind
	code gantry.Code
}{
	"NoSuchBucket":                {gantry.NotFound, CodeBucketMissing},
	"ExpiredToken":                {gantry.Unavailable, CodeExpired},
	"InvalidToken":                {gantry.Unavailable, CodeExpired},
	"SlowDown":                    {gantry.Unavailable, CodeSlowDown},
	"RequestTimeout":              {gantry.Transient, CodeServerError},
	"BadDigest":                   {gantry.Transient, CodeServerError},
	"XAmzContentSHA256Mismatch":   {gantry.Transient, CodeServerError},
	"XAmzContentChecksumMismatch": {gantry.Transient, CodeServerError},
	"IncompleteBody":              {gantry.Transient, CodeServerError},
	"QuotaExceeded":               {gantry.Unavailable, CodeNoSpace},
}

// classify says what an error of the SDK means. Its text is our own: the SDK's quotes answers. doing is the
// verb of it; ctx is that of the caller, and not of the one request.
func classify(ctx context.Context, doing string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if own, ok := errors.AsType[*gantry.Error](err); ok {
		return own
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return gantry.Errorf(gantry.Timeout, "", "%s: the server takes too long", doing)
	}
	code := status(err)
	api, isAPI := errors.AsType[smithy.APIError](err)
	switch {
	case code == 0:
		if _, sent := errors.AsType[*smithyhttp.RequestSendError](err); sent {
			return gantry.Errorf(gantry.Transient, "", "%s: the connection broke", doing)
		}
		return gantry.Errorf(gantry.Illegal, CodeRefused, "%s: the request cannot be made", doing)
	case code < http.StatusMultipleChoices && !isAPI:
		return gantry.Errorf(gantry.BadResponse, CodeMalformedAnswer, "%s: the answer makes no sense", doing)
	}
	kind, reason := byStatus(code)
	if isAPI {
		if m, known := meanings[api.ErrorCode()]; known {
			kind, reason = m.kind, m.code
		}
	}
	r, answered := errors.AsType[*smithyhttp.ResponseError](err)
	answered = answered && r.Response != nil
	if code == http.StatusBadRequest && reason == CodeRefused && answered && r.Response.Request != nil && r.Response.Request.Method == http.MethodHead {
		kind = gantry.Transient // its answer has no body to say why: the credentials may have run out
	}
	out := gantry.Errorf(kind, reason, "%s: the server answers with status %d", doing, code)
	if answered {
		if n, err := strconv.ParseUint(r.Response.Header.Get("Retry-After"), 10, 32); err == nil {
			out.RetryAfter = min(time.Duration(n)*time.Second, maxPause)
		}
	}
	return out
}

// byStatus reads an HTTP status (RFC 9110 section 15) as S3 uses it.
func byStatus(code int) (gantry.Kind, gantry.Code) {
	switch code {
	case http.StatusNotFound, http.StatusGone:
		return gantry.NotFound, CodeMissing
	case http.StatusPreconditionFailed:
		return gantry.Transient, CodeChanged
	case http.StatusUnauthorized, http.StatusForbidden:
		return gantry.Denied, CodeAccessDenied
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return gantry.Unavailable, CodeSlowDown
	case http.StatusInsufficientStorage:
		return gantry.Unavailable, CodeNoSpace
	case http.StatusRequestTimeout, http.StatusConflict:
		return gantry.Transient, CodeServerError
	}
	if code != http.StatusNotImplemented && code >= http.StatusInternalServerError || code < http.StatusMultipleChoices { // 200 with an error inside
		return gantry.Transient, CodeServerError
	}
	return gantry.Permanent, CodeRefused
}
