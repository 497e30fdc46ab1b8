package models

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Report is what /v1/report answers about all items of a request.
type Report struct {
	Images      int      `json:"images"`
	Masks       int      `json:"masks"`
	Scores      int      `json:"scores"`
	Others      int      `json:"others"`       // of no kind that is known
	Pixels      int64    `json:"pixels"`       // of the images
	MaskPixels  int64    `json:"mask_pixels"`  // that are white
	MaskPercent float64  `json:"mask_percent"` // of the pixels of the masks
	MeanScore   *float64 `json:"mean_score"`   // null: no score
	Rows        []Row    `json:"rows"`         // one for each image, in their order
	Model       Model    `json:"model"`
}

// Row is one image of a Report. Masks and scores belong to the images in their order, if there are
// as many of them as of images.
type Row struct {
	Image   int         `json:"image"` // from 1
	Media   string      `json:"media"`
	Bytes   int         `json:"bytes"`
	SHA256  string      `json:"sha256"`
	Width   int         `json:"width"` // pixels; 0 where there is a problem
	Height  int         `json:"height"`
	Mean    float64     `json:"mean"` // luminance, as a share of the depth
	Mask    *Area       `json:"mask,omitempty"`
	Score   *float64    `json:"score,omitempty"`
	Problem gantry.Code `json:"problem,omitempty"` // why the image could not be decoded
}

// Area is the white part of a mask.
type Area struct {
	Pixels  int64   `json:"pixels"`
	Percent float64 `json:"percent"` // of its own pixels
	all     int64
}

// tally is a report being made.
type tally struct {
	Report
	masks  []Area
	scores []float64
}

// report looks at each item: an image is a DICOM file, a JPEG, or a PNG; a mask a PNG whose pixels
// are all black or white; a score JSON with a number of that name. The answer depends on the items
// and their order alone.
func (s *service) report(in request, out *bytes.Buffer) (string, error) {
	items, err := in.items(s.opt.MaxBody)
	if err != nil {
		return "", err
	}
	t := tally{Report: Report{Rows: []Row{}, Model: reporter()}}
	for _, b := range items {
		s.count(&t, b)
	}
	t.finish()
	return gantry.MediaJSON, json.NewEncoder(out).Encode(t.Report)
}

// count adds an item.
func (s *service) count(t *tally, b []byte) {
	media := kindOf(b)
	if media == "" {
		var answer struct {
			Score *float64 `json:"score"`
		}
		if json.Unmarshal(b, &answer) != nil || answer.Score == nil {
			t.Others++
			return
		}
		t.scores = append(t.scores, *answer.Score)
		return
	}
	digest := sha256.Sum256(b)
	row := Row{Image: len(t.Rows) + 1, Media: media, Bytes: len(b), SHA256: hex.EncodeToString(digest[:])}
	p, err := s.decode(b)
	if err != nil {
		row.Problem = gantry.CodeOf(err)
		t.Rows = append(t.Rows, row)
		return
	}
	defer s.scratch.Put(p.scratch)
	sum, white, binary := p.sums()
	if binary && media == gantry.MediaPNG {
		all := int64(len(p.grey))
		t.masks = append(t.masks, Area{Pixels: white, Percent: percent(white, all), all: all})
		return
	}
	row.Width, row.Height = p.width, p.height
	row.Mean = round(float64(sum) / (float64(p.top) * float64(len(p.grey))))
	t.Pixels += int64(len(p.grey))
	t.Rows = append(t.Rows, row)
}

// finish works out the totals and gives the images what belongs to them.
func (t *tally) finish() {
	t.Images, t.Masks, t.Scores = len(t.Rows), len(t.masks), len(t.scores)
	all := int64(0)
	for i, m := range t.masks {
		t.MaskPixels += m.Pixels
		all += m.all
		if t.Masks == t.Images {
			t.Rows[i].Mask = &t.masks[i]
		}
	}
	t.MaskPercent = percent(t.MaskPixels, all)
	sum := 0.0
	for i, x := range t.scores {
		sum += x
		if t.Scores == t.Images {
			t.Rows[i].Score = &t.scores[i]
		}
	}
	if t.Scores > 0 {
		mean := round(sum / float64(t.Scores))
		t.MeanScore = &mean
	}
}

// sums adds up the luminance, counts the brightest pixels, and tells whether the others are black.
func (p *picture) sums() (sum, white int64, binary bool) {
	binary = true
	for _, v := range p.grey {
		sum += int64(v)
		switch v {
		case p.top:
			white++
		case 0:
		default:
			binary = false
		}
	}
	return sum, white, binary
}

// percent is a share of all in percent, 0 of nothing.
func percent(n, all int64) float64 {
	if all == 0 {
		return 0
	}
	return round(100 * float64(n) / float64(all))
}
