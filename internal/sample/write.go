package sample

import (
	"archive/zip"
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"image/png"
	"os"
	"path/filepath"
	"sync"
)

// entry is a file by its name, in a folder or an archive.
type entry struct {
	name  string
	bytes []byte
}

// Write makes dir if need be and writes into it, over what is there: xray.png (1024 x 1024),
// ct-slice.dcm (256 x 256), ct-study.zip (a CT of 12 slices) and mixed.zip (an X-ray, a slice and
// series.zip, an archive of 3 slices). It returns their paths in that order. The bytes are the
// same on every run.
func Write(dir string) ([]string, error) {
	files, err := all()
	if err != nil {
		return nil, fmt.Errorf("make samples: %w", err)
	}
	return put(dir, files)
}

// WriteAll writes the files of Write and, after them, ct-series.zip (a CT of 24 slices of 256 x
// 256), us-loop.dcm (an ultrasound of 30 frames of 160 x 120), us-loop.avi (the same at 320 x 240,
// 10 frames a second) and README.txt, which says what they are. It returns all paths in that order.
func WriteAll(dir string) ([]string, error) {
	files, err := all()
	if err != nil {
		return nil, fmt.Errorf("make samples: %w", err)
	}
	more, err := moving()
	if err != nil {
		return nil, fmt.Errorf("make samples: %w", err)
	}
	return put(dir, append(append(files, more...), entry{"README.txt", []byte(readme)}))
}

// WriteLoops writes us-loop.dcm and us-loop.avi of WriteAll alone and returns their paths in that order.
func WriteLoops(dir string) ([]string, error) {
	files, err := loops()
	if err != nil {
		return nil, fmt.Errorf("make samples: %w", err)
	}
	return put(dir, files)
}

// readme goes beside the files.
//
//go:embed readme.txt
var readme string

func put(dir string, files []entry) ([]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("write samples: %w", err)
	}
	paths := make([]string, len(files))
	for i, f := range files {
		paths[i] = filepath.Join(dir, f.name)
		if err := os.WriteFile(paths[i], f.bytes, 0o644); err != nil {
			return nil, fmt.Errorf("write samples: %w", err)
		}
	}
	return paths, nil
}

// moving makes the series and the loops.
func moving() ([]entry, error) {
	var slices [][]byte
	var films []entry
	errs := make([]error, 2)
	var wg sync.WaitGroup
	wg.Go(func() { slices, errs[0] = CT(24, 256) })
	wg.Go(func() { films, errs[1] = loops() })
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	series, err := archive(numbered("ct", slices))
	return append([]entry{{"ct-series.zip", series}}, films...), err
}

// loops makes the ultrasound as a DICOM file and as a video.
func loops() ([]entry, error) {
	film, err := AVI(Loop(30, 320, 240), 10)
	return []entry{{"us-loop.dcm", Ultrasound(30, 160, 120)}, {"us-loop.avi", film}}, err
}

// all makes the four files, what takes long side by side.
func all() ([]entry, error) {
	var large, small []byte
	var slices, few [][]byte
	errs := make([]error, 4)
	var wg sync.WaitGroup
	wg.Go(func() { large, errs[0] = xrayPNG(1024) })
	wg.Go(func() { small, errs[1] = xrayPNG(512) })
	wg.Go(func() { slices, errs[2] = CT(12, 256) })
	wg.Go(func() { few, errs[3] = CT(3, 128) })
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	study, err := archive(numbered("ct", slices))
	if err != nil {
		return nil, err
	}
	series, err := archive(numbered("series", few))
	if err != nil {
		return nil, err
	}
	mixed, err := archive([]entry{{"xray.png", small}, {"slice.dcm", slices[7]}, {"series.zip", series}})
	if err != nil {
		return nil, err
	}
	return []entry{{"xray.png", large}, {"ct-slice.dcm", slices[6]}, {"ct-study.zip", study}, {"mixed.zip", mixed}}, nil
}

func xrayPNG(size int) ([]byte, error) {
	var b bytes.Buffer
	e := png.Encoder{CompressionLevel: png.BestSpeed} // noise leaves little to compress
	err := e.Encode(&b, XRay(size))
	return b.Bytes(), err
}

// numbered names files folder/0001.dcm and so on.
func numbered(folder string, files [][]byte) []entry {
	out := make([]entry, len(files))
	for i, f := range files {
		out[i] = entry{fmt.Sprintf("%s/%04d.dcm", folder, i+1), f}
	}
	return out
}

// archive packs entries in their order, without times. DICOM is deflated; what is compressed
// already is stored.
func archive(entries []entry) ([]byte, error) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name}
		if filepath.Ext(e.name) == ".dcm" {
			h.Method = zip.Deflate
		}
		w, err := z.CreateHeader(h)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(e.bytes); err != nil {
			return nil, err
		}
	}
	err := z.Close()
	return b.Bytes(), err
}
