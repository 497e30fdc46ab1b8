package models

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/textproto"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// zipped packs bodies in their order.
func zipped(t testing.TB, method uint16, bodies ...[]byte) request {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i, x := range bodies {
		w, err := z.CreateHeader(&zip.FileHeader{Name: fmt.Sprintf("d/%06d", i+1), Method: method})
		if err != nil {
			t.Fatal(err)
		}
		w.Write(x)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return request{gantry.MediaZIP, b.Bytes()}
}

// formed is a form with a field that is no file, then the files.
func formed(t testing.TB, bodies ...[]byte) request {
	t.Helper()
	var b bytes.Buffer
	m := multipart.NewWriter(&b)
	if err := m.WriteField("model", "lung"); err != nil {
		t.Fatal(err)
	}
	for i, x := range bodies {
		w, err := m.CreatePart(textproto.MIMEHeader{"Content-Disposition": {fmt.Sprintf(`form-data; name="file"; filename="%06d.png"`, i)},
			"Content-Type": {gantry.MediaPNG}})
		if err != nil {
			t.Fatal(err)
		}
		w.Write(x)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	return request{m.FormDataContentType(), b.Bytes()}
}

// spelt is JSON with the bodies in base64.
func spelt(t testing.TB, bodies ...[]byte) request {
	t.Helper()
	items := []map[string]string{}
	for _, x := range bodies {
		items = append(items, map[string]string{"name": "a", "media": gantry.MediaPNG, "data": base64.StdEncoding.EncodeToString(x)})
	}
	b, err := json.Marshal(map[string]any{"items": items, "more": 1})
	if err != nil {
		t.Fatal(err)
	}
	return request{gantry.MediaJSON + "; charset=utf-8", b}
}

// TestItems takes the same items out of every form of request.
func TestItems(t *testing.T) {
	t.Parallel()
	want := [][]byte{encoded(t, xray()), []byte(`{"score": 0.5}`), slice()}
	for name, r := range map[string]request{
		"stored": zipped(t, zip.Store, want...), "deflated": zipped(t, zip.Deflate, want...),
		"form": formed(t, want...), "json": spelt(t, want...),
	} {
		got, err := r.items(1 << 20)
		if d := cmp.Diff(want, got); err != nil || d != "" {
			t.Errorf("%s: %v %s", name, err, d)
		}
	}
	for name, r := range map[string]request{"an image": {"", want[0]}, "an answer": {gantry.MediaJSON, want[1]}, "a list": {gantry.MediaJSON, []byte(`[1]`)}} {
		if got, err := r.items(1 << 20); err != nil || len(got) != 1 || !bytes.Equal(got[0], r.body) {
			t.Errorf("%s: %d items, %v", name, len(got), err)
		}
	}
	inputs := spelt(t, want...)
	inputs.body = bytes.Replace(inputs.body, []byte(`"items"`), []byte(`"inputs"`), 1)
	if got, err := inputs.items(1 << 20); err != nil || len(got) != 3 || !bytes.Equal(got[2], want[2]) {
		t.Errorf("inputs: %d, %v", len(got), err)
	}
	mixed := request{"multipart/mixed; boundary=x", []byte("--x\r\nContent-Type: image/png\r\n\r\none\r\n--x--\r\n")}
	if got, err := mixed.items(1 << 20); err != nil || len(got) != 1 || string(got[0]) != "one" {
		t.Errorf("mixed: %q, %v", got, err)
	}
}

// TestHostileBundles refuses what promises or hides more than it may.
func TestHostileBundles(t *testing.T) {
	t.Parallel()
	bomb := zipped(t, zip.Deflate, make([]byte, 8<<20), make([]byte, 8<<20))
	whole := zipped(t, zip.Store, []byte("one"), []byte("two"))
	broken := bytes.Clone(whole.body)
	broken[bytes.Index(broken, []byte("two"))] = 'x' // against its CRC
	secret := bytes.Clone(whole.body)
	for _, head := range []string{"PK\x03\x04", "PK\x01\x02"} {
		secret[bytes.Index(secret, []byte(head))+map[string]int{"PK\x03\x04": 8, "PK\x01\x02": 10}[head]] = 99 // a method that nobody knows
	}
	form := formed(t, []byte("one"))
	crowd := zipped(t, zip.Store, make([][]byte, maxItems+1)...)
	for name, c := range map[string]struct {
		in   request
		most int64
		code gantry.Code
	}{
		"empty":            {request{}, 1, gantry.CodeEmpty},
		"a bomb":           {bomb, 12 << 20, gantry.CodeTooLarge},
		"a crowd":          {crowd, 1 << 20, codeTooMany},
		"no directory":     {request{"", whole.body[:60]}, 1 << 20, gantry.CodeMalformed},
		"a wrong CRC":      {request{"", broken}, 1 << 20, gantry.CodeMalformed},
		"a strange method": {request{"", secret}, 1 << 20, gantry.CodeMalformed},
		"no boundary":      {request{"multipart/form-data", form.body}, 1 << 20, gantry.CodeMalformed},
		"a form cut off":   {request{form.media, form.body[:len(form.body)-20]}, 1 << 20, gantry.CodeMalformed},
		"no form":          {request{"multipart/form-data; boundary=x", []byte("none")}, 1 << 20, gantry.CodeMalformed},
		"no JSON":          {request{gantry.MediaJSON, []byte(`{"items": [`)}, 1 << 20, gantry.CodeMalformed},
		"no base64":        {request{gantry.MediaJSON, []byte(`{"items": [{"data": "*"}]}`)}, 1 << 20, gantry.CodeMalformed},
	} {
		_, err := c.in.items(c.most)
		if gantry.CodeOf(err) != c.code || gantry.KindOf(err) != gantry.Illegal {
			t.Errorf("%s: %v (%s), want %s", name, err, gantry.CodeOf(err), c.code)
		}
	}
	if got, err := bomb.items(16 << 20); err != nil || len(got) != 2 { // the control: with room it is taken
		t.Errorf("%d items, %v", len(got), err)
	}
}

// FuzzItems takes any bytes apart as each form; nothing over the bound comes out, and every refusal
// is one.
func FuzzItems(f *testing.F) {
	small := [][]byte{[]byte("one"), []byte(`{"score": 1}`)}
	for _, r := range []request{zipped(f, zip.Deflate, small...), formed(f, small...), spelt(f, small...), {"", []byte("PK\x05\x06")}} {
		f.Add(r.media, r.body)
	}
	s := newService(Options{MaxBody: 1 << 16})
	s.maxPixels = 1 << 12
	f.Fuzz(func(t *testing.T, media string, body []byte) {
		r := request{media, body}
		items, err := r.items(1 << 16)
		total := 0
		for _, x := range items {
			total += len(x)
		}
		if err == nil && total > max(1<<16, len(body)) || err != nil && gantry.KindOf(err) != gantry.Illegal {
			t.Fatalf("%d bytes, %v", total, err)
		}
		var out bytes.Buffer
		if _, err := s.report(r, &out); err == nil && !json.Valid(out.Bytes()) {
			t.Fatalf("%q", out.Bytes())
		}
	})
}
