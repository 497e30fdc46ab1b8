package http

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Codes of answers that hold several outputs. All are BadResponse.
const (
	CodeBadMultipart   gantry.Code = "bad_multipart"    // no parts, or no end (RFC 2046 section 5.1.1)
	CodeTooManyOutputs gantry.Code = "too_many_outputs" // over 1000
)

// The multipart types whose parts are outputs (RFC 2046 section 5.1.3, RFC 7578).
const (
	mediaMixed = "multipart/mixed"
	mediaForm  = "multipart/form-data"
)

const (
	maxOutputs    = 1000     // of one answer
	maxPartHeader = 16 << 10 // bytes of a part's header, with what stands before the first part
	maxBoundary   = 70       // RFC 2046 section 5.1.1
)

// checkBoundary refuses a boundary that is none.
func checkBoundary(s string) (string, error) {
	if s == "" || len(s) > maxBoundary {
		return "", gantry.Errorf(gantry.BadResponse, CodeBadMultipart, "read answer: multipart without a boundary of 1 to %d bytes", maxBoundary)
	}
	return s, nil
}

// parts is a multipart answer.
type parts struct {
	r   *bounded
	all *multipart.Reader
}

func newParts(r *bufio.Reader, boundary string) *parts {
	b := &bounded{r: r, left: -1, tail: []byte{'\n'}, last: []byte("\n--" + boundary + "--")}
	return &parts{r: b, all: multipart.NewReader(b, boundary)}
}

// hand gives each part to req.Receive, in order, and reads the answer to its end.
func (p *parts) hand(ctx context.Context, req *gantry.Request) error {
	for n := 0; ; n++ {
		part, err := p.next()
		if err == io.EOF {
			return p.rest()
		}
		if err != nil {
			return err
		}
		if n == maxOutputs {
			return gantry.Errorf(gantry.BadResponse, CodeTooManyOutputs, "read answer: over %d parts", maxOutputs)
		}
		media, err := partType(part)
		if err != nil {
			return err
		}
		body := &partBody{r: part}
		if claim := claimed(part.Header.Values("Content-Digest")); claim != nil {
			body.r = newChecked(ctx, part, claim, gantry.BadResponse)
		}
		if err := receive(ctx, req, media, -1, body, body.ended); err != nil {
			return err
		}
	}
}

// next comes to the next part; io.EOF after the last one.
func (p *parts) next() (*multipart.Part, error) {
	p.r.limit(maxPartHeader)
	part, err := p.all.NextRawPart()
	p.r.limit(-1)
	if err == nil || err == io.EOF {
		return part, err
	}
	return nil, broken(err)
}

// rest reads what stands behind the last part.
func (p *parts) rest() error {
	_, err := io.CopyN(io.Discard, p.r.r, drainLimit)
	switch err {
	case io.EOF:
		return nil
	case nil:
		return noPart()
	}
	return err
}

func noPart() error {
	return gantry.Errorf(gantry.BadResponse, CodeBadMultipart, "read answer: too many bytes that belong to no part")
}

// partType gives the type of a part that may be taken.
func partType(part *multipart.Part) (string, error) {
	if err := encoding(part.Header.Get("Content-Encoding")); err != nil {
		return "", err
	}
	switch strings.ToLower(part.Header.Get("Content-Transfer-Encoding")) { // RFC 2045 section 6.2: what changes nothing
	case "", "7bit", "8bit", "binary":
	default:
		return "", gantry.Errorf(gantry.BadResponse, CodeEncoded, "read answer: a part is encoded")
	}
	media, _, err := mime.ParseMediaType(part.Header.Get("Content-Type"))
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) || !isOutput(media) {
		return "", notTaken(media, "parts of "+singleAccept)
	}
	return media, nil
}

// broken gives a meaning to an error of mime/multipart. Its text is ours: theirs quote answers.
func broken(err error) error {
	if own, ok := errors.AsType[*gantry.Error](err); ok {
		return own
	}
	if errors.Is(err, context.Canceled) {
		return context.Canceled
	}
	return gantry.Errorf(gantry.BadResponse, CodeBadMultipart, "read answer: it is no multipart, or has no end")
}

// partBody is one part. What stands behind it is not its matter.
type partBody struct {
	r   io.Reader
	err error
}

// Read reads the part.
func (b *partBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.r.Read(p)
	if err != nil && err != io.EOF {
		err = broken(err)
	}
	b.err = err
	return n, err
}

func (b *partBody) ended() error { return unended(b.err) }

// bounded reads r, and at times no more than a number of bytes of it. Where r ends elsewhere than with
// the last boundary it says io.ErrUnexpectedEOF: mime/multipart takes io.EOF within a header for the
// end of all parts.
type bounded struct {
	r    io.Reader
	left int64  // below 0: no bound
	tail []byte // the last bytes read, tailSize at most; a line begins at first
	last []byte // the last boundary, which may lack its line break
}

// tailSize holds the longest boundary with what stands around it.
const tailSize = 2 * maxBoundary

// limit bounds what is read from now on; below 0 lifts the bound.
func (b *bounded) limit(n int64) { b.left = n }

// Read reads on.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, noPart()
	}
	if b.left > 0 {
		p = p[:min(int64(len(p)), b.left)]
	}
	n, err := b.r.Read(p)
	if b.left > 0 {
		b.left -= int64(n)
	}
	b.tail = append(b.tail, p[max(0, n-tailSize):n]...)
	b.tail = append(b.tail[:0], b.tail[max(0, len(b.tail)-tailSize):]...)
	if err == io.EOF && !bytes.HasSuffix(bytes.TrimRight(b.tail, " \t"), b.last) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
