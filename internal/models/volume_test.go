package models

import (
	"bytes"
	"encoding/json"
	"image"
	"io"
	"math"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/sample"
)

// series is a CT of a head.
func series(t testing.TB, n, size int) [][]byte {
	t.Helper()
	files, err := sample.CT(n, size)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// surveyed sends files as one request over HTTP.
func surveyed(t testing.TB, files ...[]byte) (v Volume, projection image.Image, status int) {
	t.Helper()
	var body bytes.Buffer
	m := multipart.NewWriter(&body)
	for _, f := range files {
		w, err := m.CreateFormFile("file", "x")
		if err != nil {
			t.Fatal(err)
		}
		w.Write(f)
	}
	m.Close()
	r := httptest.NewRequest(http.MethodPost, "/v1/volume", &body)
	r.Header.Set("Content-Type", m.FormDataContentType())
	got := httptest.NewRecorder()
	h := Handler(Options{})
	defer h.(io.Closer).Close()
	h.ServeHTTP(got, r)
	if got.Code != http.StatusOK {
		return v, nil, got.Code
	}
	_, params, err := mime.ParseMediaType(got.Header().Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	parts := multipart.NewReader(got.Body, params["boundary"])
	for _, media := range []string{gantry.MediaJSON, gantry.MediaPNG} {
		p, err := parts.NextPart()
		if err != nil || p.Header.Get("Content-Type") != media {
			t.Fatalf("a part of %v, %v", p, err)
		}
		b, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		if media == gantry.MediaPNG {
			projection = decoded(t, b)
			continue
		}
		d := json.NewDecoder(bytes.NewReader(b))
		d.DisallowUnknownFields()
		if err := d.Decode(&v); err != nil {
			t.Fatal(err)
		}
	}
	return v, projection, got.Code
}

// TestVolume surveys a whole series in any order: where its slices lie, how the values are distributed, and the projection, each
// as it is worked out here from the pixels.
func TestVolume(t *testing.T) {
	t.Parallel()
	files := series(t, 12, 64)
	random(3).Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
	v, projection, _ := surveyed(t, files...)
	want := Geometry{Located: 12, PixelSpacing: v.Geometry.PixelSpacing, Thickness: 5, Spacing: 5, Extent: 55, Gaps: []Gap{}, Regular: true}
	if diff := cmp.Diff(want, v.Geometry); diff != "" || v.Slices != 12 || v.Series != 1 || v.Rows != 64 || v.Columns != 64 || v.Geometry.PixelSpacing[0] <= 0 {
		t.Errorf("%+v (-want +got):\n%s", v, diff)
	}
	var all []float64
	highest := make([]float64, 64*64)
	for i := range highest {
		highest[i] = math.Inf(-1)
	}
	for _, f := range files {
		px, err := dicom.Frame(bytes.NewReader(f), int64(len(f)))
		if err != nil {
			t.Fatal(err)
		}
		for i := range px.Samples {
			all = append(all, px.Value(i))
			highest[i] = max(highest[i], px.Value(i))
		}
	}
	slices.Sort(all)
	mean, squares := 0.0, 0.0
	for _, x := range all {
		mean += x / float64(len(all))
	}
	for _, x := range all {
		squares += (x - mean) * (x - mean)
	}
	in := v.Intensity
	if in.Min != all[0] || in.Max != all[len(all)-1] || math.Abs(in.Mean-mean) > 1e-3 || math.Abs(in.Deviation-math.Sqrt(squares/float64(len(all)))) > 1e-3 {
		t.Errorf("%+v, mean %f", in, mean)
	}
	for name, p := range map[string]float64{"1": 0.01, "50": 0.5, "99": 0.99} {
		if want := all[int(math.Ceil(p*float64(len(all))))-1]; in.Percentiles[name] != want {
			t.Errorf("percentile %s is %f, want %f", name, in.Percentiles[name], want)
		}
	}
	counts := make([]int64, coarseBins)
	for _, x := range all {
		counts[min(int((x-all[0])/(all[len(all)-1]-all[0])*coarseBins), coarseBins-1)]++
	}
	if diff := cmp.Diff(counts, in.Histogram); diff != "" {
		t.Errorf("histogram (-want +got):\n%s", diff)
	}
	low, high := slices.Min(highest), slices.Max(highest)
	m := projection.(*image.Gray16)
	for i, x := range highest {
		if want := uint16(math.Round((x - low) / (high - low) * 0xffff)); m.Gray16At(i%64, i/64).Y != want {
			t.Fatalf("pixel %d of the projection is %d, want %d", i, m.Gray16At(i%64, i/64).Y, want)
		}
	}
	slices.Reverse(files)
	again, _, _ := surveyed(t, files...)
	if diff := cmp.Diff(v, again); diff != "" {
		t.Errorf("in another order (-first +second):\n%s", diff)
	}
}

// TestGeometry says what is wrong with a series.
func TestGeometry(t *testing.T) {
	t.Parallel()
	files := series(t, 10, 16)
	// replaced changes a text in the header, keeping its length.
	replaced := func(b []byte, was, is string) []byte {
		if !bytes.Contains(b, []byte(was)) || len(was) != len(is) {
			t.Fatalf("no %q to replace by %q", was, is)
		}
		return bytes.ReplaceAll(b, []byte(was), []byte(is))
	}
	turned := replaced(files[9], `1\0\0\0\1\0`, `0\1\0\1\0\0`)
	lost := replaced(files[9], `1\0\0\0\1\0`, `1\0\0\1\0\0`) // two directions that are one
	for name, c := range map[string]struct {
		files [][]byte
		want  Geometry
	}{
		"one is missing":   {slices.Concat(files[:4], files[5:]), Geometry{Located: 9, Spacing: 5, Extent: 45, Gaps: []Gap{{4, 1}}}},
		"three are":        {slices.Concat(files[:2], files[5:]), Geometry{Located: 7, Spacing: 5, Extent: 45, Gaps: []Gap{{2, 3}}}},
		"one came twice":   {append(slices.Clone(files), files[3]), Geometry{Located: 11, Spacing: 5, Extent: 45, Gaps: []Gap{}, Repeated: 1}},
		"one is turned":    {append(slices.Clone(files[:9]), turned), Geometry{Located: 10, Spacing: 5, Extent: 40, Gaps: []Gap{}, Turned: 1}},
		"one lies nowhere": {append(slices.Clone(files[:9]), lost), Geometry{Located: 9, Spacing: 5, Extent: 40, Gaps: []Gap{}}},
		"one alone":        {files[:1], Geometry{Located: 1, Gaps: []Gap{}, Regular: true}},
	} {
		v, _, _ := surveyed(t, c.files...)
		c.want.PixelSpacing, c.want.Thickness = v.Geometry.PixelSpacing, 5
		if diff := cmp.Diff(c.want, v.Geometry); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestVolumeOfOddFiles counts what is no slice, and refuses a request without one.
func TestVolumeOfOddFiles(t *testing.T) {
	t.Parallel()
	files := series(t, 3, 16)
	broken := files[2][:len(files[2])-40]
	picture := encoded(t, image.NewGray(image.Rect(0, 0, 3, 3)))
	v, _, _ := surveyed(t, picture, files[0], broken, files[1], series(t, 4, 8)[0])
	if v.Slices != 3 || v.Others != 1 || v.OtherSize != 1 || v.Series != 2 || len(v.Problems) != 1 || v.Problems[0].Item != 3 || v.Problems[0].Code == "" || v.Rows != 16 {
		t.Errorf("%+v", v)
	}
	for _, none := range [][][]byte{{picture}, {broken}, {[]byte("x")}} {
		if _, _, status := surveyed(t, none...); status != http.StatusUnprocessableEntity {
			t.Errorf("answered with %d", status)
		}
	}
	flat := written(t, func(m *dicom.Image) { m.Samples = make([]uint16, len(m.Samples)) })
	if v, _, _ := surveyed(t, flat); v.Intensity.Min != -1024 || v.Intensity.Percentiles["99"] != -1024 || v.Intensity.Histogram[0] != 6 {
		t.Errorf("flat: %+v", v)
	}
	scaled := written(t, func(m *dicom.Image) { m.RescaleSlope, m.RescaleIntercept = 0.25, 0.1 })
	if v, _, _ := surveyed(t, scaled); v.Intensity.Min != 0.1 || v.Intensity.Max != 1023.85 || math.Abs(v.Intensity.Percentiles["50"]-256.1) > 0.02 {
		t.Errorf("scaled: %+v", v.Intensity)
	}
	wild := written(t, func(m *dicom.Image) { m.RescaleSlope = 1e300 })
	if _, _, status := surveyed(t, wild); status != http.StatusUnprocessableEntity {
		t.Errorf("values beyond all bounds: %d", status)
	}
}

// FuzzVolume sends any bytes twice beside a sound slice: they are a slice, something else or a problem, and the numbers are sound.
func FuzzVolume(f *testing.F) {
	sound := written(f, func(*dicom.Image) {})
	for _, b := range series(f, 2, 8) {
		f.Add(b)
	}
	f.Add(sound)
	f.Add([]byte("x"))
	s := newService(Options{})
	s.maxPixels = 1 << 16
	f.Fuzz(func(t *testing.T, body []byte) {
		z := &bytes.Buffer{}
		m := multipart.NewWriter(z)
		for _, b := range [][]byte{sound, body, body} {
			w, _ := m.CreateFormFile("f", "x")
			w.Write(b)
		}
		m.Close()
		var out bytes.Buffer
		media, err := s.volume(request{m.FormDataContentType(), z.Bytes()}, &out)
		if err != nil {
			t.Fatal(err)
		}
		_, params, _ := mime.ParseMediaType(media)
		p, err := multipart.NewReader(&out, params["boundary"]).NextPart()
		if err != nil {
			t.Fatal(err)
		}
		var v Volume
		if err := json.NewDecoder(p).Decode(&v); err != nil {
			t.Fatal(err)
		}
		if v.Slices+v.Others+len(v.Problems) != 3 || v.Slices < 1 || v.Intensity.Min > v.Intensity.Max || v.Geometry.Located > v.Slices {
			t.Fatalf("%+v", v)
		}
	})
}
