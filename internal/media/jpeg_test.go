package media

import (
	"bytes"
	"image"
	"image/jpeg"
	"io"
	"testing"
	"testing/iotest"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// jpegs gives a grey and a colour JPEG as the standard library writes them.
func jpegs(t testing.TB) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	grey, colour := image.NewGray(image.Rect(0, 0, 40, 30)), image.NewRGBA(image.Rect(0, 0, 40, 30))
	for i := range grey.Pix {
		grey.Pix[i] = byte(i * 7)
	}
	for name, m := range map[string]image.Image{"grey": grey, "colour": colour} {
		var b bytes.Buffer
		if err := jpeg.Encode(&b, m, nil); err != nil {
			t.Fatal(err)
		}
		out[name] = b.Bytes()
	}
	return out
}

func TestVerifySoundJPEG(t *testing.T) {
	t.Parallel()
	for name, data := range jpegs(t) {
		data := join(data, []byte("behind"))
		for how, r := range map[string]io.Reader{
			"whole": bytes.NewReader(data), "by bytes": iotest.OneByteReader(bytes.NewReader(data)),
		} {
			got, err := io.ReadAll(Verify(gantry.MediaJPEG, r))
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s, %s: %d of %d bytes, %v", name, how, len(got), len(data), err)
			}
		}
		wantCode(t, CheckJPEG(data[:HeadSize]))
		wantCode(t, CheckJPEG(data[:3]), gantry.CodeTruncated)
	}
}

func TestVerifyCutJPEG(t *testing.T) {
	t.Parallel()
	for name, data := range jpegs(t) {
		for n := range data {
			if err := verifyAs(gantry.MediaJPEG, data[:n]); gantry.CodeOf(err) != gantry.CodeTruncated {
				t.Fatalf("%s cut to %d of %d bytes: got %v", name, n, len(data), err)
			}
		}
	}
}

func TestVerifyBrokenJPEG(t *testing.T) {
	t.Parallel()
	const (
		soi = "\xff\xd8"
		sof = "\xff\xc0\x00\x0b\x08\x00\x04\x00\x04\x01\x01\x11\x00"
		sos = "\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00data\xff\x00\xff\xd0more"
		eoi = "\xff\xd9"
	)
	for name, c := range map[string]struct {
		data string
		want gantry.Code
	}{
		"sound":               {soi + sof + sos + eoi, ""},
		"fill bytes":          {soi + "\xff\xff" + sof + sos + "\xff\xff" + eoi, ""},
		"two scans":           {soi + sof + sos + sos + eoi, ""},
		"comment":             {soi + "\xff\xfe\x00\x02" + sof + sos + eoi, ""},
		"no start":            {"xx" + sof + sos + eoi, gantry.CodeMalformed},
		"no frame":            {soi + sos + eoi, gantry.CodeMalformed},
		"no scan":             {soi + sof + eoi, gantry.CodeMalformed},
		"two frames":          {soi + sof + sof + sos + eoi, gantry.CodeMalformed},
		"stray byte":          {soi + sof + "x" + sos + eoi, gantry.CodeMalformed},
		"restart outside":     {soi + "\xff\xd0" + sof + sos + eoi, gantry.CodeMalformed},
		"reserved marker":     {soi + "\xff\x02\x00\x02" + sof + sos + eoi, gantry.CodeMalformed},
		"start in the middle": {soi + soi + sof + sos + eoi, gantry.CodeMalformed},
		"hierarchical":        {soi + "\xff\xde\x00\x02" + sof + sos + eoi, gantry.CodeUnsupportedFormat},
		"JPEG-LS":             {soi + "\xff\xf7" + sof[2:] + sos + eoi, gantry.CodeUnsupportedFormat},
		"segment of one byte": {soi + "\xff\xe0\x00\x01" + sof + sos + eoi, CodeLengthOutOfBounds},
		"no height":           {soi + "\xff\xc0\x00\x0b\x08\x00\x00\x00\x04\x01\x01\x11\x00" + sos + eoi, CodeBadValue},
		"no width":            {soi + "\xff\xc0\x00\x0b\x08\x00\x04\x00\x00\x01\x01\x11\x00" + sos + eoi, CodeBadValue},
		"nine bits":           {soi + "\xff\xc0\x00\x0b\x09\x00\x04\x00\x04\x01\x01\x11\x00" + sos + eoi, gantry.CodeMalformed},
		"sampling of nothing": {soi + "\xff\xc0\x00\x0b\x08\x00\x04\x00\x04\x01\x01\x01\x00" + sos + eoi, gantry.CodeMalformed},
		"frame too short":     {soi + "\xff\xc0\x00\x0a\x08\x00\x04\x00\x04\x01\x01\x11" + sos + eoi, gantry.CodeMalformed},
		"component unknown":   {soi + sof + "\xff\xda\x00\x08\x01\x02\x00\x00\x3f\x00" + eoi, gantry.CodeMalformed},
		"scan of nothing":     {soi + sof + "\xff\xda\x00\x06\x00\x00\x3f\x00" + eoi, gantry.CodeMalformed},
		"restart interval":    {soi + "\xff\xdd\x00\x03\x00" + sof + sos + eoi, gantry.CodeMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantCode(t, verifyAs(gantry.MediaJPEG, []byte(c.data)), c.want)
		})
	}
}

// What passes is unchanged, and is cut at the same byte however it arrives.
func FuzzVerifyJPEG(f *testing.F) {
	for _, data := range jpegs(f) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := io.ReadAll(Verify(gantry.MediaJPEG, iotest.HalfReader(bytes.NewReader(data))))
		if err != nil && (gantry.KindOf(err) != gantry.Illegal || gantry.CodeOf(err) == "") {
			t.Fatalf("no verdict: %v", err)
		}
		if err == nil && !bytes.Equal(got, data) {
			t.Fatal("other bytes come out than went in")
		}
		if _, whole := newJPEG().feed(data); (whole == nil) != (err == nil || gantry.CodeOf(err) == gantry.CodeTruncated) {
			t.Fatalf("whole: %v, in pieces: %v", whole, err)
		}
	})
}
