package models

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Assessment is what /v1/quality answers about several images.
type Assessment struct {
	Score  float64           `json:"score"`  // the mean
	Images []json.RawMessage `json:"images"` // a Quality for each, in their order
}

// image makes a runner of a function of one image. A request of one item is answered as that; one of
// several with a multipart/mixed of as many parts (RFC 2046 section 5.1.3), or with an Assessment
// where the answers are data. If an item is refused, so is the request.
func (s *service) image(run func(body []byte, out *bytes.Buffer) (media string, err error)) runner {
	return func(in request, out *bytes.Buffer) (string, error) {
		items, err := in.items(s.opt.MaxBody)
		switch {
		case err != nil:
			return "", err
		case len(items) == 0:
			return "", gantry.Errorf(gantry.Illegal, gantry.CodeEmpty, "a request without items")
		case len(items) == 1:
			return run(items[0], out)
		}
		var answers [][]byte
		var media string
		for left := s.opt.MaxBody; len(answers) < len(items); {
			var b bytes.Buffer
			if media, err = run(items[len(answers)], &b); err != nil {
				return "", err
			}
			if left -= int64(b.Len()); left < 0 {
				return "", gantry.Errorf(gantry.Illegal, gantry.CodeTooLarge, "the answer is over the limit")
			}
			answers = append(answers, b.Bytes())
		}
		if media == gantry.MediaJSON {
			return media, assessed(answers, out)
		}
		return mixed(media, answers, out), nil
	}
}

// assessed writes several answers of data as one.
func assessed(answers [][]byte, out *bytes.Buffer) error {
	a := Assessment{}
	for _, b := range answers {
		var q Quality
		if err := json.Unmarshal(b, &q); err != nil {
			return err
		}
		a.Score += q.Score
		a.Images = append(a.Images, b)
	}
	a.Score = round(a.Score / float64(len(answers)))
	return json.NewEncoder(out).Encode(a)
}

// part is one of several answers.
type part struct {
	media string
	body  []byte
}

// mixed writes several answers of one media type as a multipart.
func mixed(media string, answers [][]byte, out *bytes.Buffer) string {
	parts := make([]part, len(answers))
	for i, b := range answers {
		parts[i] = part{media, b}
	}
	return mixedOf(parts, out)
}

// mixedOf writes several answers as a multipart and gives its media type. The boundary follows from
// the answers, so that the same request gets the same bytes.
func mixedOf(parts []part, out *bytes.Buffer) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write(p.body)
	}
	boundary := "gantry-" + hex.EncodeToString(h.Sum(nil)[:16])
	for _, p := range parts {
		fmt.Fprintf(out, "--%s\r\nContent-Type: %s\r\n\r\n", boundary, p.media)
		out.Write(p.body)
		out.WriteString("\r\n")
	}
	fmt.Fprintf(out, "--%s--\r\n", boundary)
	return "multipart/mixed; boundary=" + boundary
}
