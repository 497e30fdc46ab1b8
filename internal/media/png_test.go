package media

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"image/png"
	"io"
	"testing"
	"testing/iotest"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// encoded gives images as the standard library writes them, one for each kind of pixel.
func encoded(t testing.TB) map[string][]byte {
	t.Helper()
	r := image.Rect(0, 0, 40, 30)
	out := map[string][]byte{}
	for name, m := range map[string]image.Image{
		"grey": image.NewGray(r), "grey 16": image.NewGray16(r), "rgba": image.NewNRGBA(r), "rgba 16": image.NewNRGBA64(r),
		"palette": image.NewPaletted(r, color.Palette{color.Black, color.White, color.Transparent}),
	} {
		var b bytes.Buffer
		if err := png.Encode(&b, m); err != nil {
			t.Fatal(err)
		}
		out[name] = b.Bytes()
	}
	return out
}

func verify(data []byte) error { return verifyAs(gantry.MediaPNG, data) }

func verifyAs(media string, data []byte) error {
	_, err := io.Copy(io.Discard, Verify(media, bytes.NewReader(data)))
	return err
}

func TestVerifySoundPNG(t *testing.T) {
	t.Parallel()
	for name, data := range encoded(t) {
		for _, behind := range []string{"", "trailing bytes pass"} {
			data := join(data, []byte(behind))
			for how, r := range map[string]io.Reader{
				"whole": bytes.NewReader(data), "by bytes": iotest.OneByteReader(bytes.NewReader(data)),
				"end with data": iotest.DataErrReader(bytes.NewReader(data)),
			} {
				got, err := io.ReadAll(Verify(gantry.MediaPNG, r))
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("%s, %s: got %d of %d bytes and %v", name, how, len(got), len(data), err)
				}
			}
		}
		wantCode(t, CheckPNG(data[:min(len(data), HeadSize)]))
	}
}

func TestVerifyCutPNG(t *testing.T) {
	t.Parallel()
	for name, data := range encoded(t) {
		for n := range data {
			if err := verify(data[:n]); gantry.CodeOf(err) != gantry.CodeTruncated {
				t.Fatalf("%s cut to %d of %d bytes: got %v, want truncated", name, n, len(data), err)
			}
		}
	}
}

// Every byte of a PNG is under some check.
func TestVerifyChangedPNG(t *testing.T) {
	t.Parallel()
	for name, data := range encoded(t) {
		for i := range data {
			bad := bytes.Clone(data)
			bad[i] ^= 0x41
			if err := verify(bad); gantry.KindOf(err) != gantry.Illegal {
				t.Fatalf("%s with byte %d changed: got %v, want a verdict", name, i, err)
			}
		}
	}
}

func TestVerifyBrokenPNG(t *testing.T) {
	t.Parallel()
	grey, idat, iend := ihdr(4, 4, 8, 0), chunk("IDAT", []byte("x")), chunk("IEND", nil)
	paletted, plte := ihdr(4, 4, 1, 3), chunk("PLTE", make([]byte, 6))
	huge := chunk("tEXt", nil)
	huge[0] = 0x80
	for name, c := range map[string]struct {
		data []byte
		want gantry.Code
	}{
		"sound":                    {pngOf(grey, idat, idat, iend), ""},
		"sound, with a palette":    {pngOf(paletted, plte, idat, iend), ""},
		"sound, other chunks":      {pngOf(grey, chunk("tEXt", []byte("k\x00v")), idat, chunk("tIME", nil), iend), ""},
		"nothing":                  {nil, gantry.CodeTruncated},
		"half a signature":         {[]byte(pngSignature[:4]), gantry.CodeTruncated},
		"no signature":             {[]byte("\xff\xd8\xff"), gantry.CodeMalformed},
		"no header":                {pngOf(idat, idat, idat, iend), gantry.CodeMalformed},
		"no image data":            {pngOf(grey, iend), gantry.CodeMalformed},
		"no end":                   {pngOf(grey, idat), gantry.CodeTruncated},
		"two headers":              {pngOf(grey, grey, idat, iend), gantry.CodeMalformed},
		"image data in two places": {pngOf(grey, idat, chunk("tIME", nil), idat, iend), gantry.CodeMalformed},
		"end with content":         {pngOf(grey, idat, chunk("IEND", []byte("x"))), gantry.CodeMalformed},
		"unknown critical chunk":   {pngOf(grey, chunk("CgBI", nil), idat, iend), gantry.CodeMalformed},
		"type that is none":        {pngOf(grey, chunk("te t", nil), idat, iend), gantry.CodeMalformed},
		"chunk of 2 GiB":           {pngOf(grey, huge, idat, iend), CodeLengthOutOfBounds},
		"chunk longer than file":   {pngOf(grey, join([]byte{0x7f, 0xff, 0xff, 0xff}, idat[4:]), iend), gantry.CodeTruncated},
		"palette missing":          {pngOf(paletted, idat, iend), gantry.CodeMalformed},
		"palette late":             {pngOf(ihdr(4, 4, 8, 2), idat, plte, iend), gantry.CodeMalformed},
		"palette twice":            {pngOf(paletted, plte, plte, idat, iend), gantry.CodeMalformed},
		"palette for grey":         {pngOf(grey, plte, idat, iend), gantry.CodeMalformed},
		"palette of a third":       {pngOf(paletted, chunk("PLTE", make([]byte, 4)), idat, iend), gantry.CodeMalformed},
		"palette too long":         {pngOf(paletted, chunk("PLTE", make([]byte, 9)), idat, iend), gantry.CodeMalformed},
		"palette empty":            {pngOf(paletted, chunk("PLTE", nil), idat, iend), gantry.CodeMalformed},
		"wrong CRC":                {pngOf(grey, idat[:len(idat)-1], []byte{0}, iend), CodeChecksumMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantCode(t, verify(c.data), c.want)
		})
	}
}

func TestCheckPNG(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ihdr []byte
		want gantry.Code
	}{
		"one pixel":          {ihdr(1, 1, 1, 0), ""},
		"the largest":        {ihdr(65535, 65535, 16, 6), ""},
		"interlaced":         {ihdr(1, 1, 8, 4, 0, 0, 1), ""},
		"no width":           {ihdr(0, 1, 8, 0), CodeBadValue},
		"no height":          {ihdr(1, 0, 8, 0), CodeBadValue},
		"too wide":           {ihdr(65536, 1, 8, 0), CodeBadValue},
		"too high":           {ihdr(1, 1<<31, 8, 0), CodeBadValue},
		"3 bits":             {ihdr(1, 1, 3, 0), gantry.CodeMalformed},
		"4 bits of colour":   {ihdr(1, 1, 4, 2), gantry.CodeMalformed},
		"palette of 16 bits": {ihdr(1, 1, 16, 3), gantry.CodeMalformed},
		"colour type 1":      {ihdr(1, 1, 8, 1), gantry.CodeMalformed},
		"colour type 5":      {ihdr(1, 1, 8, 5), gantry.CodeMalformed},
		"compression":        {ihdr(1, 1, 8, 0, 1), gantry.CodeMalformed},
		"filter":             {ihdr(1, 1, 8, 0, 0, 1), gantry.CodeMalformed},
		"interlace":          {ihdr(1, 1, 8, 0, 0, 0, 2), gantry.CodeMalformed},
		"longer header":      {chunk("IHDR", make([]byte, 14)), gantry.CodeMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantCode(t, CheckPNG(pngOf(c.ihdr)), c.want)
		})
	}
	bad := pngOf(ihdr(1, 1, 8, 0))
	bad[len(bad)-1]++
	wantCode(t, CheckPNG(bad), CodeChecksumMismatch)
	wantCode(t, CheckPNG(bad[:20]), gantry.CodeTruncated)
}

func TestVerifyPassesOthersOn(t *testing.T) {
	t.Parallel()
	r := bytes.NewReader([]byte("no image"))
	if got := Verify(gantry.MediaDICOM, r); got != io.Reader(r) {
		t.Error("a reader of other media is wrapped")
	}
	down := errors.New("storage is down")
	_, err := io.ReadAll(Verify(gantry.MediaPNG, iotest.ErrReader(down)))
	if !errors.Is(err, down) || gantry.KindOf(err) == gantry.Illegal {
		t.Errorf("got %v, want the storage's error", err)
	}
}
