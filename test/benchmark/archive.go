package main

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/media"
	"github.com/gantry-imaging/gantry/internal/sample"
)

// measureZip takes a large archive through the whole product, each entry checked, hashed and sent to a
// service that answers at once, beside unzip into sha256sum; and through the archive reader alone, in a
// process of its own.
func measureZip(ctx context.Context, b *bed, s settings, r *report) error {
	path := filepath.Join(b.home, "large.zip")
	entries, err := makeZip(path, s)
	if err != nil {
		return err
	}
	defer os.Remove(path)
	peer := peerRun("sh", "-c", `unzip -p "$1" | sha256sum`, "sh", path)
	about := fmt.Sprintf("%d entries of %d MB in all, half stored, half deflated", entries, s.zipBytes/1e6)
	if err := measureZipReader(ctx, s, r, path, entries, peer, about); err != nil || s.binary == "" {
		return err
	}
	return measureZipRun(ctx, s, r, path, entries, peer, about)
}

func measureZipReader(ctx context.Context, s settings, r *report, path string, entries int, peer contender, about string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var most float64
	own := func(ctx context.Context) error {
		var out bytes.Buffer
		c := exec.CommandContext(ctx, self, "-read-zip", path)
		c.Stdout, c.Stderr = &out, os.Stderr
		if err := c.Run(); err != nil {
			return err
		}
		var a zipRead
		if err := json.Unmarshal(out.Bytes(), &a); err != nil {
			return err
		}
		if a.Entries != entries || a.Bytes < s.zipBytes {
			return fmt.Errorf("%d entries of %d bytes read, %d written", a.Entries, a.Bytes, entries)
		}
		most = max(most, a.PeakMB)
		return nil
	}
	race, err := versus(ctx, min(s.rounds, 3), clock(own), peer)
	if err != nil {
		return err
	}
	r.add("zip_reader_vs_unzip_sha", race.ratio(), "ratio", bound{}, "%s; the reader alone; %s", about, race.note("gantry", "unzip"))
	r.add("zip_reader_rss_mb", most, "MB", bound{}, "most of any round")
	return nil
}

// zipBody is an entry without its name.
type zipBody struct {
	suffix string
	data   []byte
	packed []byte // deflated; nil if stored
}

// makeZip writes a zip of at least s.zipBytes, in turns a picture, stored, and a slice, deflated, and
// gives the number of entries. A few bodies stand under many names: making them is not what is measured.
func makeZip(path string, s settings) (int, error) {
	bodies, err := zipBodies(s)
	if err != nil {
		return 0, err
	}
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	w := zip.NewWriter(f)
	n := 0
	for left := s.zipBytes; left > 0; n++ {
		b := bodies[n%len(bodies)]
		left -= int64(len(b.data))
		h := &zip.FileHeader{Name: fmt.Sprintf("study/%06d.%s", n, b.suffix), Method: zip.Store, CRC32: crc32.ChecksumIEEE(b.data),
			UncompressedSize64: uint64(len(b.data)), CompressedSize64: uint64(len(b.data))}
		body := b.data
		if b.packed != nil {
			h.Method, h.CompressedSize64, body = zip.Deflate, uint64(len(b.packed)), b.packed
		}
		e, err := w.CreateRaw(h)
		if err != nil {
			return 0, err
		}
		if _, err := e.Write(body); err != nil {
			return 0, err
		}
	}
	return n, errors.Join(w.Close(), f.Sync())
}

func zipBodies(s settings) ([]zipBody, error) {
	slices, err := sample.CT(s.slices, 512)
	if err != nil {
		return nil, err
	}
	pictures, err := drawPictures(5 * len(slices))
	if err != nil {
		return nil, err
	}
	var all []zipBody
	for i, data := range slices {
		var b bytes.Buffer
		w, err := flate.NewWriter(&b, 6)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(data); err != nil {
			return nil, err
		}
		if err := w.Close(); err != nil {
			return nil, err
		}
		for _, p := range pictures[5*i : 5*i+5] {
			all = append(all, zipBody{suffix: "png", data: p})
		}
		all = append(all, zipBody{"dcm", data, b.Bytes()})
	}
	return all, nil
}

// zipRead is what the child says of its work.
type zipRead struct {
	Entries int
	Bytes   int64
	PeakMB  float64
}

// readZip opens a zip and reads every entry as the engine does, on two goroutines: pictures are checked
// and hashed, slices scanned, which hashes them. It prints a zipRead.
func readZip(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	z, err := media.OpenZip(f, st.Size(), 1, media.NewBudget(media.Limits{Depth: 3, MaxBytes: 20 << 30, MaxEntries: 100_000, MaxRatio: 200}))
	if err != nil {
		return err
	}
	var g errgroup.Group
	g.SetLimit(2)
	var read atomic.Int64
	for i := range z.Entries() {
		g.Go(func() error {
			n, err := readEntry(z, i)
			read.Add(n)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	peak, err := memoryMB(os.Getpid(), "VmHWM")
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(zipRead{len(z.Entries()), read.Load(), peak})
}

func readEntry(z *media.Zip, i int) (int64, error) {
	e := z.Entries()[i]
	r, err := z.Open(i)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	if strings.HasSuffix(e.Name, ".dcm") {
		info, err := dicom.Scan(r, e.Size, dicom.DefaultLimits())
		if err != nil {
			return 0, err
		}
		return info.Size, nil
	}
	return io.Copy(sha256.New(), media.Verify(gantry.MediaPNG, r))
}
