package main

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
)

// measureBigTask takes the same small pictures through the whole product twice: as one task of an archive, and
// each as a task of its own.
func measureBigTask(ctx context.Context, b *bed, s settings, r *report) error {
	if s.binary == "" {
		return nil
	}
	program, err := filepath.Abs(s.binary)
	if err != nil {
		return err
	}
	base, stop, err := startService(ctx)
	if err != nil {
		return err
	}
	defer stop()
	n := s.tasks / 2
	files, archive, err := drawMany(filepath.Join(b.home, "many"), n)
	if err != nil {
		return err
	}
	var big, small, ratios []float64
	for range min(s.rounds, 3) {
		one, _, err := runFiles(ctx, program, base, n, archive)
		if err != nil {
			return err
		}
		many, _, err := runFiles(ctx, program, base, n, files...)
		if err != nil {
			return err
		}
		big, small = append(big, float64(n)/one.Seconds()), append(small, float64(n)/many.Seconds())
		ratios = append(ratios, many.Seconds()/one.Seconds())
	}
	r.add("bigtask_ratio", quantile(ratios, 0), "ratio", atLeast(0.8), "one task of %d parts, %.0f parts a second, beside as many tasks of one part, %.0f a second; gantry run, a service that answers at once",
		n, quantile(big, 0.5), quantile(small, 0.5))
	return nil
}

// drawMany writes n pictures that differ, as files and as one archive.
func drawMany(dir string, n int) (files []string, archive string, err error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, "", err
	}
	archive = filepath.Join(dir, "all.zip")
	f, err := os.Create(archive)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	z := zip.NewWriter(f)
	for i := range n {
		p := image.NewGray(image.Rect(0, 0, 8, 8))
		binary.BigEndian.PutUint64(p.Pix, uint64(i))
		var one bytes.Buffer
		if err := png.Encode(&one, p); err != nil {
			return nil, "", err
		}
		files = append(files, filepath.Join(dir, fmt.Sprintf("%05d.png", i)))
		if err := os.WriteFile(files[i], one.Bytes(), 0o644); err != nil {
			return nil, "", err
		}
		w, err := z.Create(filepath.Base(files[i]))
		if err == nil {
			_, err = w.Write(one.Bytes())
		}
		if err != nil {
			return nil, "", err
		}
	}
	return files, archive, z.Close()
}
