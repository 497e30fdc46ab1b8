package media

import (
	"archive/zip"
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// overlapping has one local file that the directory lists many times.
func overlapping(n int) []byte {
	zeros := make([]byte, 1<<20)
	p := part{method: deflated, packed: deflateBytes(zeros), crc: ptr(crc32.ChecksumIEEE(zeros)), size: ptr(1 << 20)}
	m := new(maker)
	for i := range n {
		p.name = fmt.Sprintf("%04d", i)
		m.add(p)
		p.at = ptr(0)
	}
	return m.bytes()
}

// quoting has files that each hold the headers of those after them as a stored deflate block and
// share one body (Fifield, "A better zip bomb", 2019).
func quoting(n int) []byte {
	kernel := make([]byte, 1<<20)
	body, tail := deflateBytes(kernel), []byte(nil)
	type file struct {
		part
		head []byte
	}
	var files []file
	for i := n - 1; i >= 0; i-- {
		p := part{name: fmt.Sprintf("%03d", i), method: deflated, packed: body}
		p.crc = ptr(crc32.ChecksumIEEE(join(tail, kernel)))
		p.size = ptr(uint32(len(tail) + len(kernel)))
		p.packSize = ptr(uint32(len(body)))
		head := new(maker).add(p).body.Bytes()[:localSize+len(p.name)]
		files = append(files, file{p, head})
		var quote bytes.Buffer
		put(&quote, byte(0), uint16(len(head)), ^uint16(len(head)), head)
		body, tail = join(quote.Bytes(), body), join(head, tail)
	}
	m := new(maker)
	m.body.Write(body[5:])
	at := 0
	for _, f := range slices.Backward(files) {
		f.at = ptr(uint32(at))
		m.add(f.part)
		at += len(f.head) + 5
	}
	return m.bytes()
}

// extraQuoting has two entries, the first of which swallows the second's header in an extra field
// that only its local header has, so that the directory does not show that they share bytes.
func extraQuoting() []byte {
	data := object(0)
	second := part{name: "b", data: data}
	head := new(maker).add(second).body.Bytes()[:localSize+1]
	m := new(maker).add(part{name: "a", packed: []byte{}, extraHere: join(make([]byte, 20), head),
		size: ptr(20), packSize: ptr(20), crc: ptr(crc32.ChecksumIEEE(data[:20]))})
	second.at = ptr(uint32(m.body.Len() - len(head)))
	m.body.Write(data)
	return m.add(second).bytes()
}

func lying64(size, packed uint64, method uint16) []byte {
	var extra bytes.Buffer
	put(&extra, uint16(1), uint16(16), size, packed)
	return new(maker).add(part{
		name: "a", data: object(0), method: method, size: ptr(1<<32 - 1), packSize: ptr(1<<32 - 1),
		extra: extra.Bytes(), extraHere: extra.Bytes(),
	}).bytes()
}

func names(n int) []byte {
	m := new(maker)
	for i := range n {
		m.add(part{name: fmt.Sprintf("f%05d", i)})
	}
	return m.bytes()
}

// An archive as a whole: what OpenZip refuses, and what it lets through.
func TestOpenZipVerdicts(t *testing.T) {
	t.Parallel()
	one := new(maker).add(part{name: "a.dcm", data: object(0), method: deflated})
	good, dir, body := one.bytes(), one.dir.Bytes(), one.body.Bytes()
	folders := new(maker).add(part{name: "a/"}).add(part{name: "a/b/", method: deflated})
	whole := func(count, size, offset int, comment string) []byte {
		return join(body, dir, end(count, size, offset, comment))
	}
	secret := part{name: "s", data: object(0), flags: 1}
	for name, c := range map[string]struct {
		data []byte
		want gantry.Code
	}{
		"sound":                         {good, ""},
		"sound zip64":                   {one.bytes64(), ""},
		"with a comment":                {whole(1, len(dir), len(body), "PK\x05\x06 hello"), ""},
		"with data before":              {join([]byte("MZ stub"), good), ""},
		"zip64 with data before":        {join([]byte("MZ stub"), one.bytes64()), ""},
		"with data behind":              {join(good, []byte("\r\n--boundary--")), ""},
		"with a signed directory":       {join(body, dir, []byte("PK\x05\x05\x02\x00??"), end(1, len(dir)+8, len(body), "")), ""},
		"no entries":                    {end(0, 0, 0, ""), gantry.CodeEmpty},
		"only folders":                  {folders.bytes(), gantry.CodeEmpty},
		"nothing":                       {nil, gantry.CodeTruncated},
		"a signature":                   {[]byte("PK\x03\x04"), gantry.CodeTruncated},
		"no directory":                  {body, gantry.CodeTruncated},
		"directory cut":                 {good[:len(good)-30], gantry.CodeTruncated},
		"comment cut":                   {whole(1, len(dir), len(body), "hello")[:len(good)+2], gantry.CodeTruncated},
		"cut behind a stored archive":   {nest(2, stored)[:localSize+len("inner.zip")+len(nest(1, stored))], gantry.CodeTruncated},
		"more entries declared":         {whole(2, len(dir), len(body), ""), gantry.CodeMalformed},
		"fewer entries declared":        {join(body, dir, dir, end(1, 2*len(dir), len(body), "")), gantry.CodeMalformed},
		"entries in an empty directory": {whole(1, 0, len(body), ""), gantry.CodeMalformed},
		"no entries in a directory":     {whole(0, len(dir), len(body), ""), gantry.CodeMalformed},
		"directory size too large":      {whole(1, 1<<30, len(body), ""), CodeLengthOutOfBounds},
		"directory offset too large":    {whole(1, len(dir), 1<<30, ""), CodeLengthOutOfBounds},
		"directory size too small":      {whole(1, len(dir)-1, len(body), ""), CodeLengthOutOfBounds},
		"no directory at the offset":    {whole(1, len(dir)-1, 0, ""), gantry.CodeMalformed},
		"rubbish in the directory":      {join(body, dir, []byte("rubbish"), end(1, len(dir)+7, len(body), "")), gantry.CodeMalformed},
		"two directories":               {join([]byte("MZ"), dir, body, dir, end(1, len(dir), 2, "")), gantry.CodeMalformed},
		"end records differ": {join([]byte("MZ"), body, dir, end64(1, uint64(len(dir)), uint64(len(body)), uint64(len(body)+len(dir)))[:76],
			end(1, len(dir), len(body)+2, "")), gantry.CodeMalformed},
		"zip64 directory of 2^63":    {join(body, dir, end64(1, 1<<63, 1<<63, uint64(len(body)+len(dir)))), CodeLengthOutOfBounds},
		"zip64 locator to nowhere":   {join(body, dir, end64(1, 1, 1, 1<<63)[56:]), CodeLengthOutOfBounds},
		"zip64 declares 2^62":        {join(body, dir, end64(1<<62, uint64(len(dir)), uint64(len(body)), uint64(len(body)+len(dir)))), CodeTooManyEntries},
		"several volumes":            {join(body, dir, []byte("PK\x05\x06\x01\x00\x01\x00"), good[len(good)-14:]), gantry.CodeUnsupportedFormat},
		"encrypted":                  {new(maker).add(secret).bytes(), CodeEncrypted},
		"encrypted by AES":           {new(maker).add(part{name: "s", data: object(0), method: 99, flags: 1}).bytes(), CodeEncrypted},
		"directory encrypted":        {encryptedDirectory(), CodeEncrypted},
		"one entry many times":       {overlapping(1000), CodeArchiveBomb},
		"one entry twice":            {overlapping(2), CodeArchiveBomb},
		"quoted overlap":             {quoting(100), CodeArchiveBomb},
		"declares over 512 MiB":      {new(maker).add(part{name: "a", packed: make([]byte, 6<<20), size: ptr(513 << 20), method: deflated}).bytes(), CodeArchiveBomb},
		"declares 512 MiB in all":    {new(maker).add(part{name: "a", packed: make([]byte, 3<<20), size: ptr(257 << 20), method: deflated}).add(part{name: "b", packed: make([]byte, 3<<20), size: ptr(257 << 20), method: deflated}).bytes(), CodeArchiveBomb},
		"declares 101:1":             {new(maker).add(part{name: "a", packed: make([]byte, 200_000), size: ptr(20_200_000), method: deflated}).bytes(), CodeArchiveBomb},
		"blank entries in all":       {new(maker).add(blank("a", 6)).add(blank("b", 6)).bytes(), CodeArchiveBomb},
		"a bomb behind a good entry": {new(maker).add(part{name: "a", data: object(0)}).add(blank("b", 11)).bytes(), CodeArchiveBomb},
		"20,000 entries":             {names(20_000), CodeTooManyEntries},
		"10,000 entries":             {names(10_000), ""},
		"10,001, one declared":       {miscounted(10_001, 1), CodeTooManyEntries},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := OpenZip(bytes.NewReader(c.data), int64(len(c.data)), 1, NewBudget(corpusLimits))
			wantCode(t, err, c.want)
		})
	}
}

func miscounted(n, declared int) []byte {
	data := names(n)
	copy(data[len(data)-14:], []byte{byte(declared), 0, byte(declared), 0})
	return data
}

func encryptedDirectory() []byte {
	body := new(maker).add(part{name: "a", data: object(0)}).body.Bytes()
	tail := end64(1, 50, uint64(len(body)), uint64(len(body)+50))
	tail[14] = centralCrypt
	return join(body, object(1)[150:200], tail)
}

func TestOpenZipTooDeep(t *testing.T) {
	t.Parallel()
	data := zipOf(stored, object(0))
	for depth, want := range map[int]gantry.Code{1: "", 3: "", 4: CodeTooDeep} {
		_, err := OpenZip(bytes.NewReader(data), int64(len(data)), depth, NewBudget(corpusLimits))
		wantCode(t, err, want)
	}
}

// A directory far out of proportion to the entries allowed is not read.
func TestOpenZipLargeDirectory(t *testing.T) {
	t.Parallel()
	m := new(maker)
	for range 30 {
		m.add(part{name: strings.Repeat("n", 1<<16-1)})
	}
	data := m.bytes()
	_, err := OpenZip(bytes.NewReader(data), int64(len(data)), 1, NewBudget(Limits{Depth: 1, MaxEntries: 30}))
	wantCode(t, err, gantry.CodeTooLarge)
	_, err = OpenZip(bytes.NewReader(data), int64(len(data)), 1, NewBudget(Limits{Depth: 1, MaxEntries: 3000}))
	wantCode(t, err)
}

// No cut of an archive is taken for an archive, also not one that leaves a whole archive within.
func TestOpenZipEveryCut(t *testing.T) {
	t.Parallel()
	two := new(maker).add(part{name: "inner.zip", data: zipOf(stored, object(0))}).
		add(part{name: "none.zip", data: end(0, 0, 0, "")}).add(part{name: "a.dcm", data: object(1)})
	for name, data := range map[string][]byte{
		"plain": zipOf(deflated, object(0), object(1)), "nested": nest(3, stored),
		"two": two.bytes(), "zip64": two.bytes64(),
	} {
		for n := range data {
			_, err := OpenZip(bytes.NewReader(data[:n]), int64(n), 1, NewBudget(corpusLimits))
			if err == nil || gantry.KindOf(err) != gantry.Illegal {
				t.Fatalf("%s cut to %d of %d bytes: got %v, want a verdict", name, n, len(data), err)
			}
		}
	}
}

// More than 65,535 entries: with zip64, and as old writers had it, with the count cut to 16 bits.
func TestOpenZipManyEntries(t *testing.T) {
	t.Parallel()
	m := new(maker)
	for i := range 66_000 {
		m.add(part{name: fmt.Sprintf("%05d", i)})
	}
	limits := Limits{Depth: 1, MaxBytes: 1 << 20, MaxEntries: 66_000, MaxRatio: 100}
	for _, data := range [][]byte{m.bytes64(), m.bytes()} {
		z, err := OpenZip(bytes.NewReader(data), int64(len(data)), 1, NewBudget(limits))
		wantCode(t, err)
		if n := len(z.Entries()); n != 66_000 {
			t.Errorf("%d entries, want 66,000", n)
		}
	}
	limits.MaxEntries--
	data := m.bytes()
	_, err := OpenZip(bytes.NewReader(data), int64(len(data)), 1, NewBudget(limits))
	wantCode(t, err, CodeTooManyEntries)
}

// What the standard library writes is read as it reads it.
func TestOpenZipAgreesWithArchiveZip(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i, method := range []uint16{zip.Store, zip.Deflate, zip.Deflate} {
		f, err := w.CreateHeader(&zip.FileHeader{Name: fmt.Sprintf("é/%d", i), Method: method})
		wantCode(t, err)
		_, err = f.Write(bytes.Repeat(object(i), i))
		wantCode(t, err)
	}
	_, err := w.Create("folder/")
	wantCode(t, err)
	wantCode(t, w.SetComment("a comment"))
	wantCode(t, w.Close())

	r := bytes.NewReader(b.Bytes())
	theirs, err := zip.NewReader(r, r.Size())
	wantCode(t, err)
	z, err := OpenZip(r, r.Size(), 1, NewBudget(corpusLimits))
	wantCode(t, err)
	if n := len(z.Entries()); n != 3 {
		t.Fatalf("%d entries, want 3", n)
	}
	for i, e := range z.Entries() {
		f, err := theirs.File[i].Open()
		wantCode(t, err)
		want, err := io.ReadAll(f)
		wantCode(t, err)
		got, err := readEntry(z, e.Ordinal)
		wantCode(t, err)
		if e.Name != theirs.File[i].Name || !bytes.Equal(got, want) {
			t.Errorf("entry %d: got %q with %d bytes, want %q with %d", i, e.Name, len(got), theirs.File[i].Name, len(want))
		}
	}
}
