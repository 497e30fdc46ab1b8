package s3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// maxResumes is how often one reading is taken up again.
const maxResumes = 5

// object is an open object, or a range of one.
type object struct {
	*source
	ctx     context.Context
	ref     string
	etag    string // empty: not known
	version string // of a bucket that keeps them; empty: the present one
	ranged  bool   // the bytes from at to size alone are wanted
	body    io.ReadCloser
	at      int64 // of the next byte
	size    int64 // -1 if not known
	began   int64 // at of the present body
	resumes int
	err     error
}

// open asks for what is left of the object.
func (o *object) open() error {
	in := &sdk.GetObjectInput{Bucket: &o.bucket, Key: &o.ref}
	if o.etag != "" {
		in.IfMatch = &o.etag
	}
	if o.version != "" {
		in.VersionId = &o.version
	}
	begin := ""
	switch {
	case o.ranged:
		in.Range, begin = aws.String(fmt.Sprintf("bytes=%d-%d", o.at, o.size-1)), fmt.Sprintf("bytes %d-%d/", o.at, o.size-1)
	case o.at > 0:
		in.Range, begin = aws.String(fmt.Sprintf("bytes=%d-", o.at)), fmt.Sprintf("bytes %d-", o.at)
	}
	out, err := o.client.get(o.ctx, in)
	if err != nil {
		return classify(o.ctx, "open object", err)
	}
	if err := o.judge(out, begin); err != nil {
		out.Body.Close()
		return err
	}
	if o.size < 0 && out.ContentLength != nil {
		o.size = *out.ContentLength
	}
	o.etag = cmp.Or(o.etag, aws.ToString(out.ETag))
	o.body, o.began = out.Body, o.at
	return nil
}

// judge says why an answer is not what was asked for, if so: its Content-Range has to begin as said. A
// server may not know If-Match.
func (o *object) judge(out *sdk.GetObjectOutput, begin string) error {
	switch {
	case o.etag != "" && out.ETag != nil && *out.ETag != o.etag:
		return gantry.Errorf(gantry.NotFound, gantry.CodeSourceGone, "open object: another took its place")
	case !strings.HasPrefix(aws.ToString(out.ContentRange), begin):
		return gantry.Errorf(gantry.BadResponse, CodeMalformedAnswer, "read object: the answer is not the range that was asked for")
	}
	return nil
}

// Read reads on, over broken connections.
func (o *object) Read(p []byte) (int, error) {
	if o.err != nil {
		return 0, o.err
	}
	if o.ranged {
		p = p[:min(int64(len(p)), o.size-o.at)] // a server may send more
	}
	n, err := o.body.Read(p)
	o.at += int64(n)
	switch {
	case err == nil && !(o.ranged && o.at == o.size):
		return n, nil
	case o.at == o.size || o.size < 0 && err == io.EOF:
		o.err = io.EOF
	case err == io.EOF:
		o.err = o.resume(gantry.Errorf(gantry.Transient, "short_body", "read object: the answer is cut short"))
	default:
		o.err = o.resume(readError(o.ctx, err))
	}
	return n, o.err
}

// readError classifies an error of a body.
func readError(ctx context.Context, err error) error {
	if own, ok := errors.AsType[*gantry.Error](err); ok {
		return own
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return gantry.Errorf(gantry.Transient, "short_body", "read object: the connection broke")
}

// resume opens what is left after err, if that may help: something came since the last time.
func (o *object) resume(err error) error {
	own, ok := errors.AsType[*gantry.Error](err)
	if !ok || own.Kind != gantry.Transient && own.Kind != gantry.Timeout || o.etag == "" || o.at == o.began || o.resumes == maxResumes || o.ctx.Err() != nil {
		return err
	}
	o.resumes++
	o.body.Close()
	return o.open()
}

// Close ends the reading.
func (o *object) Close() error { return o.body.Close() }

// Digest is that of an object that came in one piece.
func (o *object) Digest() (gantry.Digest, int64, bool) {
	if o.err != io.EOF || o.resumes > 0 {
		return gantry.Digest{}, 0, false
	}
	return gantry.DigestOf(o.body)
}
