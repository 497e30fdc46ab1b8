package models

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// maxItems is how many items one request may hold.
const maxItems = 1 << 16

// request is a call's body and what its Content-Type says.
type request struct {
	media string
	body  []byte
}

// form is the media type of a body, without its parameters; empty if there is none.
func (r request) form() string {
	media, _, err := mime.ParseMediaType(r.media)
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		return ""
	}
	return media
}

// items takes a request apart: the files of a ZIP archive or of multipart/form-data, or those of
// JSON {"inputs": [{"media", "data"}]}, data in base64, which may also be called items; all in their
// order. Any other body is one item. Names and media types are not looked at: what an item is its
// bytes say. most bounds the bytes of all items. Refusals are Illegal: empty, malformed, too_large,
// too_many_entries.
func (r request) items(most int64) ([][]byte, error) {
	form := r.form()
	switch {
	case len(r.body) == 0:
		return nil, gantry.Errorf(gantry.Illegal, gantry.CodeEmpty, "an empty body")
	case strings.HasPrefix(form, "multipart/"):
		return r.parts(form)
	case bytes.HasPrefix(r.body, []byte("PK\x03\x04")), bytes.HasPrefix(r.body, []byte("PK\x05\x06")):
		return r.entries(most)
	case form == gantry.MediaJSON:
		return r.listed()
	}
	return [][]byte{r.body}, nil
}

// codeTooMany is the reason of a request with over maxItems items.
const codeTooMany gantry.Code = "too_many_entries"

func tooMany() error {
	return gantry.Errorf(gantry.Illegal, codeTooMany, "over %d items", maxItems)
}

// entries reads the files of a ZIP archive.
func (r request) entries(most int64) ([][]byte, error) {
	z, err := zip.NewReader(bytes.NewReader(r.body), int64(len(r.body)))
	if err != nil {
		return nil, gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "zip: cannot be read")
	}
	if len(z.File) > maxItems {
		return nil, tooMany()
	}
	var out [][]byte
	for _, f := range z.File {
		if f.FileInfo().IsDir() {
			continue
		}
		b, err := entry(f, most)
		if err != nil {
			return nil, err
		}
		most -= int64(len(b))
		out = append(out, b)
	}
	return out, nil
}

// entry reads one file of up to most bytes, whatever its header says.
func entry(f *zip.File, most int64) ([]byte, error) {
	in, err := f.Open()
	if err != nil {
		return nil, gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "zip: an entry cannot be opened")
	}
	defer in.Close()
	var b bytes.Buffer
	n, err := b.ReadFrom(io.LimitReader(in, most+1))
	switch {
	case n > most:
		return nil, gantry.Errorf(gantry.Illegal, gantry.CodeTooLarge, "zip: its entries are over the limit")
	case err != nil:
		return nil, gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "zip: an entry cannot be read")
	}
	return b.Bytes(), nil
}

// parts reads the files of a multipart body. Fields of a form that are no files are passed over.
func (r request) parts(form string) ([][]byte, error) {
	_, params, err := mime.ParseMediaType(r.media)
	if err != nil || params["boundary"] == "" {
		return nil, gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "multipart: no boundary")
	}
	m := multipart.NewReader(bytes.NewReader(r.body), params["boundary"])
	var out [][]byte
	for {
		p, err := m.NextRawPart()
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "multipart: cannot be read")
		}
		b, err := io.ReadAll(p)
		if err != nil {
			return nil, gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "multipart: a part breaks off")
		}
		if p.FileName() == "" && form == "multipart/form-data" {
			continue
		}
		if len(out) == maxItems {
			return nil, tooMany()
		}
		out = append(out, b)
	}
}

// listed reads the items of a JSON body; one without items is an item itself.
func (r request) listed() ([][]byte, error) {
	type listing []struct {
		Data []byte `json:"data"`
	}
	var body struct {
		Inputs listing `json:"inputs"`
		Items  listing `json:"items"`
	}
	if !json.Valid(r.body) {
		return nil, gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "json: cannot be read")
	}
	err := json.Unmarshal(r.body, &body)
	list := append(body.Inputs, body.Items...)
	switch {
	case len(list) > maxItems:
		return nil, tooMany()
	case body.Inputs == nil && body.Items == nil:
		return [][]byte{r.body}, nil
	case err != nil:
		return nil, gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "json: items that are none, or not in base64")
	}
	out := make([][]byte, len(list))
	for i, x := range list {
		out[i] = x.Data
	}
	return out, nil
}
