package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/media"
	"github.com/gantry-imaging/gantry/internal/models"
)

const (
	stripFrames = 6   // of a strip, spread over the whole
	stripSide   = 240 // longest side of one of its pictures, in pixels
	stripMax    = 10_000
)

// pageStrip shows frames of a DICOM file or a video above those of what was made of it.
type pageStrip struct {
	Stage, Link, Says string
	Before, After     []pageFrame
}

type pageFrame struct {
	Number  int // from 1
	Picture string
}

// strip draws frames of the input and of the output that was put together of its answers.
func (d *demo) strip(ctx context.Context, t *pageTask, input, dir string, m demoManifest, out demoOutput) error {
	n := len(m.Items)
	s := pageStrip{Stage: out.Stage, Link: d.link(dir, out.Path), Says: fmt.Sprintf("%s in one file, %s", count(n, "frame"), out.Media)}
	var err error
	if s.Before, err = d.frames(ctx, input, n); err != nil {
		return err
	}
	if s.After, err = d.frames(ctx, filepath.Join(dir, filepath.FromSlash(out.Path)), n); err != nil {
		return err
	}
	t.Strips, t.Frames = append(t.Strips, s), t.Frames+n
	return nil
}

// frames draws some of the n frames of a DICOM file, or else of a video.
func (d *demo) frames(ctx context.Context, path string, n int) ([]pageFrame, error) {
	split := splitVideo
	if strings.HasSuffix(path, ".dcm") {
		split = splitDICOM
	}
	var out []pageFrame
	err := split(ctx, path, func(i int) bool { return picked(i, n) }, func(i int, picture []byte) error {
		small, err := models.Thumbnail(picture, stripSide)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(small)
		name, err := d.thumb(hex.EncodeToString(sum[:]), small)
		out = append(out, pageFrame{i + 1, name})
		return err
	})
	return out, err
}

// picked tells whether frame i of n is shown: the first, the last, and those in equal steps between.
func picked(i, n int) bool {
	if n <= stripFrames {
		return true
	}
	for k := range stripFrames {
		if i == k*(n-1)/(stripFrames-1) {
			return true
		}
	}
	return false
}

// splitDICOM gives the frames of a DICOM file that are wanted, as PNG.
func splitDICOM(ctx context.Context, path string, want func(int) bool, each func(int, []byte) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	f, err := dicom.OpenFrames(file, info.Size(), dicom.DefaultFrameLimits())
	if err != nil {
		return err
	}
	for i := range f.Len() {
		if !want(i) {
			continue
		}
		var b bytes.Buffer
		if err := f.Render(ctx, &b, i, gantry.RenderPNG, dicom.Window{}); err != nil {
			return err
		}
		if err := each(i, b.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// splitVideo gives the frames of a video that are wanted, as PNG.
func splitVideo(ctx context.Context, path string, want func(int) bool, each func(int, []byte) error) error {
	o := media.SplitOptions{Format: gantry.RenderPNG, MaxFrames: stripMax, MaxBytes: 1 << 30}
	return media.SplitVideo(ctx, path, o, func(i int, _ time.Duration, picture []byte) error {
		if !want(i) {
			return nil
		}
		return each(i, picture)
	})
}

// thumb keeps a small picture beside the page, by its digest, and gives its place below the page.
func (d *demo) thumb(sha string, picture []byte) (string, error) {
	name := "thumbs/" + sha[:16] + ".png"
	to := filepath.Join(filepath.Dir(d.page), filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return "", err
	}
	return name, os.WriteFile(to, picture, 0o644)
}
