package http

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// answered makes a call that is answered with a body.
func answered(t *testing.T, c ProcessorConfig, contentType, body string) ([]output, error) {
	t.Helper()
	p := openProcessor(t, c, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", contentType)
		io.WriteString(w, body)
	})
	var out []output
	err := p.Process(t.Context(), request(&out, "x"))
	return out, err
}

// lines are joined as they stand on the wire.
func lines(s ...string) string { return strings.Join(s, "\r\n") }

func TestMultipartAnswers(t *testing.T) {
	t.Parallel()
	two := lines("preamble", "--B", "Content-Type: image/png", `Content-Disposition: form-data; name="a"; filename="../../x"`, "", "PNG\r\n--C", "--B",
		"content-type: application/json; charset=utf-8", "Content-Transfer-Encoding: BINARY", "", `{"a":1}`, "--B--", "epilogue")
	want := []output{{"image/png", -1, "PNG\r\n--C"}, {"application/json", -1, `{"a":1}`}}
	for _, contentType := range []string{"multipart/mixed; boundary=B", `Multipart/Form-Data; boundary="B"`} {
		for _, answer := range []string{"", "auto", "multipart"} {
			got, err := answered(t, ProcessorConfig{Answer: answer}, contentType, two)
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("%s, answer %s: %v (-want +got):\n%s", contentType, answer, err, diff)
			}
		}
	}
	for body, n := range map[string]int{
		lines("--B--", ""): 0, "--B-- \t": 0, "": 0,
		lines("--B", "Content-Type: application/x-npy", "", "", "--B--"): 1, // of no bytes: whoever receives it judges it
		"--B\nContent-Type: application/dicom\n\nDICM\n--B--":            1,
	} {
		if got, err := answered(t, ProcessorConfig{}, "multipart/mixed; boundary=B", body); err != nil || len(got) != n {
			t.Errorf("%q: %d outputs, %v", body, len(got), err)
		}
	}
}

func TestMultipartAnswerOfManyParts(t *testing.T) {
	t.Parallel()
	for n, ok := range map[int]bool{1000: true, 1001: false, 100_000: false} {
		body := strings.Repeat(lines("--B", "Content-Type: image/png", "", "x", ""), n) + "--B--"
		got, err := answered(t, ProcessorConfig{}, "multipart/mixed; boundary=B", body)
		if ok != (err == nil) || !ok && (gantry.CodeOf(err) != CodeTooManyOutputs || gantry.KindOf(err) != gantry.BadResponse) || len(got) != 1000 {
			t.Errorf("%d parts: %d outputs, %v", n, len(got), err)
		}
	}
}

func TestMultipartAnswersThatAreNotTaken(t *testing.T) {
	t.Parallel()
	const mixed = "multipart/mixed; boundary=B"
	for what, c := range map[string]struct {
		contentType, body string
		code              gantry.Code
	}{
		"no end":            {mixed, lines("--B", "Content-Type: image/png", "", "PNG"+secret), CodeBadMultipart},
		"no last end":       {mixed, lines("--B", "Content-Type: image/png", "", "PNG", "--B"), CodeBadMultipart},
		"no last header":    {mixed, lines("--B", "Content-Type: image/png", "", "PNG", "--B", ""), CodeBadMultipart},
		"half a header":     {mixed, lines("--B", "Content-Type: image"), CodeBadMultipart},
		"no parts":          {mixed, secret, CodeBadMultipart},
		"no header":         {mixed, lines("--B", secret, "", "PNG", "--B--"), CodeBadMultipart},
		"no type":           {mixed, lines("--B", "X-A: b", "", "PNG", "--B--"), CodeMediaType},
		"a nested one":      {mixed, lines("--B", "Content-Type: multipart/mixed; boundary=C", "", "--C--", "--B--"), CodeMediaType},
		"another type":      {mixed, lines("--B", "Content-Type: x/"+secret, "", "PNG", "--B--"), CodeMediaType},
		"an encoded part":   {mixed, lines("--B", "Content-Type: image/png", "Content-Transfer-Encoding: base64", "", "UE5H", "--B--"), CodeEncoded},
		"a quoted part":     {mixed, lines("--B", "Content-Type: image/png", "Content-Transfer-Encoding: quoted-printable", "", "=50", "--B--"), CodeEncoded},
		"a packed part":     {mixed, lines("--B", "Content-Type: image/png", "Content-Encoding: gzip", "", "x", "--B--"), CodeEncoded},
		"bad JSON":          {mixed, lines("--B", "Content-Type: application/json", "", secret, "--B--"), CodeBadJSON},
		"a deep JSON":       {mixed, lines("--B", "Content-Type: application/json", "", nested(600), "--B--"), CodeJSONTooDeep},
		"a giant header":    {mixed, lines("--B", "Content-Type: image/png", "X-A: "+strings.Repeat(secret, 10_000), "", "PNG", "--B--"), CodeBadMultipart},
		"many headers":      {mixed, lines("--B", strings.Repeat("X-A: b\r\n", 20_000), "", "PNG", "--B--"), CodeBadMultipart},
		"a giant preamble":  {mixed, lines(strings.Repeat("x\r\n", 100_000), "--B", "Content-Type: image/png", "", "PNG", "--B--"), CodeBadMultipart},
		"a giant epilogue":  {mixed, lines("--B", "Content-Type: image/png", "", "PNG", "--B--", strings.Repeat("x", 1<<20)), CodeBadMultipart},
		"no boundary":       {"multipart/mixed", "--B--", CodeBadMultipart},
		"an empty boundary": {`multipart/mixed; boundary=""`, "--B--", CodeBadMultipart},
		"a long boundary":   {"multipart/mixed; boundary=" + strings.Repeat("b", 71), "--B--", CodeBadMultipart},
		"related":           {"multipart/related; boundary=B", lines("--B", "Content-Type: image/png", "", "PNG", "--B--"), CodeMediaType},
	} {
		out, err := answered(t, ProcessorConfig{}, c.contentType, c.body)
		if err == nil || gantry.KindOf(err) != gantry.BadResponse || gantry.CodeOf(err) != c.code || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v (%s, %s)", what, err, gantry.KindOf(err), gantry.CodeOf(err))
		}
		if len(out) > 1 || len(out) == 1 && out[0].Body != "PNG" {
			t.Errorf("%s: %v", what, out)
		}
	}
	for _, c := range [][2]string{{"multipart", "image/png"}, {"multipart", "application/json"}, {"base64", "image/png"}, {"base64", mixed}} {
		if _, err := answered(t, ProcessorConfig{Answer: c[0]}, c[1], "{}"); gantry.CodeOf(err) != CodeMediaType {
			t.Errorf("answer %s takes %s: %v", c[0], c[1], err)
		}
	}
}

// Control: without its bound, the header of a part may be of any size.
func TestPartHeaderIsBounded(t *testing.T) {
	t.Parallel()
	body := lines("--B", "Content-Type: image/png", "X-A: "+strings.Repeat("x", 2*maxPartHeader), "", "PNG", "--B--")
	p := newParts(bufio.NewReader(strings.NewReader(body)), "B")
	if part, err := p.all.NextRawPart(); part == nil {
		t.Fatalf("newParts bounds by itself: %v", err)
	}
	p = newParts(bufio.NewReader(strings.NewReader(body)), "B")
	if part, err := p.next(); part != nil || gantry.CodeOf(err) != CodeBadMultipart {
		t.Errorf("bounded: %v", err)
	}
}

// FuzzParts holds what is taken to what was written: an answer that ends well says the same again
// when its outputs are put into another.
func FuzzParts(f *testing.F) {
	f.Add([]byte(lines("--B", "Content-Type: image/png", "", "PNG", "--B--")))
	f.Add([]byte(lines("x", "--B", "Content-Type: application/json", "", "{}", "--B", "Content-Type: image/jpeg", "", "", "--B--", "")))
	f.Add([]byte("--B\nContent-Type: image/png\n\nx\n--B--"))
	f.Add([]byte("--B\r\nContent-Type: image"))
	hand := func(t *testing.T, b []byte) ([]output, error) {
		var out []output
		err := newParts(bufio.NewReader(bytes.NewReader(b)), "B").hand(t.Context(), request(&out))
		return out, err
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		out, err := hand(t, b)
		if err != nil {
			if gantry.KindOf(err) != gantry.BadResponse {
				t.Fatalf("%v is %s", err, gantry.KindOf(err))
			}
			return
		}
		var again bytes.Buffer
		for _, o := range out {
			if strings.Contains(o.Body, "\n--B") || strings.HasPrefix(o.Body, "--B") {
				return
			}
			fmt.Fprintf(&again, "--B\r\nContent-Type: %s\r\n\r\n%s\r\n", o.Media, o.Body)
		}
		again.WriteString("--B--")
		got, err := hand(t, again.Bytes())
		if diff := cmp.Diff(out, got); diff != "" || err != nil {
			t.Fatalf("%v (-want +got):\n%s", err, diff)
		}
	})
}
