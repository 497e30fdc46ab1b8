package media

import (
	"bytes"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func box(name string, body string) string {
	return string(be.AppendUint32(nil, uint32(8+len(body)))) + name + body
}

func TestCheckVideo(t *testing.T) {
	t.Parallel()
	ftyp, moov := box("ftyp", "isom\x00\x00\x00\x00"), box("moov", "index")
	ebml := ebmlMagic + "\x87\x42\x82\x84webm"
	const segment = "\x18\x53\x80\x67"
	for name, c := range map[string]struct {
		kind, data string
		want       gantry.Code
	}{
		"mp4":                      {gantry.MediaMP4, ftyp + box("mdat", "data") + moov, ""},
		"mp4, last box to the end": {gantry.MediaMP4, ftyp + moov + "\x00\x00\x00\x00mdatdata", ""},
		"mp4, long box":            {gantry.MediaMP4, ftyp + moov + "\x00\x00\x00\x01mdat\x00\x00\x00\x00\x00\x00\x00\x12ab", ""},
		"mp4, long box that lies":  {gantry.MediaMP4, ftyp + moov + "\x00\x00\x00\x01mdat\x80\x00\x00\x00\x00\x00\x00\x12ab", gantry.CodeMalformed},
		"mp4, box too long":        {gantry.MediaMP4, ftyp + moov + "\x00\x00\x01\x00mdatdata", gantry.CodeTruncated},
		"mp4, box of four bytes":   {gantry.MediaMP4, ftyp + moov + "\x00\x00\x00\x04mdatdata", gantry.CodeMalformed},
		"mp4, cut in a header":     {gantry.MediaMP4, ftyp + moov + "\x00\x00\x00", gantry.CodeTruncated},
		"mp4, no index":            {gantry.MediaMP4, ftyp + box("mdat", "data"), gantry.CodeTruncated},
		"mp4, boxes without end":   {gantry.MediaMP4, ftyp + moov + strings.Repeat(box("free", ""), maxBoxes), gantry.CodeTooLarge},
		"avi":                      {gantry.MediaAVI, "RIFF\x04\x00\x00\x00AVI ", ""},
		"avi, cut":                 {gantry.MediaAVI, "RIFF\x05\x00\x00\x00AVI ", gantry.CodeTruncated},
		"avi, cut in the header":   {gantry.MediaAVI, "RIFF\x05\x00", gantry.CodeTruncated},
		"mkv":                      {gantry.MediaMKV, ebml + segment + "\x87cluster", ""},
		"mkv, unknown length":      {gantry.MediaMKV, ebml + segment + "\xffcluster", ""},
		"mkv, cut":                 {gantry.MediaMKV, ebml + segment + "\x88cluster", gantry.CodeTruncated},
		"mkv, no segment":          {gantry.MediaMKV, ebml, gantry.CodeTruncated},
		"mkv, something else":      {gantry.MediaMKV, ebml + "\x18\x53\x80\x68\x87cluster", gantry.CodeMalformed},
		"mkv, endless header":      {gantry.MediaMKV, ebmlMagic + "\xff" + segment + "\x87cluster", gantry.CodeMalformed},
		"mkv, cut in the header":   {gantry.MediaMKV, ebmlMagic, gantry.CodeTruncated},
		"no video":                 {gantry.MediaPNG, "", gantry.CodeUnsupportedFormat},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantCode(t, CheckVideo(c.kind, bytes.NewReader([]byte(c.data)), int64(len(c.data))), c.want)
		})
	}
}

func TestTarNumber(t *testing.T) {
	t.Parallel()
	for field, want := range map[string]int64{
		"00000001750\x00":                       1000,
		"  1750 \x00":                           1000,
		"\x00\x00\x00\x00":                      0,
		"\x80\x00\x00\x03\xe8":                  1000,
		"\xff\xff\xff\xff":                      -1,
		"\x80" + strings.Repeat("\xff", 11):     -1,
		"\x80\x00\x00\x00\x00\x01" + "\x00\x00": 1 << 16,
	} {
		if got, ok := tarNumber([]byte(field)); !ok || got != want {
			t.Errorf("%q: got %d, %v, want %d", field, got, ok, want)
		}
	}
	for _, field := range []string{"00000009000\x00", "-0000001750\x00", "12 34\x00"} {
		if got, ok := tarNumber([]byte(field)); ok {
			t.Errorf("%q: got %d, want no number", field, got)
		}
	}
}

func TestParsePAX(t *testing.T) {
	t.Parallel()
	for data, ok := range map[string]bool{
		"":                            true,
		"9 path=a\n":                  true,
		"9 path=a\n11 size=12\n":      true,
		"8 path=a\n":                  false,
		"11 path=a\n":                 false,
		"9 path=a":                    false,
		"path=a\n":                    false,
		"-9 path=a\n":                 false,
		"7 path\n":                    false,
		"6 =ab\n":                     false,
		"99999999999999999999 path=a": false,
		" 9 path=a\n":                 false,
	} {
		if _, got := parsePAX(data); got != ok {
			t.Errorf("%q: got %v", data, got)
		}
	}
	p, _ := parsePAX("9 path=a\n11 size=12\n22 GNU.sparse.major=1\n")
	if p.path != "a" || !p.hasPath || decimal(p.size) != 12 || !p.sparse {
		t.Errorf("got %+v", p)
	}
	for _, s := range []string{"-1", "1e3", "9999999999999999999", "0x10"} {
		if decimal(s) != -1 {
			t.Errorf("%q is a size", s)
		}
	}
}
