package http

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func nested(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }

// goodTexts are JSON.
func goodTexts() []string {
	return []string{
		`{}`, `[]`, `""`, `0`, `-0`, `1`, `-12.5e+3`, `1E5`, `1e-0`, `0.0`, `true`, `false`, `null`, " \t\r\n{ } \n",
		`{"a":1,"b":[true,false,null,{"c":"d"}],"e":{}}`, `[[],[[]],{"":[]}]`, `"\"\\\/\b\f\n\r\t\u00e9\uD83D"`, `["é€𝄞"]`,
		`{"a":{"b":[{"c":[1,2,{"d":"e"}]}]},"f":-1.5}`, `{"a":1,"a":2}`, `123456789012345678901234567890`, "\"\u007f\"",
	}
}

// badTexts look like it.
func badTexts() []string {
	return []string{
		``, ` `, `{`, `}`, `[`, `]`, `"`, `{]`, `[}`, `[1,]`, `[,1]`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `{1:2}`, `{"a" 1}`, `{"a":1 "b":2}`,
		`[1 2]`, `1 2`, `{}{}`, `[]]`, `01`, `-`, `+1`, `.5`, `1.`, `1.e5`, `1e`, `1e+`, `--1`, `0x10`, `1_000`, `NaN`, `Infinity`, `-Infinity`, `nan`,
		`tru`, `truex`, `True`, `nul`, `nulll`, `fals`, `undefined`, `'a'`, `"\x"`, `"\u12g4"`, `"\u123"`, `"\`, "\"\n\"", "\"\t\"", "\"\x00\"",
		"\"\x80\"", "\"\xc3\"", "\"\xc0\xaf\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\"\xf5\x80\x80\x80\"", "\"\xe0\x80\x80\"", "\"\xf0\x80\x80\x80\"", "\"\xe2\x82\"", "\xef\xbb\xbf{}", "{}\x00", "// a\n{}", `{"a":1}x`, `[1]2`, `"a""b"`, `,`, `:`, `a`,
	}
}

func readJSON(r io.Reader) (string, error) {
	j := newJSONReader(r)
	b, err := io.ReadAll(j)
	if err == nil {
		err = j.ended()
	}
	return string(b), err
}

func TestJSONTexts(t *testing.T) {
	t.Parallel()
	for _, s := range append(goodTexts(), nested(512)) {
		for _, r := range []io.Reader{strings.NewReader(s), iotest.OneByteReader(strings.NewReader(s)), iotest.DataErrReader(strings.NewReader(s))} {
			if got, err := readJSON(r); err != nil || got != s {
				t.Errorf("%.40q: %v, read %.40q", s, err, got)
			}
		}
	}
	for _, s := range badTexts() {
		for _, r := range []io.Reader{strings.NewReader(s), iotest.OneByteReader(strings.NewReader(s)), iotest.DataErrReader(strings.NewReader(s))} {
			if _, err := readJSON(r); gantry.KindOf(err) != gantry.BadResponse || gantry.CodeOf(err) != CodeBadJSON {
				t.Errorf("%.40q: %v", s, err)
			}
		}
	}
}

func TestJSONDepth(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`{"a":[`, 256)
	if _, err := readJSON(strings.NewReader(deep + strings.Repeat("]}", 256))); err != nil {
		t.Errorf("512 levels: %v", err)
	}
	for _, s := range []string{nested(513), deep + "[", deep + "{", strings.Repeat("[", 10<<20)} {
		if _, err := readJSON(strings.NewReader(s)); gantry.KindOf(err) != gantry.BadResponse || gantry.CodeOf(err) != CodeJSONTooDeep {
			t.Errorf("%.20q of %d bytes: %v", s, len(s), err)
		}
	}
	// Which brackets are objects is remembered on every level, also where one was another before.
	if _, err := readJSON(strings.NewReader(`[` + strings.Repeat(`[[[]]],{"a":{"b":{}}},`, 3) + strings.Repeat(`{"a":`, 500) + "1" + strings.Repeat("}", 500) + "]")); err != nil {
		t.Error(err)
	}
	if _, err := readJSON(strings.NewReader(strings.Repeat("[", 300) + strings.Repeat("]", 150) + "}")); gantry.CodeOf(err) != CodeBadJSON {
		t.Errorf("a wrong bracket: %v", err)
	}
}

func TestJSONSize(t *testing.T) {
	t.Parallel()
	long := func(n int64) io.Reader {
		return io.MultiReader(strings.NewReader(`"`), io.LimitReader(letters{}, n-2), strings.NewReader(`"`))
	}
	if n, err := io.Copy(io.Discard, newJSONReader(long(maxJSONSize))); err != nil || n != maxJSONSize {
		t.Errorf("the largest: %d bytes, %v", n, err)
	}
	n, err := io.Copy(io.Discard, newJSONReader(long(maxJSONSize+1)))
	if gantry.KindOf(err) != gantry.BadResponse || gantry.CodeOf(err) != CodeJSONTooLarge || n > maxJSONSize {
		t.Errorf("one byte more: %d bytes, %v", n, err)
	}
}

type letters struct{}

func (letters) Read(p []byte) (int, error) {
	copy(p, bytes.Repeat([]byte("a"), len(p)))
	return len(p), nil
}

func TestJSONReaderKeepsErrors(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	j := newJSONReader(failing{strings.NewReader(`{"a"`), broken})
	for range 2 {
		if _, err := io.ReadAll(j); err != broken || j.ended() != broken {
			t.Errorf("%v, ended %v", err, j.ended())
		}
	}
	if err := newJSONReader(strings.NewReader("{}")).ended(); err == nil {
		t.Error("a text that nobody read has ended")
	}
}

// The automaton agrees with encoding/json, whose strings may be no UTF-8 and whose depth is larger.
func FuzzJSON(f *testing.F) {
	for _, s := range append(append([]string{nested(512), nested(513)}, goodTexts()...), badTexts()...) {
		f.Add([]byte(s), uint8(3))
	}
	f.Fuzz(func(t *testing.T, b []byte, cut uint8) {
		var text jsonText
		at := min(int(cut), len(b))
		text.write(b[:at])
		text.write(b[at:])
		got := text.complete()
		if text.depth > maxJSONDepth {
			return
		}
		if want := json.Valid(b) && utf8.Valid(b); got != want {
			t.Errorf("%q: %t, want %t", b, got, want)
		}
	})
}

func BenchmarkJSON(b *testing.B) {
	text := []byte(`{"scores": [` + strings.Repeat(`0.123456, {"label": "left ventricle", "box": [1, 2, 3, 4]}, `, 1000) + `null]}`)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := io.Copy(io.Discard, newJSONReader(bytes.NewReader(text))); err != nil {
			b.Fatal(err)
		}
	}
}
