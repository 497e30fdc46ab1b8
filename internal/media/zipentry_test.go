package media

import (
	"bytes"
	"slices"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/google/go-cmp/cmp"
)

// Entries: each bad in one way, beside one that is sound.
func TestEntryVerdicts(t *testing.T) {
	t.Parallel()
	data := object(1)
	for name, c := range map[string]struct {
		p    part
		want []gantry.Code
	}{
		"sound, stored":          {part{data: data}, nil},
		"sound, deflated":        {part{data: data, method: deflated}, nil},
		"sound, empty":           {part{}, nil},
		"empty, deflated":        {part{method: deflated}, nil},
		"nothing as deflated":    {part{method: deflated, packed: []byte{}}, nil},
		"sizes after the data":   {part{data: data, method: deflated, flags: 8}, nil},
		"regular file":           {part{data: data, mode: 0o100644}, nil},
		"setuid file":            {part{data: data, mode: 0o104755}, nil},
		"a DOS link is none":     {part{data: data, mode: 0o120777, creator: 10}, nil},
		"symbolic link":          {part{data: []byte("/etc/passwd"), mode: 0o120777}, []gantry.Code{CodeUnsupportedEntry}},
		"link made on a Mac":     {part{data: data, mode: 0o120777, creator: 19}, []gantry.Code{CodeUnsupportedEntry}},
		"device":                 {part{data: data, mode: 0o020666}, []gantry.Code{CodeUnsupportedEntry}},
		"pipe":                   {part{data: data, mode: 0o010666}, []gantry.Code{CodeUnsupportedEntry}},
		"folder with content":    {part{data: data, name: "b/"}, []gantry.Code{gantry.CodeMalformed}},
		"bzip2":                  {part{data: data, method: 12}, []gantry.Code{CodeUnsupportedEntry}},
		"lzma, 2000 to 1":        {part{packed: data, size: ptr(2_000_000), method: 14}, []gantry.Code{CodeUnsupportedEntry}},
		"unknown method":         {part{data: data, method: 0xffff}, []gantry.Code{CodeUnsupportedEntry}},
		"encrypted":              {part{data: data, flags: 1}, []gantry.Code{CodeEncrypted}},
		"strongly encrypted":     {part{data: data, flags: 1 | 1<<6}, []gantry.Code{CodeEncrypted}},
		"masked header":          {part{data: data, flags: 1 << 13}, []gantry.Code{CodeEncrypted}},
		"climbs out":             {part{data: data, name: "../b"}, []gantry.Code{CodeUnsafePath}},
		"absolute and secret":    {part{data: data, name: "/b", flags: 1}, []gantry.Code{CodeUnsafePath}},
		"two names":              {part{data: data, local: "b.exe"}, []gantry.Code{gantry.CodeMalformed}},
		"two names of a length":  {part{data: data, local: "c"}, []gantry.Code{gantry.CodeMalformed}},
		"offset in another":      {part{data: data[:9], at: ptr(3)}, []gantry.Code{CodeArchiveBomb}},
		"offset out of bounds":   {part{data: data, at: ptr(1 << 30)}, []gantry.Code{CodeLengthOutOfBounds}},
		"longer than the file":   {part{data: data, packSize: ptr(1 << 20), size: ptr(1 << 20)}, []gantry.Code{CodeLengthOutOfBounds}},
		"into the directory":     {part{data: data, packSize: ptr(uint32(len(data) + 1)), size: ptr(uint32(len(data) + 1))}, []gantry.Code{CodeLengthOutOfBounds}},
		"stored, two sizes":      {part{data: data, size: ptr(10)}, []gantry.Code{CodeLengthOutOfBounds}},
		"beyond any deflate":     {part{packed: data, size: ptr(1 << 30), method: deflated}, []gantry.Code{CodeLengthOutOfBounds}},
		"more than declared":     {part{data: make([]byte, 1<<20), size: ptr(10), method: deflated}, []gantry.Code{CodeLengthOutOfBounds}},
		"one more than declared": {part{data: data, size: ptr(uint32(len(data) - 1)), method: deflated}, []gantry.Code{CodeLengthOutOfBounds}},
		"one less than declared": {part{data: data, size: ptr(uint32(len(data) + 1)), method: deflated}, []gantry.Code{CodeLengthOutOfBounds}},
		"says it is empty":       {part{data: data, size: ptr(0), method: deflated}, []gantry.Code{CodeLengthOutOfBounds}},
		"wrong CRC, stored":      {part{data: data, crc: ptr(1)}, []gantry.Code{CodeChecksumMismatch}},
		"wrong CRC, deflated":    {part{data: data, crc: ptr(0), method: deflated}, []gantry.Code{CodeChecksumMismatch}},
		"deflate cut":            {part{data: data, packed: deflateBytes(data)[:300], method: deflated}, []gantry.Code{gantry.CodeTruncated}},
		"no deflate at all":      {part{data: data, packed: bytes.Repeat([]byte{0xff}, 300), method: deflated}, []gantry.Code{gantry.CodeMalformed}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.p.name == "" {
				c.p.name = "b"
			}
			m := new(maker).add(part{name: "a.dcm", data: object(0), method: deflated}).add(c.p)
			w, err := walkBytes(m.bytes(), corpusLimits)
			if c.want != nil && slices.Contains(c.want, CodeArchiveBomb) {
				wantCode(t, err, c.want...)
				return
			}
			wantCode(t, err)
			if diff := cmp.Diff(c.want, w.refused); diff != "" {
				t.Errorf("refused (-want +got):\n%s", diff)
			}
			if want := 2 - len(c.want); w.good != want || w.entries != 2 {
				t.Errorf("%d of %d entries good, want %d of 2", w.good, w.entries, want)
			}
		})
	}
}

// Lies that need a header of their own.
func TestEntryLies(t *testing.T) {
	t.Parallel()
	differing := func(change func(head []byte)) []byte {
		data := zipOf(deflated, object(0))
		change(data[:localSize])
		return data
	}
	for name, c := range map[string]struct {
		data []byte
		want gantry.Code
	}{
		"zip64 sizes of 2^60":         {lying64(1<<60, 1<<60, deflated), CodeLengthOutOfBounds},
		"zip64 size of 2^63":          {lying64(1<<63, 600, 14), CodeLengthOutOfBounds},
		"zip64 packed size of 2^64-1": {lying64(600, 1<<64-1, deflated), CodeLengthOutOfBounds},
		"zip64 field missing, of the size": {new(maker).add(part{name: "a", packed: make([]byte, 5<<20), method: deflated,
			size: ptr(1<<32 - 1)}).bytes(), CodeLengthOutOfBounds},
		"zip64 field missing": {new(maker).add(part{name: "a", data: object(0), method: deflated,
			packSize: ptr(1<<32 - 1)}).bytes(), CodeLengthOutOfBounds},
		"local method":             {differing(func(h []byte) { h[8] = stored }), gantry.CodeMalformed},
		"local encryption":         {differing(func(h []byte) { h[6] = 1 }), gantry.CodeMalformed},
		"local CRC":                {differing(func(h []byte) { h[14]++ }), gantry.CodeMalformed},
		"local packed size":        {differing(func(h []byte) { h[18]++ }), gantry.CodeMalformed},
		"local size":               {differing(func(h []byte) { h[22]++ }), gantry.CodeMalformed},
		"local signature":          {differing(func(h []byte) { h[3]++ }), gantry.CodeMalformed},
		"local sizes after data":   {differing(func(h []byte) { h[6] = 8; clear(h[14:26]) }), ""},
		"local extra field to end": {differing(func(h []byte) { h[28] = 60 }), CodeArchiveBomb},
		"header in an extra field": {extraQuoting(), CodeArchiveBomb},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			z, err := OpenZip(bytes.NewReader(c.data), int64(len(c.data)), 1, NewBudget(corpusLimits))
			wantCode(t, err)
			_, err = readEntry(z, 0)
			wantCode(t, err, c.want)
			if _, ok := z.Section(0); ok {
				t.Error("random access to an entry that is compressed or refused")
			}
		})
	}
}

func TestEntries(t *testing.T) {
	t.Parallel()
	data := object(0)
	z64 := make([]byte, 20)
	copy(z64, []byte{1, 0, 16, 0, 0xdc, 2, 0, 0, 0, 0, 0, 0, 0xdc, 2})
	m := new(maker).
		add(part{name: "d/", mode: 0o040755}).
		add(part{name: "d/a.dcm", data: data}).
		add(part{name: `e\`}).
		add(part{name: "M\x81ller.dcm", data: data}).
		add(part{name: "d/a.dcm", data: data}).
		add(part{name: "d/A.dcm", data: data}).
		add(part{name: "g", mode: 0o040755}).
		add(part{name: "../x\n", data: data}).
		add(part{name: "../x\n", data: data}).
		add(part{name: "z", data: data, size: ptr(1<<32 - 1), packSize: ptr(1<<32 - 1), extra: z64, extraHere: z64}).
		add(part{name: "l", data: data, size: ptr(7)})
	b := m.bytes()
	z, err := OpenZip(bytes.NewReader(b), int64(len(b)), 1, NewBudget(corpusLimits))
	wantCode(t, err)
	n := int64(len(data))
	want := []Entry{
		{Ordinal: 1, Name: "d/a.dcm", Size: n, Packed: n},
		{Ordinal: 3, Name: "M%81ller.dcm", Size: n, Packed: n},
		{Ordinal: 4, Name: "d/a.dcm", Size: n, Packed: n, Reason: CodeDuplicateName},
		{Ordinal: 5, Name: "d/A.dcm", Size: n, Packed: n},
		{Ordinal: 7, Name: "../x%0A", Size: n, Packed: n, Reason: CodeUnsafePath, Rejected: true},
		{Ordinal: 8, Name: "../x%0A", Size: n, Packed: n, Reason: CodeUnsafePath, Rejected: true},
		{Ordinal: 9, Name: "z", Size: n, Packed: n},
		{Ordinal: 10, Name: "l", Size: -1, Packed: -1, Reason: CodeLengthOutOfBounds, Rejected: true},
	}
	if diff := cmp.Diff(want, z.Entries()); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	for _, e := range want {
		got, err := readEntry(z, e.Ordinal)
		if e.Rejected {
			wantCode(t, err, e.Reason)
		} else if err != nil || !bytes.Equal(got, data) {
			t.Errorf("entry %d: got %d bytes and %v", e.Ordinal, len(got), err)
		}
	}
	for _, no := range []int{-1, 0, 2, 11, 1 << 40} {
		if _, err := z.Open(no); gantry.KindOf(err) != gantry.NotFound {
			t.Errorf("open %d: got %v, want not found", no, err)
		}
	}
}
