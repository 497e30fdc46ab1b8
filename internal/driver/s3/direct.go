package s3

import (
	"cmp"
	"context"
	"encoding/xml"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/encoding/httpbinding"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// client is one of the SDK whose two requests that every object takes are made without it: it puts some forty steps
// together for each, which cost more processor time than all else that is done about a small object. What is sent, and what
// errors say, is as with the SDK.
type client struct {
	*sdk.Client
	door door
	base url.URL // of the bucket, without a slash at its end
}

// newClient makes a client of a bucket that does nothing by itself: it sends through egress, which
// signs, and neither tries again nor takes checksums that were not asked for.
func newClient(p place, egress gantry.Egress) *client {
	c := &client{Client: newSDK(p, egress), door: door{egress.Transport(), maxAnswer}}
	if u, err := url.Parse(p.base()); err == nil { // it was checked
		if c.base = *u; p.inPath(u) {
			c.base.Path += "/" + p.bucket
		} else {
			c.base.Host = p.bucket + "." + c.base.Host
		}
	}
	return c
}

// get asks for an object, or a range of one (GetObject). Of the request only key, version, range and If-Match are sent;
// of the answer only body, length, range and ETag are read.
func (c *client) get(ctx context.Context, in *sdk.GetObjectInput) (*sdk.GetObjectOutput, error) {
	req := c.request(ctx, http.MethodGet, *in.Key)
	if in.VersionId != nil {
		req.URL.RawQuery = "versionId=" + url.QueryEscape(*in.VersionId)
	}
	set(req.Header, "Range", in.Range)
	set(req.Header, "If-Match", in.IfMatch)
	resp, err := c.send(req)
	if err != nil {
		return nil, err
	}
	out := &sdk.GetObjectOutput{Body: resp.Body, ContentRange: header(resp, "Content-Range"), ETag: header(resp, "ETag")}
	if resp.ContentLength >= 0 {
		out.ContentLength = &resp.ContentLength
	}
	return out, nil
}

// put puts an object whose bytes have a digest (PutObject). Of the request all is sent that sinks set.
func (c *client) put(ctx context.Context, in *sdk.PutObjectInput, sum gantry.Digest) error {
	req := c.request(ctx, http.MethodPut, *in.Key)
	if req.ContentLength = *in.ContentLength; req.ContentLength > 0 {
		req.Body = io.NopCloser(in.Body)
	}
	if req.ContentLength > continueAbove {
		req.Header.Set("Expect", "100-continue")
	}
	req.Header.Set("X-Amz-Content-Sha256", sum.String())
	for _, x := range [...]struct {
		name  string
		value *string
	}{{"Content-Type", in.ContentType}, {"If-None-Match", in.IfNoneMatch}, {"X-Amz-Checksum-Sha256", in.ChecksumSHA256}, {"X-Amz-Tagging", in.Tagging},
		{"X-Amz-Storage-Class", text(in.StorageClass)}, {"X-Amz-Acl", text(in.ACL)}, {"X-Amz-Server-Side-Encryption", text(in.ServerSideEncryption)},
		{"X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id", in.SSEKMSKeyId}} {
		set(req.Header, x.name, x.value)
	}
	if aws.ToBool(in.BucketKeyEnabled) {
		req.Header.Set("X-Amz-Server-Side-Encryption-Bucket-Key-Enabled", "true")
	}
	for name, value := range in.Metadata {
		req.Header.Set("X-Amz-Meta-"+name, value)
	}
	resp, err := c.send(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if code, err := codeOf(resp); err != nil || code != "" { // some errors come after the status
		return failed(resp, code, err)
	}
	return nil
}

// request begins a request for an object. Its key is escaped as S3 does it.
func (c *client) request(ctx context.Context, method, key string) *http.Request {
	u := c.base
	u.RawPath = u.Path + "/" + httpbinding.EscapePath(key, false)
	u.Path += "/" + key
	req := &http.Request{Method: method, URL: &u, Host: u.Host, Header: http.Header{}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	req.Header.Set("Accept-Encoding", "identity")
	return req.WithContext(ctx)
}

// send sends a request. An answer that is no success is an error, as the SDK makes them.
func (c *client) send(req *http.Request) (*http.Response, error) {
	resp, err := c.door.Do(req)
	if err != nil {
		return nil, &smithyhttp.RequestSendError{Err: err}
	}
	if resp.StatusCode >= http.StatusOK && resp.StatusCode < http.StatusMultipleChoices {
		return resp, nil
	}
	defer resp.Body.Close()
	code, err := codeOf(resp)
	return nil, failed(resp, code, err)
}

// failed is the error of an answer, or of reading it.
func failed(resp *http.Response, code string, err error) error {
	if err == nil {
		err = &smithy.GenericAPIError{Code: code}
	}
	return &smithyhttp.ResponseError{Response: &smithyhttp.Response{Response: resp}, Err: err}
}

// codeOf reads an answer without an object to its end, so that the connection can be used again, and gives the code of the error
// that it tells of; empty if it tells of none. What is no XML is an error, as is a connection that broke.
func codeOf(resp *http.Response) (code string, err error) {
	defer func() {
		if _, rerr := io.Copy(io.Discard, resp.Body); err == nil {
			err = rerr
		}
	}()
	if resp.ContentLength == 0 {
		return "", nil
	}
	d := xml.NewDecoder(resp.Body)
	for {
		t, err := d.Token()
		if err == io.EOF {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		root, ok := t.(xml.StartElement)
		if !ok {
			continue
		}
		if resp.StatusCode < http.StatusMultipleChoices && !strings.EqualFold(root.Name.Local, "Error") {
			return "", nil
		}
		var x struct{ Code string }
		err = d.DecodeElement(&x, &root)
		return cmp.Or(x.Code, "UnknownError"), err
	}
}

// set sets a header that has a value.
func set(h http.Header, name string, value *string) {
	if value != nil {
		h.Set(name, *value)
	}
}

// text is nil for one that is empty.
func text[T ~string](s T) *string {
	if s == "" {
		return nil
	}
	return aws.String(string(s))
}

// header gives a header of an answer, nil if it has none.
func header(resp *http.Response, name string) *string {
	if values := resp.Header.Values(name); len(values) > 0 {
		return &values[0]
	}
	return nil
}
