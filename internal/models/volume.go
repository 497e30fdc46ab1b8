package models

import (
	"bytes"
	"encoding/json"
	"image"
	"image/color"
	"image/png"
	"math"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// maxSlice is the largest slice of a volume, in pixels.
const maxSlice = 16 << 20

// Volume is what /v1/volume answers about the slices of a series.
type Volume struct {
	Slices    int       `json:"slices"`   // that could be read
	Others    int       `json:"others"`   // items that are no DICOM file
	Problems  []Refused `json:"problems"` // DICOM files that could not be read
	Series    int       `json:"series"`   // how many series the slices are of; 1 is sound
	Rows      int       `json:"rows"`     // of the first slice
	Columns   int       `json:"columns"`
	OtherSize int       `json:"other_size"` // slices of another size than the first's; they are not in the projection
	Geometry  Geometry  `json:"geometry"`
	Intensity Intensity `json:"intensity"`
	Model     Model     `json:"model"`
}

// Refused is a file that is no slice.
type Refused struct {
	Item int         `json:"item"` // from 1
	Code gantry.Code `json:"code"`
}

// Intensity is the distribution of the rescaled values of all slices, Hounsfield units for CT (PS3.3 section
// C.11.1.1.2). Percentiles are by nearest rank, exact for whole numbers over up to 65,536 values and to a
// 65,535th of the range for others.
type Intensity struct {
	Min         float64            `json:"min"`
	Max         float64            `json:"max"`
	Mean        float64            `json:"mean"`
	Deviation   float64            `json:"deviation"` // the standard deviation
	Percentiles map[string]float64 `json:"percentiles"`
	Histogram   []int64            `json:"histogram"` // counts in 32 steps of one width from min to max
}

const (
	fineBins   = 1 << 16
	coarseBins = 32
)

// survey is a Volume being made.
type survey struct {
	Volume
	series map[string]bool
	poses  []pose

	n          int64 // pixels
	sum        float64
	low, high  float64
	whole      bool      // every value is a whole number
	projection []float64 // the largest value at each place
}

// volume looks at all DICOM files of a request as the slices of one series: where they lie, whether any is missing, and
// how their values are distributed. Beside that it answers with a picture, the maximum intensity projection along the
// slices. The answer depends on the items and their order alone.
func (s *service) volume(in request, out *bytes.Buffer) (string, error) {
	items, err := in.items(s.opt.MaxBody)
	if err != nil {
		return "", err
	}
	v := &survey{series: map[string]bool{}, low: math.Inf(1), high: math.Inf(-1), whole: true}
	v.Problems, v.Model = []Refused{}, surveyor()
	var slices [][]byte
	for i, b := range items {
		if kindOf(b) != gantry.MediaDICOM {
			v.Others++
			continue
		}
		if err := v.look(b, min(s.maxPixels, maxSlice)); err != nil {
			if gantry.KindOf(err) != gantry.Illegal {
				return "", err
			}
			v.Problems = append(v.Problems, Refused{i + 1, gantry.CodeOf(err)})
			continue
		}
		slices = append(slices, b)
	}
	if len(slices) == 0 {
		return "", gantry.Errorf(gantry.Illegal, gantry.CodeEmpty, "a request without a slice that can be read")
	}
	v.Slices, v.Series, v.Geometry = len(slices), len(v.series), geometryOf(v.poses)
	if err := v.distribute(slices); err != nil {
		return "", err
	}
	var data, picture bytes.Buffer
	if err := json.NewEncoder(&data).Encode(v.Volume); err != nil {
		return "", err
	}
	if err := png.Encode(&picture, v.picture()); err != nil {
		return "", err
	}
	return mixedOf([]part{{gantry.MediaJSON, data.Bytes()}, {gantry.MediaPNG, picture.Bytes()}}, out), nil
}

// look reads one slice.
func (v *survey) look(b []byte, maxPixels int) error {
	in, err := dicom.Scan(bytes.NewReader(b), int64(len(b)), dicom.DefaultLimits())
	if err != nil {
		return err
	}
	if in.Rows > 0 && in.Columns > maxPixels/in.Rows {
		return gantry.Errorf(gantry.Illegal, gantry.CodeTooLarge, "dicom: over %d pixels", maxPixels)
	}
	px, err := dicom.Frame(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return err
	}
	tags, err := dicom.Tags(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return err
	}
	table, err := valuesOf(px)
	if err != nil {
		return err
	}
	if v.projection == nil {
		v.Rows, v.Columns = px.Rows, px.Columns
		v.projection = make([]float64, len(px.Samples))
		for i := range v.projection {
			v.projection[i] = math.Inf(-1)
		}
	}
	same := px.Rows == v.Rows && px.Columns == v.Columns
	for i, x := range px.Samples {
		value := table[x]
		v.sum += value
		v.low, v.high = min(v.low, value), max(v.high, value)
		v.whole = v.whole && value == math.Trunc(value)
		if same && value > v.projection[i] {
			v.projection[i] = value
		}
	}
	if !same {
		v.OtherSize++
	}
	v.n += int64(len(px.Samples))
	v.series[tags["SeriesInstanceUID"]] = true
	v.poses = append(v.poses, poseOf(tags))
	return nil
}

// valuesOf has the rescaled value of every sample that BitsStored bits can be. Slopes beyond all bounds are refused.
func valuesOf(px *dicom.Pixels) ([]float64, error) {
	all := *px
	all.Samples = make([]uint16, 1<<px.BitsStored)
	table := make([]float64, len(all.Samples))
	for i := range all.Samples {
		all.Samples[i] = uint16(i)
		if table[i] = all.Value(i); !(math.Abs(table[i]) < 1e12) {
			return nil, gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "dicom: its values are beyond all bounds")
		}
	}
	return table, nil
}

// distribute counts the values of slices that were looked at.
func (v *survey) distribute(slices [][]byte) error {
	width := 1.0
	if !v.whole || v.high-v.low > fineBins-1 {
		width = (v.high - v.low) / (fineBins - 1)
	}
	fine, mean, squares := make([]int64, fineBins), v.sum/float64(v.n), 0.0
	for _, b := range slices {
		px, err := dicom.Frame(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return err
		}
		table, err := valuesOf(px)
		if err != nil {
			return err
		}
		for _, x := range px.Samples {
			value := table[x]
			squares += (value - mean) * (value - mean)
			bin := 0
			if width > 0 {
				bin = int(math.Round((value - v.low) / width))
			}
			fine[min(bin, fineBins-1)]++
		}
	}
	v.Intensity = Intensity{Min: round(v.low), Max: round(v.high), Mean: round(mean), Deviation: round(math.Sqrt(squares / float64(v.n))),
		Percentiles: map[string]float64{}, Histogram: make([]int64, coarseBins)}
	for name, p := range map[string]float64{"1": 0.01, "5": 0.05, "25": 0.25, "50": 0.5, "75": 0.75, "95": 0.95, "99": 0.99} {
		v.Intensity.Percentiles[name] = round(v.low + width*float64(rank(fine, int64(math.Ceil(p*float64(v.n))))))
	}
	for bin, n := range fine {
		step := 0
		if v.high > v.low {
			step = int(float64(bin) * width / (v.high - v.low) * coarseBins)
		}
		v.Intensity.Histogram[min(step, coarseBins-1)] += n
	}
	return nil
}

// rank is the bin that the nth value from below lies in, n from 1.
func rank(bins []int64, n int64) int {
	for i, c := range bins {
		if n -= c; n <= 0 {
			return i
		}
	}
	return len(bins) - 1
}

// picture is the projection, from black for its smallest value to white for its largest.
func (v *survey) picture() image.Image {
	low, high := math.Inf(1), math.Inf(-1)
	for _, x := range v.projection {
		low, high = min(low, x), max(high, x)
	}
	m := image.NewGray16(image.Rect(0, 0, v.Columns, v.Rows))
	for i, x := range v.projection {
		if high > low {
			m.SetGray16(i%v.Columns, i/v.Columns, color.Gray16{Y: uint16(math.Round((x - low) / (high - low) * 0xffff))})
		}
	}
	return m
}
