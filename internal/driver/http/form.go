package http

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// metadataField is the name of the metadata in a form and in a JSON body.
const metadataField = "metadata"

const mediaOctets = "application/octet-stream"

// form says what stands around the items of a body. What it says depends on the request's key, the
// config and the items' types alone, so the same request gives the same bytes.
type form struct {
	media  string // the Content-Type
	open   string // before everything
	before func(i int, it gantry.Item) string
	end    string // after the last item
	base64 bool   // the items stand there in base64 (RFC 4648 section 4)
}

// multipartForm is a multipart/form-data body (RFC 7578) with a file for each item, in order, named
// by its place. The boundary comes of the key, which nobody can guess who made an item: it holds
// the task's id.
func multipartForm(key, field, metadata string) form {
	boundary := fmt.Sprintf("gantry-%x", sha256.Sum256([]byte("boundary of "+key)))[:len("gantry-")+32]
	f := form{media: mediaForm + "; boundary=" + boundary, end: "\r\n--" + boundary + "--\r\n"}
	first := "--" + boundary
	if metadata != "" {
		f.open = first + "\r\nContent-Disposition: form-data; name=\"" + metadataField + "\"\r\nContent-Type: " +
			gantry.MediaJSON + "\r\n\r\n" + metadata
		first = "\r\n" + first
	}
	f.before = func(i int, it gantry.Item) string {
		delimiter := first
		if i > 0 {
			delimiter = "\r\n--" + boundary
		}
		media := cmp.Or(it.Media, mediaOctets)
		if !gantry.IsFieldValue(media) {
			media = mediaOctets
		}
		return fmt.Sprintf("%s\r\nContent-Disposition: form-data; name=\"%s\"; filename=\"%06d%s\"\r\nContent-Type: %s\r\n\r\n",
			delimiter, field, i+1, extension(it.Media), media)
	}
	return f
}

// jsonForm is a JSON object with each item in base64, in order.
func jsonForm(metadata string) form {
	f := form{media: gantry.MediaJSON, open: `{"inputs":[`, end: `"}]}`, base64: true}
	if metadata != "" {
		f.open = `{"` + metadataField + `":` + metadata + `,"inputs":[`
	}
	f.before = func(i int, it gantry.Item) string {
		media, err := json.Marshal(cmp.Or(it.Media, mediaOctets))
		if err != nil { // never for a string
			panic(err)
		}
		between := ""
		if i > 0 {
			between = `"},`
		}
		return between + `{"media":` + string(media) + `,"data":"`
	}
	return f
}

// size is how long the body of a request is; -1 if the size of an item is not known.
func (f form) size(items []gantry.Item) int64 {
	total := int64(len(f.open) + len(f.end))
	for i, it := range items {
		switch {
		case it.Size < 0:
			return -1
		case f.base64:
			total += (it.Size + 2) / 3 * 4
		default:
			total += it.Size
		}
		total += int64(len(f.before(i, it)))
	}
	return total
}

// composed is a body of a form, made while it is read. An item that is not what it should be ends
// in an error before form.end, so that no service can take the body for whole.
type composed struct {
	ctx  context.Context
	req  *gantry.Request
	form form

	text string        // of the form, to be handed out next
	next int           // the item to open next
	item io.ReadCloser // the one that is open
	left int64         // what the open item may still hold; below 0 if not known
	code *encoder      // of a form in base64
	err  error         // io.EOF when form.end is in text
}

func newComposed(ctx context.Context, req *gantry.Request, f form) *composed {
	c := &composed{ctx: ctx, req: req, form: f, text: f.open}
	if f.base64 {
		c.code = &encoder{read: c.plain}
	}
	return c
}

// Read gives the next bytes of the body.
func (c *composed) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		switch {
		case c.text != "":
			n := copy(p, c.text)
			c.text = c.text[n:]
			return n, nil
		case c.err != nil:
			return 0, c.err
		case c.item == nil:
			c.err = c.advance()
			continue
		}
		n, err := c.read(p)
		if err == io.EOF {
			err = c.item.Close()
			c.item = nil
		}
		c.err = err
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// advance opens the next item, or comes to the end.
func (c *composed) advance() error {
	if c.next == len(c.req.Items) {
		c.text = c.form.end
		return io.EOF
	}
	it := c.req.Items[c.next]
	r, err := c.req.Open(c.ctx, c.next)
	if err != nil {
		return err
	}
	c.text = c.form.before(c.next, it)
	c.next++
	c.item, c.left = r, it.Size
	return nil
}

func (c *composed) read(p []byte) (int, error) {
	if c.code != nil {
		return c.code.Read(p)
	}
	return c.plain(p)
}

// plain reads the open item and counts it.
func (c *composed) plain(p []byte) (int, error) {
	n, err := c.item.Read(p)
	if c.left < 0 {
		return n, err
	}
	c.left -= int64(n)
	if c.left < 0 || err == io.EOF && c.left > 0 {
		return 0, gantry.Errorf(gantry.Transient, CodeSizeMismatch, "read item %d: it is not as long as it should be", c.next)
	}
	return n, err
}

func (c *composed) whole() bool { return c.err == io.EOF }

// Close closes the item that is open.
func (c *composed) Close() error {
	if c.item == nil {
		return nil
	}
	return c.item.Close()
}

// encoder gives what read gives, in base64. It serves one item after another.
type encoder struct {
	read func([]byte) (int, error)
	raw  [bufferSize / 4 * 3]byte
	out  [bufferSize]byte
	text []byte // of out, to be handed out next
	err  error
}

// Read gives the next characters, and io.EOF once at the end of each item.
func (e *encoder) Read(p []byte) (int, error) {
	if len(e.text) == 0 && e.err == nil {
		n := 0
		for n < len(e.raw) && e.err == nil {
			var k int
			k, e.err = e.read(e.raw[n:])
			n += k
		}
		base64.StdEncoding.Encode(e.out[:], e.raw[:n])
		e.text = e.out[:base64.StdEncoding.EncodedLen(n)]
	}
	if len(e.text) > 0 && (e.err == nil || e.err == io.EOF) {
		n := copy(p, e.text)
		e.text = e.text[n:]
		return n, nil
	}
	err := e.err
	e.text, e.err = nil, nil
	return 0, err
}
