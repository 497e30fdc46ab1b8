package http

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Codes of JSON answers that hold media. All are BadResponse.
const (
	CodeBadOutputs gantry.Code = "bad_outputs" // no outputs, or not each with a media type and data
	CodeBadBase64  gantry.Code = "bad_base64"  // RFC 4648 section 4
)

const (
	maxRest    = 4 << 20 // bytes of an answer that are not data; they are kept in memory
	maxMember  = 256     // bytes of a key, or of a media type, as they stand there
	keyOutputs = "outputs"
	keyMedia   = "media"
	keyData    = "data"
)

// receiver gives one output of an answer to its request.
func receiver(ctx context.Context, req *gantry.Request) func(media string, size int64, r io.Reader, ended func() error) error {
	return func(media string, size int64, r io.Reader, ended func() error) error {
		return receive(ctx, req, media, size, r, ended)
	}
}

// outputs is a JSON answer (RFC 8259) whose key outputs holds a list of objects, each with its media
// type and its data in base64. Data are decoded as they pass. What else the document says is one
// more output, of JSON, after the others; if it says nothing else there is none.
type outputs struct {
	r       *bufio.Reader
	receive func(media string, size int64, r io.Reader, ended func() error) error

	count int
	rest  []byte // the document without data
	more  bool   // rest says something
}

// hand gives each output to receive and reads the answer to its end.
func (o *outputs) hand() error {
	found := false
	err := o.object(func(key string) (bool, error) {
		if key != keyOutputs {
			o.more = true
			return true, o.value()
		}
		if found {
			return false, badOutputs("outputs is there twice")
		}
		found = true
		return true, o.list()
	})
	if err != nil {
		return err
	}
	if _, err := o.skip(); err != io.EOF {
		return badJSON(err)
	}
	if !found {
		return badOutputs("no outputs")
	}
	if !o.more {
		return nil
	}
	body := &partBody{r: bytes.NewReader(o.rest)}
	return o.receive(gantry.MediaJSON, int64(len(o.rest)), body, body.ended)
}

// list reads the outputs.
func (o *outputs) list() error {
	if err := o.want('['); err != nil {
		return err
	}
	for first := true; ; first = false {
		c, err := o.skip()
		if err != nil {
			return badJSON(err)
		}
		if first && c != ']' {
			o.r.UnreadByte()
		} else if c != ',' || first {
			return o.put(c, ']')
		} else if err := o.put(c, ','); err != nil {
			return err
		}
		if o.count++; o.count > maxOutputs {
			return gantry.Errorf(gantry.BadResponse, CodeTooManyOutputs, "read answer: over %d outputs", maxOutputs)
		}
		if err := o.output(); err != nil {
			return err
		}
	}
}

// output reads one output. Its data may stand before its media type: then their first bytes tell it.
func (o *outputs) output() error {
	media, is := "", "" // as told, and as the data were handed on
	err := o.object(func(key string) (bool, error) {
		switch {
		case key == keyMedia && media == "":
			var err error
			if media, err = o.text(); err == nil && !isOutput(media) {
				err = notTaken(media, "outputs of "+singleAccept)
			}
			return true, err
		case key == keyData && is == "":
			var err error
			is, err = o.data(media)
			return false, err
		case key == keyMedia || key == keyData:
			return false, badOutputs("an output says media or data twice")
		}
		o.more = true
		return true, o.value()
	})
	switch {
	case err != nil:
		return err
	case is == "":
		return badOutputs("an output has no data")
	case media != "" && media != is:
		return badOutputs("an output is not of the type that it says")
	}
	return nil
}

// data decodes a text in base64 and hands it on. Its type is media or, if that is not known, what
// its first bytes are.
func (o *outputs) data(media string) (string, error) {
	if c, err := o.skip(); err != nil || c != '"' {
		return "", badJSON(err)
	}
	var d io.Reader = &base64Text{r: o.r}
	if media == "" {
		peeked := bufio.NewReaderSize(d, 2*sniffed)
		head, err := peeked.Peek(sniffed)
		if err != nil && err != io.EOF {
			return "", err
		}
		if media, d = sniff(head), peeked; media == "" {
			return "", badOutputs("the data of an output stand before its media type and do not tell it")
		}
	}
	body := &partBody{r: d}
	return media, o.receive(media, -1, body, body.ended)
}

// sniffed is how many bytes tell a type: the preamble of DICOM and its mark (PS3.10 section 7.1).
const sniffed = 132

// sniff tells the type of data by their first bytes; "" if they are none that it knows.
func sniff(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte("\x89PNG\r\n\x1a\n")):
		return gantry.MediaPNG
	case bytes.HasPrefix(head, []byte("\xff\xd8\xff")):
		return gantry.MediaJPEG
	case bytes.HasPrefix(head, []byte("\x93NUMPY")):
		return gantry.MediaNPY
	case len(head) >= sniffed && string(head[128:sniffed]) == "DICM":
		return gantry.MediaDICOM
	}
	return ""
}

// object reads an object. member reads the value behind a key and tells whether the two stay in
// rest.
func (o *outputs) object(member func(key string) (bool, error)) error {
	if err := o.want('{'); err != nil {
		return err
	}
	kept := false
	for first := true; ; first = false {
		c, err := o.skip()
		switch {
		case err != nil:
			return badJSON(err)
		case c == '}' && first:
			return o.put(c, '}')
		case first:
			o.r.UnreadByte()
		case c == '}':
			return o.put(c, '}')
		case c != ',':
			return badJSON(nil)
		}
		begin := len(o.rest)
		if kept {
			o.rest = append(o.rest, ',')
		}
		key, err := o.text()
		if err == nil {
			err = o.want(':')
		}
		keep := false
		if err == nil {
			keep, err = member(key)
		}
		if err != nil {
			return err
		}
		if keep {
			kept = true
		} else {
			o.rest = o.rest[:begin]
		}
	}
}

// text reads a string into rest and gives what it says. One that is longer than any that counts
// says "".
func (o *outputs) text() (string, error) {
	c, err := o.skip()
	if err != nil || c != '"' {
		return "", badJSON(err)
	}
	o.r.UnreadByte()
	begin := len(o.rest)
	if err := o.value(); err != nil {
		return "", err
	}
	var s string
	if raw := o.rest[begin:]; len(raw) <= maxMember && json.Unmarshal(raw, &s) != nil {
		return "", badJSON(nil)
	}
	return s, nil
}

// value reads any value into rest.
func (o *outputs) value() error {
	c, err := o.skip()
	if err != nil {
		return badJSON(err)
	}
	var t jsonText
	for ; err == nil; c, err = o.r.ReadByte() {
		if t.complete() && (c == ',' || c == ']' || c == '}' || c <= ' ') {
			return o.r.UnreadByte()
		}
		if !t.write([]byte{c}) && t.depth > maxJSONDepth {
			return gantry.Errorf(gantry.BadResponse, CodeJSONTooDeep, "read answer: JSON nested deeper than %d", maxJSONDepth)
		}
		if t.state == jsonWrong {
			return badJSON(nil)
		}
		if err := o.put(c, c); err != nil {
			return err
		}
		if t.state == jsonAfter && t.depth == 0 {
			return nil
		}
	}
	return badJSON(err)
}

// want reads a byte that must come next.
func (o *outputs) want(c byte) error {
	got, err := o.skip()
	if err != nil {
		return badJSON(err)
	}
	return o.put(got, c)
}

// put appends a byte to rest. It must be c.
func (o *outputs) put(got, c byte) error {
	if got != c {
		return badJSON(nil)
	}
	if len(o.rest) == maxRest {
		return gantry.Errorf(gantry.BadResponse, CodeJSONTooLarge, "read answer: JSON over %d bytes beside its data", maxRest)
	}
	o.rest = append(o.rest, c)
	return nil
}

// skip reads the next byte that is no white space.
func (o *outputs) skip() (byte, error) {
	for {
		c, err := o.r.ReadByte()
		if err != nil || c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			return c, err
		}
	}
}

// badJSON is what is wrong with a text that broke off with err, or is wrong where it is.
func badJSON(err error) error {
	if err != nil && err != io.EOF {
		return err
	}
	return gantry.Errorf(gantry.BadResponse, CodeBadJSON, "read answer: it is no JSON")
}

func badOutputs(why string) error {
	return gantry.Errorf(gantry.BadResponse, CodeBadOutputs, "read answer: %s", why)
}
