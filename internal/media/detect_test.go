package media

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func TestDetect(t *testing.T) {
	t.Parallel()
	dicom := func(preamble string) string { return preamble + strings.Repeat("\x00", 128-len(preamble)) + "DICM" }
	for name, c := range map[string]struct{ head, want string }{
		"nothing":                       {"", ""},
		"one byte":                      {"P", ""},
		"dicom":                         {dicom(""), gantry.MediaDICOM},
		"dicom and more":                {dicom("") + "\x02\x00", gantry.MediaDICOM},
		"one byte short of dicom":       {dicom("")[:131], ""},
		"131 zeros":                     {strings.Repeat("\x00", 131), ""},
		"dicom that begins as a zip":    {dicom("PK\x03\x04"), gantry.MediaDICOM},
		"dicom that begins as a png":    {dicom(pngSignature), gantry.MediaDICOM},
		"dicom that begins as a tiff":   {dicom("II*\x00"), gantry.MediaDICOM},
		"DICM elsewhere":                {strings.Repeat("\x00", 127) + "DICM\x00", ""},
		"png":                           {pngSignature + "\x00\x00\x00\x0dIHDR", gantry.MediaPNG},
		"png signature in text mode":    {"\x89PNG\n\x1a\n", ""},
		"zip":                           {"PK\x03\x04\x14", gantry.MediaZIP},
		"zip without entries":           {"PK\x05\x06", gantry.MediaZIP},
		"only a directory":              {"PK\x01\x02", ""},
		"jpeg":                          {"\xff\xd8\xff\xe0", gantry.MediaJPEG},
		"gzip":                          {"\x1f\x8b\x08", gantry.MediaGZIP},
		"gzip of no known method":       {"\x1f\x8b\x07", ""},
		"zstd":                          {zstdMagic, gantry.MediaZSTD},
		"mp4":                           {"\x00\x00\x00\x20ftypisom", gantry.MediaMP4},
		"quicktime":                     {"\x00\x00\x00\x14ftypqt  ", gantry.MediaMP4},
		"heif":                          {"\x00\x00\x00\x18ftypheic", ""},
		"ftyp in a text":                {"The ftypisom box", ""},
		"webm":                          {ebmlMagic + "\x87\x42\x82\x84webm", gantry.MediaMKV},
		"matroska":                      {ebmlMagic + "\x8b\x42\x82\x88matroska", gantry.MediaMKV},
		"ebml of another kind":          {ebmlMagic + "\x87\x42\x82\x84abcd", ""},
		"ebml that lies":                {ebmlMagic + "\x87\x42\x82\xff", ""},
		"avi":                           {"RIFF\x10\x00\x00\x00AVI LIST", gantry.MediaAVI},
		"wave":                          {"RIFF\x10\x00\x00\x00WAVEfmt ", ""},
		"tar":                           {string(tarOf(tarPart{name: "a", data: []byte("x")})), gantry.MediaTAR},
		"tar of v7":                     {string(tarOf(tarPart{name: "a", v7: true})), gantry.MediaTAR},
		"tar, one byte short":           {string(tarOf(tarPart{name: "a"})[:511]), ""},
		"tar with a wrong checksum":     {string(tarOf(tarPart{name: "a", badSum: true})), ""},
		"a block of zeros":              {strings.Repeat("\x00", 512), ""},
		"a block of spaces":             {strings.Repeat(" ", 512), ""},
		"an error page saved as a scan": {"<!DOCTYPE html>", ""},
	} {
		if got := Detect([]byte(c.head)); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestDetectAt(t *testing.T) {
	t.Parallel()
	script := bytes.Repeat([]byte("#!/bin/sh\n"), 100)
	inner := zipOf(deflated, object(0))
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"nothing":                          {nil, ""},
		"short":                            {[]byte("PK"), ""},
		"zip":                              {inner, gantry.MediaZIP},
		"zip after a script":               {join(script, inner), gantry.MediaZIP},
		"script that ends like a zip":      {join(script, end(1, 46, 900, "")), ""},
		"script with an empty zip":         {join(script, end(0, 0, 0, "")), ""},
		"dicom with a zip behind":          {join(object(1), inner), gantry.MediaDICOM},
		"png with a zip behind":            {join(pngOf(), inner), gantry.MediaPNG},
		"script":                           {script, ""},
		"zip after a script, one byte cut": {join(script, inner[:len(inner)-1]), ""},
	} {
		got, err := DetectAt(bytes.NewReader(c.data), int64(len(c.data)))
		if err != nil || got != c.want {
			t.Errorf("%s: got %q and %v, want %q", name, got, err, c.want)
		}
	}
}

// failing is storage that breaks off after some reads.
type failing struct {
	io.ReaderAt
	left int
	err  error
}

func (f *failing) ReadAt(p []byte, off int64) (int, error) {
	if f.left--; f.left < 0 {
		return 0, f.err
	}
	return f.ReaderAt.ReadAt(p, off)
}

// A failure of storage is not a verdict on the input, wherever it comes.
func TestStorageFailureIsNoVerdict(t *testing.T) {
	t.Parallel()
	data := join([]byte("#!"), new(maker).add(part{name: "a", data: object(0), method: deflated}).
		add(part{name: "b", data: object(1)}).bytes64())
	down := gantry.Errorf(gantry.Unavailable, "", "storage is down")
	reads := 0
	for ; ; reads++ {
		var w walked
		r := &failing{ReaderAt: bytes.NewReader(data), left: reads, err: down}
		_, err := DetectAt(r, int64(len(data)))
		if err == nil {
			w, err = walk(r, int64(len(data)), 1, NewBudget(corpusLimits))
		}
		if err == nil && w.good == 2 {
			break
		}
		if gantry.KindOf(err) != gantry.Unavailable || !errors.Is(err, down) {
			t.Fatalf("after %d reads: got %v and entries refused by %v, want the storage's error", reads, err, w.refused)
		}
	}
	if reads < 10 {
		t.Errorf("done after %d reads: some went past the test", reads)
	}
}

func TestExtensionMismatch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, media string
		want        bool
	}{
		{"a.png", gantry.MediaPNG, false},
		{"a.PNG", gantry.MediaPNG, false},
		{"a.jpg", gantry.MediaPNG, true},
		{"a.JPEG", gantry.MediaPNG, true},
		{"a.tgz", gantry.MediaGZIP, false},
		{"a.nii.gz", gantry.MediaGZIP, false},
		{"a.mov", gantry.MediaMP4, false},
		{"a.webm", gantry.MediaMKV, false},
		{"a.jpeg", gantry.MediaJPEG, false},
		{"a.tar", gantry.MediaGZIP, true},
		{"dir.zip/a.dcm", gantry.MediaDICOM, false},
		{"a.dcm", gantry.MediaPNG, true},
		{"a.png", gantry.MediaDICOM, true},
		{"a.zip", gantry.MediaZIP, false},
		{"a.mp4", gantry.MediaZIP, true},
		{"a.nii.gz", gantry.MediaDICOM, true},
		{"IM000001", gantry.MediaDICOM, false},
		{"1.2.840.10008.1", gantry.MediaDICOM, false},
		{"a.", gantry.MediaDICOM, false},
		{"", gantry.MediaDICOM, false},
		{"a.dcm", "", false},
	} {
		if got := ExtensionMismatch(c.name, c.media); got != c.want {
			t.Errorf("ExtensionMismatch(%q, %q) = %v, want %v", c.name, c.media, got, c.want)
		}
	}
}
