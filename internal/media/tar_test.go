package media

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// tarPart is one header of a tar made by hand, with its data.
type tarPart struct {
	name   string
	kind   byte // '0' if zero
	data   []byte
	size   string // the field, if it is a lie
	gnu    bool
	v7     bool
	badSum bool
	more   bool // a sparse header that is continued
}

func (p tarPart) bytes() []byte {
	h := make([]byte, tarBlock)
	copy(h, p.name)
	copy(h[100:], "0000644\x000000000\x000000000\x00")
	size := p.size
	if size == "" {
		size = fmt.Sprintf("%011o\x00", len(p.data))
	}
	copy(h[124:136], size)
	copy(h[136:], "00000000000\x00")
	if h[156] = p.kind; p.kind == 0 && !p.v7 {
		h[156] = tarFile
	}
	switch {
	case p.gnu:
		copy(h[257:], "ustar  \x00")
	case !p.v7:
		copy(h[257:], "ustar\x0000")
	}
	if p.more {
		h[482] = 1
	}
	copy(h[148:156], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	if p.badSum {
		sum++
	}
	copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return join(h, p.data, make([]byte, padded(int64(len(p.data)))-int64(len(p.data))))
}

// tarOf makes a tar with its two blocks of zeros at the end.
func tarOf(parts ...tarPart) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p.bytes()...)
	}
	return append(out, make([]byte, 2*tarBlock)...)
}

func pax(kv ...string) tarPart {
	var b strings.Builder
	for i := 0; i < len(kv); i += 2 {
		n := len(kv[i]) + len(kv[i+1]) + 3
		for n != len(fmt.Sprint(n))+len(kv[i])+len(kv[i+1])+3 {
			n = len(fmt.Sprint(n)) + len(kv[i]) + len(kv[i+1]) + 3
		}
		fmt.Fprintf(&b, "%d %s=%s\n", n, kv[i], kv[i+1])
	}
	return tarPart{name: "pax", kind: tarPAX, data: []byte(b.String())}
}

func openTarBytes(data []byte) (*Tar, error) {
	return OpenTar(bytes.NewReader(data), int64(len(data)), 1, NewBudget(corpusLimits))
}

func TestTarEntries(t *testing.T) {
	t.Parallel()
	ok := tarPart{name: "ok.dcm", data: object(1)}
	long := strings.Repeat("d/", 200) + "x.dcm"
	for name, c := range map[string]struct {
		part []tarPart
		want gantry.Code
		as   string // the name, if not that of the header
	}{
		"plain":              {[]tarPart{{name: "a", data: object(2)}}, "", ""},
		"gnu":                {[]tarPart{{name: "a", gnu: true}}, "", ""},
		"v7":                 {[]tarPart{{name: "a", v7: true, data: []byte("x")}}, "", ""},
		"contiguous":         {[]tarPart{{name: "a", kind: tarContig}}, "", ""},
		"GNU long name":      {[]tarPart{{name: "././@LongLink", kind: tarLongName, data: []byte(long + "\x00")}, {name: "a"}}, "", long},
		"PAX path":           {[]tarPart{pax("mtime", "1", "path", long), {name: "a"}}, "", long},
		"PAX path climbs":    {[]tarPart{pax("path", "/etc/evil"), {name: "a"}}, CodeUnsafePath, ""},
		"PAX path with NUL":  {[]tarPart{pax("path", "a\x00b"), {name: "a"}}, CodeUnsafePath, ""},
		"global comment":     {[]tarPart{{name: "g", kind: tarGlobal, data: pax("comment", "x").data}, {name: "a"}}, "", "a"},
		"climbs":             {[]tarPart{{name: "../../a"}}, CodeUnsafePath, ""},
		"no name":            {[]tarPart{{name: "", data: []byte("x")}}, CodeUnsafePath, ""},
		"hard link":          {[]tarPart{{name: "a", kind: '1', size: "00000001000\x00"}}, CodeUnsupportedEntry, ""},
		"symbolic link":      {[]tarPart{{name: "a", kind: '2'}}, CodeUnsupportedEntry, ""},
		"device":             {[]tarPart{{name: "a", kind: '3'}}, CodeUnsupportedEntry, ""},
		"pipe":               {[]tarPart{{name: "a", kind: '6'}}, CodeUnsupportedEntry, ""},
		"unknown":            {[]tarPart{{name: "a", kind: 'Q', data: object(3)}}, CodeUnsupportedEntry, ""},
		"sparse":             {[]tarPart{{name: "a", kind: tarSparse, gnu: true, data: object(3)}}, CodeUnsupportedEntry, ""},
		"sparse by PAX":      {[]tarPart{pax("GNU.sparse.major", "1", "GNU.sparse.realsize", "1000000000000"), {name: "a", data: object(3)}}, CodeUnsupportedEntry, ""},
		"a file as a folder": {[]tarPart{{name: "a/", data: []byte("x")}}, gantry.CodeMalformed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			parts := append([]tarPart{{name: "d/", kind: tarFolder}, ok}, c.part...)
			tar, err := openTarBytes(tarOf(append(parts, tarPart{name: "last.dcm", data: object(9)})...))
			wantCode(t, err)
			got := tar.Entries()
			if len(got) != 3 || got[0].Ordinal != 1 || got[2].Name != "last.dcm" {
				t.Fatalf("got %+v", got)
			}
			if e := got[1]; e.Reason != c.want || e.Rejected != (c.want != "") || c.as != "" && (e.Name != c.as || tar.RawName(2) != c.as) {
				t.Errorf("got %+v, want %q", e, c.want)
			}
			for i, want := range map[int][]byte{1: object(1), 3: object(9)} {
				if data, err := readEntry(tar, i); err != nil || !bytes.Equal(data, want) {
					t.Errorf("entry %d: %d bytes, %v", i, len(data), err)
				}
				if s, ok := tar.Section(i); !ok || s.Size() != int64(len(want)) {
					t.Errorf("no section of entry %d", i)
				}
			}
			if c.want != "" {
				_, err := tar.Open(2)
				wantCode(t, err, c.want)
			}
		})
	}
}

func TestTarRefusedWhole(t *testing.T) {
	t.Parallel()
	a, b := tarPart{name: "a", data: object(1)}, tarPart{name: "b", data: object(2)}
	for name, c := range map[string]struct {
		data []byte
		want gantry.Code
	}{
		"no end":                 {a.bytes(), gantry.CodeTruncated},
		"ends inside a header":   {join(a.bytes(), b.bytes()[:100]), gantry.CodeTruncated},
		"zeros only":             {make([]byte, 10240), gantry.CodeEmpty},
		"only a folder":          {tarOf(tarPart{name: "d/", kind: tarFolder}), gantry.CodeEmpty},
		"garbage between":        {join(a.bytes(), bytes.Repeat([]byte("x"), 512), tarOf(b)), CodeChecksumMismatch},
		"a tar behind a tar":     {join(tarOf(a), tarOf(b)), gantry.CodeMalformed},
		"no tar":                 {bytes.Repeat([]byte("x"), 1024), gantry.CodeMalformed},
		"PAX without an entry":   {tarOf(a, pax("path", "x")), gantry.CodeMalformed},
		"PAX twice":              {tarOf(pax("path", "x"), pax("path", "y"), a), gantry.CodeMalformed},
		"PAX that lies":          {tarOf(tarPart{name: "x", kind: tarPAX, data: []byte("99 path=x\n")}, a), gantry.CodeMalformed},
		"PAX of a gigabyte":      {tarOf(tarPart{name: "x", kind: tarPAX, size: "10000000000\x00"}, a), gantry.CodeTooLarge},
		"global path":            {tarOf(tarPart{name: "x", kind: tarGlobal, data: pax("path", "x").data}, a), gantry.CodeMalformed},
		"two long names":         {tarOf(tarPart{kind: tarLongName, name: "L", data: []byte("x")}, tarPart{kind: tarLongName, name: "L", data: []byte("y")}, a), gantry.CodeMalformed},
		"PAX and GNU disagree":   {tarOf(tarPart{kind: tarLongName, name: "L", data: []byte("x")}, pax("path", "y"), a), gantry.CodeMalformed},
		"20,000 entries":         {bytes.Repeat(tarPart{name: "a"}.bytes(), 20_000), CodeTooManyEntries},
		"names without end":      {tarOf(manyLong(12)...), gantry.CodeTooLarge},
		"endless sparse headers": {tarPart{name: "a", kind: tarSparse, gnu: true, more: true}.bytes(), gantry.CodeTruncated},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := openTarBytes(c.data)
			wantCode(t, err, c.want)
		})
	}
}

// manyLong gives entries with names of 700,000 bytes.
func manyLong(n int) (out []tarPart) {
	for range n {
		out = append(out, pax("path", strings.Repeat("x", 700_000)), tarPart{name: "a"})
	}
	return out
}

// A size that cannot be ends the walk with the entry that has it.
func TestTarSizes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		part []tarPart
		want gantry.Code
	}{
		"negative":       {[]tarPart{{name: "b", size: strings.Repeat("\xff", 12)}}, CodeLengthOutOfBounds},
		"a terabyte":     {[]tarPart{{name: "b", size: "\x80\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00"}}, CodeLengthOutOfBounds},
		"past the end":   {[]tarPart{{name: "b", size: "00000100000\x00"}}, gantry.CodeTruncated},
		"PAX size lies":  {[]tarPart{pax("size", "99999999999999"), {name: "b"}}, CodeLengthOutOfBounds},
		"PAX size is no": {[]tarPart{pax("size", "-1"), {name: "b"}}, CodeLengthOutOfBounds},
	} {
		tar, err := openTarBytes(tarOf(append([]tarPart{{name: "a", data: object(1)}}, c.part...)...))
		wantCode(t, err)
		if got := tar.Entries(); len(got) != 2 || got[0].Rejected || got[1].Reason != c.want || got[1].Size != -1 {
			t.Errorf("%s: got %+v, want %s", name, got, c.want)
		}
	}
}

// However a tar is cut, it shows: the whole is refused, or the entry that lost bytes is.
func TestTarCutAnywhere(t *testing.T) {
	t.Parallel()
	data := tarOf(tarPart{name: "a", data: object(1)}, pax("path", "bb"), tarPart{name: "b", data: object(2)},
		tarPart{name: "c/", kind: tarFolder}, tarPart{name: "d", data: object(3)})
	for n := 1; n < len(data)-2*tarBlock+1; n++ {
		tar, err := openTarBytes(data[:n])
		if err != nil {
			wantCode(t, err, gantry.CodeTruncated)
			continue
		}
		if e := tar.Entries(); e[len(e)-1].Reason != gantry.CodeTruncated {
			t.Fatalf("cut to %d of %d bytes: taken whole", n, len(data))
		}
	}
}

func gz(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(data)
	_ = w.Close()
	return b.Bytes()
}

func zst(data []byte, o ...zstd.EOption) []byte {
	var b bytes.Buffer
	w, _ := zstd.NewWriter(&b, append(o, zstd.WithEncoderConcurrency(1))...)
	_, _ = w.Write(data)
	_ = w.Close()
	return b.Bytes()
}

func unpack(kind string, data []byte, b *Budget) ([]byte, error) {
	var out bytes.Buffer
	_, err := Decompress(context.Background(), kind, bytes.NewReader(data), &out, 1, b)
	return out.Bytes(), err
}

func TestDecompress(t *testing.T) {
	t.Parallel()
	tar := tarOf(tarPart{name: "a", data: object(1)}, tarPart{name: "b", data: object(2)})
	wrongCRC := gz(tar)
	wrongCRC[len(wrongCRC)-8]++
	for name, c := range map[string]struct {
		kind string
		data []byte
		want gantry.Code
	}{
		"gzip":            {gantry.MediaGZIP, gz(tar), ""},
		"gzip in members": {gantry.MediaGZIP, join(gz(tar[:700]), gz(tar[700:])), ""},
		"zstd":            {gantry.MediaZSTD, zst(tar), ""},
		"zstd in frames":  {gantry.MediaZSTD, join(zst(tar[:700]), zst(tar[700:])), ""},
		"gzip, garbage":   {gantry.MediaGZIP, join(gz(tar), []byte("garbage behind it")), gantry.CodeMalformed},
		"zstd, garbage":   {gantry.MediaZSTD, join(zst(tar), []byte("garbage behind it")), gantry.CodeMalformed},
		"gzip, checksum":  {gantry.MediaGZIP, wrongCRC, CodeChecksumMismatch},
		"gzip of no tar":  {gantry.MediaGZIP, gz(object(1)), gantry.CodeUnsupportedFormat},
		"zstd of no tar":  {gantry.MediaZSTD, zst([]byte("short")), gantry.CodeUnsupportedFormat},
		"gzip of nothing": {gantry.MediaGZIP, gz(nil), gantry.CodeEmpty},
		"gzip, no bytes":  {gantry.MediaGZIP, nil, gantry.CodeTruncated},
		"gzip bomb":       {gantry.MediaGZIP, gz(make([]byte, 20<<20)), CodeArchiveBomb},
		"zstd bomb":       {gantry.MediaZSTD, zst(make([]byte, 20<<20)), CodeArchiveBomb},
		"a wide window":   {gantry.MediaZSTD, join([]byte(zstdMagic), []byte{0, 17 << 3, 1, 0, 0}), gantry.CodeTooLarge},
		"no such stream":  {gantry.MediaZIP, gz(tar), gantry.CodeUnsupportedFormat},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := unpack(c.kind, c.data, NewBudget(corpusLimits))
			wantCode(t, err, c.want)
			if c.want == "" && !bytes.Equal(got, tar) {
				t.Errorf("%d bytes, want %d", len(got), len(tar))
			}
		})
	}
	for kind, data := range map[string][]byte{gantry.MediaGZIP: gz(tar), gantry.MediaZSTD: zst(tar)} {
		for n := range data {
			if _, err := unpack(kind, data[:n], NewBudget(corpusLimits)); gantry.KindOf(err) != gantry.Illegal && !(n == 0 && kind == gantry.MediaZSTD) {
				t.Fatalf("%s cut to %d of %d bytes: got %v", kind, n, len(data), err)
			}
		}
	}
}

// What came out of a stream is counted once, and the ratio is to what was sent.
func TestDecompressBudget(t *testing.T) {
	t.Parallel()
	tar := tarOf(tarPart{name: "a", data: object(1)}, tarPart{name: "b", data: object(2)})
	sent := gz(tar)
	b := NewBudget(Limits{Depth: 1, MaxBytes: int64(len(tar)), MaxEntries: 2, MaxRatio: 100})
	a, err := openAny(bytes.NewReader(sent), int64(len(sent)), 1, b)
	wantCode(t, err)
	for range 2 {
		for i := range 2 {
			_, err := readEntry(a, i)
			wantCode(t, err)
		}
	}
	if b.out != int64(len(tar)) || b.in < int64(len(sent)) || b.in > int64(len(sent))+1 {
		t.Errorf("%d bytes out of %d, want %d of %d", b.out, b.in, len(tar), len(sent))
	}
	down := errors.New("no room")
	_, err = Decompress(context.Background(), gantry.MediaGZIP, bytes.NewReader(sent), failingWriter{down}, 1, NewBudget(corpusLimits))
	if !errors.Is(err, down) {
		t.Errorf("got %v, want the storage's error", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Decompress(ctx, gantry.MediaGZIP, bytes.NewReader(sent), io.Discard, 1, NewBudget(corpusLimits)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	_, err = Decompress(context.Background(), gantry.MediaGZIP, bytes.NewReader(sent), io.Discard, 4, NewBudget(corpusLimits))
	wantCode(t, err, CodeTooDeep)
}

// What lies in a compressed tar is measured by what was sent, not by what came out of it.
func TestDecompressNested(t *testing.T) {
	t.Parallel()
	bomb := new(maker).add(blank("a", 6)).add(blank("b", 6)).bytes()
	pad := tarPart{name: "pad", data: bytes.Repeat(object(5), 8<<10)}
	for name, c := range map[string]struct {
		data []byte
		want gantry.Code
	}{
		"a zip":                     {gz(tarOf(tarPart{name: "a.zip", data: zipOf(deflated, object(1))})), ""},
		"a zip bomb":                {gz(tarOf(tarPart{name: "a.zip", data: bomb}, pad)), CodeArchiveBomb},
		"a zip bomb in a plain tar": {tarOf(tarPart{name: "a.zip", data: bomb}), CodeArchiveBomb},
		"as deep as the limit":      {gz(tarOf(tarPart{name: "a.zip", data: nest(2, stored)})), ""},
		"one over":                  {gz(tarOf(tarPart{name: "a.zip", data: nest(3, stored)})), CodeTooDeep},
		"a compressed tar in a zip": {zipOf(stored, gz(tarOf(tarPart{name: "a", data: object(1)}))), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := walkBytes(c.data, corpusLimits)
			wantCode(t, err, c.want)
		})
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }
