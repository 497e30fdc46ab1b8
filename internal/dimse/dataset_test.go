package dimse

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// answerOf is what a query may bring.
func answerOf() Dataset {
	return Dataset{
		Text(0x0008, 0x0005, "CS", "ISO_IR 192"),
		Text(0x0008, 0x0052, "CS", "STUDY"),
		sequence(0x0008, 0x1111, Dataset{Text(0x0008, 0x1150, "UI", "1.2.3"), sequence(0x0008, 0x1199, Dataset{Text(0x0008, 0x1155, "UI", "1.2.3.4")})}, nil),
		Text(0x0010, 0x0010, "PN", "Müller^Jürgen"),
		Text(0x0010, 0x0020, "LO", ""),
		Text(0x0020, 0x000d, "UI", "1.2.3.4.5"),
		Text(0x0020, 0x1208, "IS", "12"),
	}
}

func TestDatasetRoundTrip(t *testing.T) {
	for _, transfer := range []string{ImplicitLE, ExplicitLE} {
		want := answerOf()
		b, err := want.Encode(transfer)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeDataset(b, transfer)
		if err != nil {
			t.Fatal(err)
		}
		// An empty value comes back as one of no bytes.
		if d := cmp.Diff(want, got, cmp.Transformer("bytes", func(b []byte) string { return string(b) })); d != "" {
			t.Errorf("%s: %s", transfer, d)
		}
		if name, empty, none := got.Get(0x0010, 0x0010), got.Get(0x0010, 0x0020), got.Get(0x0010, 0x0030); name != "Müller^Jürgen" || empty != "" || none != "" {
			t.Errorf("got %q, %q, %q", name, empty, none)
		}
	}
}

// TestDatasetBytes holds both encodings to bytes written by hand from PS3.5 section 7.1.
func TestDatasetBytes(t *testing.T) {
	d := Dataset{Text(0x0020, 0x000d, "UI", "1.2"), sequence(0x0008, 0x1199, Dataset{Text(0x0008, 0x1155, "UI", "9")}), {Group: 0x0009, Number: 0x1010, Value: []byte("ab")}}
	for transfer, want := range map[string]string{
		ImplicitLE: "\x08\x00\x99\x11\x12\x00\x00\x00" + "\xfe\xff\x00\xe0\x0a\x00\x00\x00" + "\x08\x00\x55\x11\x02\x00\x00\x009\x00" +
			"\x09\x00\x10\x10\x02\x00\x00\x00ab" + "\x20\x00\x0d\x00\x04\x00\x00\x001.2\x00",
		ExplicitLE: "\x08\x00\x99\x11SQ\x00\x00\x12\x00\x00\x00" + "\xfe\xff\x00\xe0\x0a\x00\x00\x00" + "\x08\x00\x55\x11UI\x02\x009\x00" +
			"\x09\x00\x10\x10UN\x00\x00\x02\x00\x00\x00ab" + "\x20\x00\x0d\x00UI\x04\x001.2\x00",
	} {
		got, err := d.Encode(transfer)
		if err != nil || string(got) != want {
			t.Errorf("%s:\ngot  %q, %v\nwant %q", transfer, got, err, want)
		}
	}
	if d[0].Group != 0x0020 {
		t.Error("writing changed the caller's order")
	}
}

// open is a sequence and its items of undefined length, in explicit VR, around body.
func open(vr string, body []byte) []byte {
	return join([]byte("\x08\x00\x11\x11"+vr+"\x00\x00\xff\xff\xff\xff"), []byte("\xfe\xff\x00\xe0\xff\xff\xff\xff"), body,
		[]byte("\xfe\xff\x0d\xe0\x00\x00\x00\x00"), []byte("\xfe\xff\xdd\xe0\x00\x00\x00\x00"))
}

// TestDatasetUndefined reads sequences of undefined length; within UN all is implicit.
func TestDatasetUndefined(t *testing.T) {
	explicit := []byte("\x08\x00\x55\x11UI\x04\x001.2\x00")
	implicit := element(0x0008, 0x1155, []byte("1.2\x00")...)
	for name, c := range map[string]struct {
		b        []byte
		transfer string
	}{
		"explicit":             {open("SQ", explicit), ExplicitLE},
		"unknown":              {open("UN", implicit), ExplicitLE},
		"implicit, of a tag":   {join([]byte("\x08\x00\x11\x11\xff\xff\xff\xff"), open("SQ", implicit)[12:]), ImplicitLE},
		"implicit, of another": {join([]byte("\x09\x00\x11\x11\xff\xff\xff\xff"), open("SQ", implicit)[12:]), ImplicitLE},
		"implicit, lengths":    {element(0x0008, 0x1111, element(0xFFFE, 0xE000, implicit...)...), ImplicitLE},
	} {
		d, err := decodeDataset(c.b, c.transfer)
		if err != nil || len(d) != 1 || d[0].VR != "SQ" || len(d[0].Items) != 1 || d[0].Items[0].Get(0x0008, 0x1155) != "1.2" {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
}

// nested is n sequences in one another, implicit, of undefined length and without an end.
func nested(n int) []byte {
	return bytes.Repeat([]byte("\x08\x00\x11\x11\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"), n)
}

func closed(n int) []byte {
	return append(nested(n), bytes.Repeat([]byte("\xfe\xff\x0d\xe0\x00\x00\x00\x00\xfe\xff\xdd\xe0\x00\x00\x00\x00"), n)...)
}

// TestDatasetLimits takes what is just within each limit, and refuses what is just over it.
func TestDatasetLimits(t *testing.T) {
	many := func(n int) []byte { return bytes.Repeat(element(0x0009, 0x1010), n) }
	large := func(n int) []byte { return element(0x0009, 0x1010, make([]byte, n-8)...) }
	for name, c := range map[string]struct{ within, over []byte }{
		"depth":    {closed(maxDepth), closed(maxDepth + 1)},
		"nest":     {nil, nested(60_000)},
		"elements": {many(maxElements), many(maxElements + 1)},
		"items":    {element(0x0008, 0x1111, bytes.Repeat(element(0xFFFE, 0xE000), maxElements)...), element(0x0008, 0x1111, bytes.Repeat(element(0xFFFE, 0xE000), maxElements+1)...)},
		"bytes":    {large(maxDataset), large(maxDataset + 1)},
	} {
		if _, err := decodeDataset(c.within, ImplicitLE); err != nil {
			t.Errorf("%s: within: %v", name, err)
		}
		if _, err := decodeDataset(c.over, ImplicitLE); gantry.KindOf(err) != gantry.BadResponse || gantry.CodeOf(err) != gantry.CodeTooLarge {
			t.Errorf("%s: over: %v", name, err)
		}
	}
	// A stream is not read past the limit.
	r := strings.NewReader(strings.Repeat("\x00", 4*maxDataset))
	if _, err := readDataset(r, ImplicitLE); gantry.CodeOf(err) != gantry.CodeTooLarge || r.Len() < 2*maxDataset {
		t.Errorf("%v, %d bytes left", err, r.Len())
	}
}

func TestDatasetRefuses(t *testing.T) {
	item := element(0xFFFE, 0xE000)
	for name, c := range map[string]struct {
		b        string
		transfer string
	}{
		"half a header":                   {"\x08\x00\x16", ImplicitLE},
		"half a long header":              {"\x08\x00\x99\x11SQ\x00\x00", ExplicitLE},
		"a length over what remains":      {"\x08\x00\x16\x00\xfe\xff\xff\x7f12", ImplicitLE},
		"a length over what it is in":     {"\x08\x00\x11\x11\x12\x00\x00\x00\xfe\xff\x00\xe0\x0a\x00\x00\x00\x08\x00\x55\x11\x04\x00\x00\x009\x0012", ImplicitLE},
		"an item over its sequence":       {"\x08\x00\x11\x11\x08\x00\x00\x00\xfe\xff\x00\xe0\x0a\x00\x00\x00\x08\x00\x55\x11\x02\x00\x00\x009\x00", ImplicitLE},
		"no VR":                           {"\x08\x00\x16\x00\x04\x00\x00\x001.2\x00", ExplicitLE},
		"undefined length of a text":      {"\x08\x00\x16\x00UT\x00\x00\xff\xff\xff\xff", ExplicitLE},
		"no end of a sequence":            {string(nested(1)), ImplicitLE},
		"an item outside a sequence":      {string(item), ImplicitLE},
		"an element between items":        {string(element(0x0008, 0x1111, element(0x0008, 0x1155, []byte("12")...)...)), ImplicitLE},
		"a delimiter of nothing":          {string(element(0xFFFE, 0xE00D)), ImplicitLE},
		"a delimiter in defined length":   {string(element(0x0008, 0x1111, element(0xFFFE, 0xE0DD)...)), ImplicitLE},
		"a delimiter with a length":       {string(nested(1)) + "\xfe\xff\x0d\xe0\x02\x00\x00\x0012", ImplicitLE},
		"the wrong delimiter":             {string(nested(1)) + "\xfe\xff\xdd\xe0\x00\x00\x00\x00", ImplicitLE},
		"another element of that group":   {string(element(0xFFFE, 0x1234)), ImplicitLE},
		"a header over what it stands in": {"\x08\x00\x11\x11\x04\x00\x00\x00\xfe\xff\x00\xe0\x00\x00\x00\x00", ImplicitLE},
	} {
		if d, err := decodeDataset([]byte(c.b), c.transfer); gantry.KindOf(err) != gantry.BadResponse || gantry.CodeOf(err) != CodeMalformedDataset {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
	if _, err := decodeDataset(nil, ExplicitBE); gantry.CodeOf(err) != gantry.CodeUnsupportedFormat {
		t.Errorf("big endian: %v", err)
	}
}

func TestDatasetWriteRefuses(t *testing.T) {
	deep := Dataset{}
	for range maxDepth + 1 {
		deep = Dataset{sequence(0x0008, 0x1111, deep)}
	}
	many := make([]Dataset, maxElements+1)
	for name, c := range map[string]struct {
		d    Dataset
		code gantry.Code
	}{
		"twice":     {Dataset{Text(8, 0x16, "UI", "1"), Text(8, 0x18, "UI", "1"), Text(8, 0x16, "UI", "1")}, CodeMalformedDataset},
		"no VR":     {Dataset{Text(8, 0x16, "xx", "1")}, CodeMalformedDataset},
		"odd":       {Dataset{{Group: 8, Number: 0x16, VR: "UI", Value: []byte("1")}}, CodeMalformedDataset},
		"items":     {Dataset{{Group: 8, Number: 0x16, VR: "UI", Items: make([]Dataset, 1)}}, CodeMalformedDataset},
		"too long":  {Dataset{Text(8, 0x16, "LO", strings.Repeat("x", 0x10000))}, CodeMalformedDataset},
		"too large": {Dataset{Text(8, 0x16, "UT", strings.Repeat("x", maxDataset))}, gantry.CodeTooLarge},
		"too deep":  {deep, gantry.CodeTooLarge},
		"too many":  {Dataset{sequence(8, 0x1111, many...)}, gantry.CodeTooLarge},
	} {
		if _, err := c.d.Encode(ExplicitLE); gantry.KindOf(err) != gantry.Illegal || gantry.CodeOf(err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (Dataset{}).Encode(DeflatedLE); gantry.CodeOf(err) != gantry.CodeUnsupportedFormat {
		t.Errorf("deflated: %v", err)
	}
	deepest := deep[0].Items[0]
	if _, err := deepest.Encode(ExplicitLE); err != nil {
		t.Errorf("one sequence less: %v", err)
	}
}

// FuzzDataset reads what may be no data set; what is one, and can be written, is written the same again.
func FuzzDataset(f *testing.F) {
	for _, transfer := range []string{ImplicitLE, ExplicitLE} {
		b, _ := answerOf().Encode(transfer)
		f.Add(b, transfer == ImplicitLE)
	}
	f.Add(open("UN", element(0x0008, 0x1155, []byte("1.2\x00")...)), false)
	f.Add(closed(maxDepth), true)
	f.Add(nested(maxDepth+1), true)
	f.Fuzz(func(t *testing.T, b []byte, implicit bool) {
		transfer := ExplicitLE
		if implicit {
			transfer = ImplicitLE
		}
		d, err := decodeDataset(b, transfer)
		if err != nil {
			return
		}
		_ = d.Get(0x0008, 0x0018)
		_, _ = commitmentOf(d)
		once, err := d.Encode(transfer)
		if err != nil {
			return
		}
		again, err := decodeDataset(once, transfer)
		if err != nil {
			t.Fatalf("read what was written: %v", err)
		}
		if twice, err := again.Encode(transfer); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("written differently, %v", err)
		}
	})
}

func TestCommitmentRoundTrip(t *testing.T) {
	want := Commitment{
		Transaction: "1.2.3", Instances: []Reference{{"1.2", "1.2.4"}, {"1.2", "1.2.5"}},
		Failed: []Failed{{Reference{"1.2", "1.2.6"}, uint16(StatusNoSuchInstance)}},
	}
	for _, transfer := range []string{ImplicitLE, ExplicitLE} {
		d, err := want.dataset()
		if err != nil {
			t.Fatal(err)
		}
		b, err := d.Encode(transfer)
		if err != nil {
			t.Fatal(err)
		}
		if d, err = decodeDataset(b, transfer); err != nil {
			t.Fatal(err)
		}
		got, err := commitmentOf(d)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s, %v", diff, err)
		}
	}
}

func TestCommitmentRefuses(t *testing.T) {
	hostile := Reference{Class: "1.2", Instance: "../x"}
	for _, c := range []Commitment{{}, {Transaction: "x"}, {Transaction: "1", Instances: []Reference{hostile}}, {Transaction: "1", Failed: []Failed{{Reference: hostile}}}} {
		if _, err := c.dataset(); gantry.KindOf(err) != gantry.Illegal || gantry.CodeOf(err) != CodeBadUID {
			t.Errorf("%+v: %v", c, err)
		}
	}
	read := func(d Dataset) error { _, err := commitmentOf(d); return err }
	bad := Dataset{Text(0x0008, 0x1150, "UI", "1.2"), Text(0x0008, 0x1155, "UI", "../x")}
	for _, d := range []Dataset{nil, {Text(0x0008, 0x1195, "UI", "1"), sequence(0x0008, 0x1199, bad)}, {Text(0x0008, 0x1195, "UI", "1"), sequence(0x0008, 0x1198, nil)}} {
		if err := read(d); gantry.CodeOf(err) != CodeMalformedDataset {
			t.Errorf("%+v: %v", d, err)
		}
	}
	// A failure without a reason is one all the same.
	good := Dataset{Text(0x0008, 0x1150, "UI", "1.2"), Text(0x0008, 0x1155, "UI", "1.3")}
	c, err := commitmentOf(Dataset{Text(0x0008, 0x1195, "UI", "1"), sequence(0x0008, 0x1198, good)})
	if err != nil || len(c.Failed) != 1 || c.Failed[0].Reason != binary.LittleEndian.Uint16([]byte{0x10, 0x01}) {
		t.Errorf("%+v, %v", c, err)
	}
}
