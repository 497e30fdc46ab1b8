package media

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image/png"
	"io"
	"testing"
	"testing/iotest"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Whatever the bytes: no panic, no more bytes than the budget, every complaint a verdict, and what
// is taken is what the standard library reads too.
func FuzzOpenZip(f *testing.F) {
	two := new(maker).add(part{name: "a", data: object(0)}).add(part{name: "d/"}).
		add(part{name: "M\x81", data: object(1), method: deflated, flags: 8})
	for _, seed := range [][]byte{
		two.bytes(), two.bytes64(), join([]byte("MZ"), two.bytes()), nest(3, stored), nest(4, deflated),
		end(0, 0, 0, ""), overlapping(3), quoting(3), extraQuoting(), lying64(1<<60, 1<<60, deflated), encryptedDirectory(),
		zipOf(deflated, make([]byte, 1<<20)),
	} {
		f.Add(seed)
	}
	limits := Limits{Depth: 3, MaxBytes: 256 << 10, MaxEntries: 32, MaxRatio: 100}
	f.Fuzz(func(t *testing.T, data []byte) {
		w, err := walkBytes(data, limits)
		if err != nil && (gantry.KindOf(err) != gantry.Illegal || gantry.CodeOf(err) == "") {
			t.Fatalf("no verdict: %v", err)
		}
		if w.bytes > limits.MaxBytes {
			t.Fatalf("%d bytes read, limit %d", w.bytes, limits.MaxBytes)
		}
		if media, err := DetectAt(bytes.NewReader(data), int64(len(data))); err != nil {
			t.Fatalf("detect %q: %v", media, err)
		}
		compare(t, data, limits)
	})
}

// compare checks that archive/zip reads the same bytes where it lists as many entries.
func compare(t *testing.T, data []byte, limits Limits) {
	r := bytes.NewReader(data)
	z, err := OpenZip(r, r.Size(), 1, NewBudget(limits))
	if err != nil {
		return
	}
	theirs, err := zip.NewReader(r, r.Size())
	if err != nil {
		return
	}
	for _, e := range z.Entries() {
		ours, err := readEntry(z, e.Ordinal)
		if err != nil || e.Ordinal >= len(theirs.File) || theirs.File[e.Ordinal].Name != z.RawName(e.Ordinal) {
			continue
		}
		s, err := theirs.File[e.Ordinal].Open()
		if err != nil {
			continue
		}
		got, err := io.ReadAll(s)
		if err == nil && !bytes.Equal(got, ours) {
			t.Fatalf("entry %d: %d bytes, archive/zip reads %d others", e.Ordinal, len(ours), len(got))
		}
	}
}

// What passes is unchanged and has a header that the standard library reads too; what does not
// pass has a verdict. Each input is tried as it is and with true checksums, or little would get
// past the first.
func FuzzVerifyPNG(f *testing.F) {
	for _, data := range encoded(f) {
		f.Add(data)
	}
	f.Add(pngOf(ihdr(4, 4, 1, 3), chunk("PLTE", make([]byte, 6)), chunk("IDAT", nil), chunk("IEND", nil)))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, data := range [][]byte{data, sealed(data)} {
			got, err := io.ReadAll(Verify(gantry.MediaPNG, iotest.HalfReader(bytes.NewReader(data))))
			if err != nil {
				if gantry.KindOf(err) != gantry.Illegal || gantry.CodeOf(err) == "" {
					t.Fatalf("no verdict: %v", err)
				}
				continue
			}
			if !bytes.Equal(got, data) {
				t.Fatal("other bytes come out than went in")
			}
			if err := CheckPNG(data[:min(len(data), HeadSize)]); err != nil {
				t.Fatalf("passes, but its header does not: %v", err)
			}
			if _, err := png.DecodeConfig(bytes.NewReader(data)); err != nil && data[25] != 3 {
				t.Fatalf("passes, but has no readable header: %v", err)
			}
		}
	})
}

// sealed gives the same chunks with true checksums.
func sealed(data []byte) []byte {
	data = bytes.Clone(data)
	for rest := data[min(8, len(data)):]; len(rest) >= 12; {
		end := 8 + int(binary.BigEndian.Uint32(rest))
		if end > len(rest)-4 {
			break
		}
		binary.BigEndian.PutUint32(rest[end:], crc32.ChecksumIEEE(rest[4:end]))
		rest = rest[end+4:]
	}
	return data
}

// Whatever the bytes: no panic, a verdict or an archive whose entries lie within it, apart from each
// other, and read as long as declared.
func FuzzOpenTar(f *testing.F) {
	f.Add(tarOf(tarPart{name: "a", data: object(1)}, pax("path", "b", "size", "3"), tarPart{name: "c", data: []byte("abc")}))
	f.Add(tarOf(tarPart{name: "L", kind: tarLongName, data: []byte("x")}, tarPart{name: "s", kind: tarSparse, gnu: true, more: true}))
	limits := Limits{Depth: 3, MaxBytes: 256 << 10, MaxEntries: 32, MaxRatio: 100}
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := OpenTar(bytes.NewReader(data), int64(len(data)), 1, NewBudget(limits))
		if err != nil {
			if gantry.KindOf(err) != gantry.Illegal || gantry.CodeOf(err) == "" {
				t.Fatalf("no verdict: %v", err)
			}
			return
		}
		sum := 0
		for _, e := range a.Entries() {
			if e.Rejected {
				continue
			}
			got, err := readEntry(a, e.Ordinal)
			if err != nil || int64(len(got)) != e.Size {
				t.Fatalf("entry %d: %d bytes of %d, %v", e.Ordinal, len(got), e.Size, err)
			}
			sum += len(got)
		}
		if sum > len(data) {
			t.Fatalf("%d bytes out of %d", sum, len(data))
		}
	})
}

// Whatever the stream: a verdict, or a tar within the budget.
func FuzzDecompress(f *testing.F) {
	tar := tarOf(tarPart{name: "a", data: object(1)})
	f.Add(gz(tar))
	f.Add(zst(tar))
	limits := Limits{Depth: 3, MaxBytes: 256 << 10, MaxEntries: 32, MaxRatio: 100}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, kind := range []string{gantry.MediaGZIP, gantry.MediaZSTD} {
			got, err := unpack(kind, data, NewBudget(limits))
			if err != nil && (gantry.KindOf(err) != gantry.Illegal || gantry.CodeOf(err) == "") {
				t.Fatalf("no verdict: %v", err)
			}
			if int64(len(got)) > limits.MaxBytes {
				t.Fatalf("%d bytes, limit %d", len(got), limits.MaxBytes)
			}
		}
	})
}

// Whatever the bytes: a container is whole or there is a verdict.
func FuzzCheckVideo(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x10ftypisom\x00\x00\x00\x00\x00\x00\x00\x08moov"))
	f.Add([]byte(ebmlMagic + "\x87\x42\x82\x84webm\x18\x53\x80\x67\x80xxxxxxxx"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, kind := range []string{gantry.MediaMP4, gantry.MediaMKV, gantry.MediaAVI, Detect(data)} {
			err := CheckVideo(kind, bytes.NewReader(data), int64(len(data)))
			if err != nil && (gantry.KindOf(err) != gantry.Illegal || gantry.CodeOf(err) == "") {
				t.Fatalf("no verdict: %v", err)
			}
		}
	})
}
