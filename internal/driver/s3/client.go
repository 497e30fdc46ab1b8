package s3

import (
	"context"
	"io"
	"net/http"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	maxAnswer     = 8 << 20   // bytes of an answer that is no object: a page of a listing, an error
	continueAbove = 128 << 10 // a body larger than this, in bytes, waits for the server's word
)

// noObject are what a GET asks for that is no object.
var noObject = []string{"list-type", "versioning", "versions", "tagging"}

// newSDK makes the SDK's client of a bucket.
func newSDK(p place, egress gantry.Egress) *sdk.Client {
	base := p.base()
	return sdk.New(sdk.Options{
		BaseEndpoint:                 &base,
		Region:                       p.regionOr(),
		UsePathStyle:                 p.target().Model != "",
		HTTPClient:                   door{egress.Transport(), maxAnswer},
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

// door is egress as the SDK wants it. Answers that are no object are small.
type door struct {
	rt   http.RoundTripper
	most int64 // bytes of an answer
}

// Do sends one request.
func (d door) Do(req *http.Request) (*http.Response, error) {
	req.Header.Set("User-Agent", "gantry")
	resp, err := d.rt.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	object := req.Method == http.MethodGet && !slices.ContainsFunc(noObject, req.URL.Query().Has) && resp.StatusCode < http.StatusMultipleChoices
	if !object && resp.Body != http.NoBody {
		resp.Body = &capped{ReadCloser: resp.Body, left: d.most}
	}
	return resp, nil
}

// capped is an answer that has to be small.
type capped struct {
	io.ReadCloser
	left int64
}

// Read is BadResponse with code too_large after the limit.
func (c *capped) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, gantry.Errorf(gantry.BadResponse, gantry.CodeTooLarge, "read the answer: it is too long")
	}
	n, err := c.ReadCloser.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}

// signedBody makes an operation send the digest of its body, which is then part of the signature. It
// takes the place of the SDK's own step, which would read the body first.
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
