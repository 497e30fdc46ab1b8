package http

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const pngHead = "\x89PNG\r\n\x1a\n"

func encode(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestBase64Answers(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("0123456789", 123_457)
	dicm := strings.Repeat("\x00", 128) + "DICM rest"
	for body, want := range map[string][]output{
		`{"outputs":[]}`: nil,
		`{"outputs":[{"media":"image/png","data":"` + encode("PNG") + `"}]}`:                          {{"image/png", -1, "PNG"}},
		`{"outputs":[{"data":"` + encode(pngHead+"x") + `","media":"image/png"}]}`:                    {{"image/png", -1, pngHead + "x"}},
		`{"outputs":[{"data":"` + encode(dicm) + `"},{"data":"` + encode("\xff\xd8\xff\xe0") + `"}]}`: {{gantry.MediaDICOM, -1, dicm}, {"image/jpeg", -1, "\xff\xd8\xff\xe0"}},
		`{"outputs":[{"media":"image/jpeg","data":""}]}`:                                              {{"image/jpeg", -1, ""}},
		`{"outputs":[{"media":"application/dicom","data":"` + encode(long) + `"}]}`:                   {{gantry.MediaDICOM, -1, long}},
		`{"outputs":[{"media":"application/json","data":"` + encode(`{"a":1}`) + `"}]}`:               {{gantry.MediaJSON, -1, `{"a":1}`}},
		`{"outputs":[{"media":"image\/png","data":"+\/\u002b\u002F"}]}`:                               {{"image/png", -1, "\xfb\xff\xbf"}},
		`{"outputs":[{"media":"image/png","data":"UE\r\n5\nH\u000a"}]}`:                               {{"image/png", -1, "PNG"}},
		"\n{ \"\\u006futputs\" : [ { \"media\" : \"image/png\" ,\t\"data\" : \"UE5H\" } ] }\r\n":      {{"image/png", -1, "PNG"}},
		`{"outputs":[{"media":"image/png","data":"UE5H","label":"lung"}],"v":[true,null,-1.5e3],"x":12}`: {{"image/png", -1, "PNG"},
			{gantry.MediaJSON, 78, `{"outputs":[{"media":"image/png","label":"lung"}],"v":[true,null,-1.5e3],"x":12}`}},
	} {
		for i, o := range want {
			if o.Size >= 0 {
				want[i].Size = int64(len(o.Body))
			}
		}
		got, err := answered(t, ProcessorConfig{Answer: "base64"}, "application/json", body)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%.80s: %v (-want +got):\n%.500s", body, err, diff)
		}
	}
}

func TestBase64AnswersThatAreNotTaken(t *testing.T) {
	t.Parallel()
	data := func(s string) string { return `{"outputs":[{"media":"image/png","data":"` + s + `"}]}` }
	for code, bodies := range map[gantry.Code][]string{
		CodeBadBase64: {data("@@@@"), data("UE5"), data("UE5H="), data("UB=="), data("UA==UA=="), data("UF-_"), data("UE5H UE5H"), data("é" + secret),
			data("UA==" + strings.Repeat("A", 8192)), data(strings.Repeat("A", 4092) + "UA==UA=="), data(`\t`), data(`\u00e9`), data(`\u00zz`), data(strings.Repeat("A", 100_001))},
		CodeBadJSON: {data("UE5H\n"), data(`"`), `{"outputs":[{"media":"image/png","data":"UE5H`, `{"outputs":[{"media":"image/png","data":"UE5H\`,
			`{"outputs":[{"media":"image/png","data":"UE5H\u0`, `{"outputs":[{"media":"image/png","data":null}]}`, `{"outputs":[{"media":5,"data":"UE5H"}]}`,
			`{"outputs":[{"media":"image/png","data":"UE5H"},]}`, `{"outputs":[,]}`, `{"outputs":{}}`, `{"outputs":null}`, `{"outputs":["UE5H"]}`, `[]`, `"a"`, ` `,
			`{"outputs":[]}x`, `{"outputs":[]}{}`, `{"outputs":[],}`, `{,"outputs":[]}`, `{"outputs" []}`, `{"a":NaN,"outputs":[]}`, `{"a":01,"outputs":[]}`,
			`{"a":tru,"outputs":[]}`, `{"outputs":[]`, secret, `{"a":"` + "\xff" + `","outputs":[]}`, `{a:1}`, `{"a" "b"}`,
			`{"outputs":[{"media":"application/json","data":"` + encode(secret) + `"}]}`},
		CodeBadOutputs: {`{}`, `{"a":1}`, `{"outputs":[],"outputs":[]}`, `{"outputs":[{}]}`, `{"outputs":[{"media":"image/png"}]}`,
			`{"outputs":[{"media":"image/png","media":"image/png","data":"UE5H"}]}`, `{"outputs":[{"media":"image/png","data":"UE5H","data":"UE5H"}]}`,
			`{"outputs":[{"data":"UE5H","media":"image/png"}]}`, `{"outputs":[{"data":"` + encode(pngHead) + `","media":"image/jpeg"}]}`},
		CodeMediaType: {`{"outputs":[{"media":"text/html","data":"UE5H"}]}`, `{"outputs":[{"media":"","data":"UE5H"}]}`,
			`{"outputs":[{"media":"x/` + strings.Repeat(secret, 100) + `","data":"UE5H"}]}`},
		CodeJSONTooDeep:    {`{"a":` + nested(600) + `,"outputs":[]}`, `{"a":` + strings.Repeat("[", 100_000), strings.Repeat(`{"a":`, 100_000)},
		CodeJSONTooLarge:   {`{"a":"` + strings.Repeat("x", maxRest) + `","outputs":[]}`, `{"` + strings.Repeat("x", maxRest) + `":1,"outputs":[]}`},
		CodeTooManyOutputs: {`{"outputs":[` + strings.Repeat(`{"media":"image/png","data":""},`, 100_000)},
	} {
		for _, body := range bodies {
			_, err := answered(t, ProcessorConfig{Answer: "base64"}, "application/json", body)
			if err == nil || gantry.KindOf(err) != gantry.BadResponse || gantry.CodeOf(err) != code || strings.Contains(err.Error(), secret) {
				t.Errorf("%.80s: %v (%s), want %s", body, err, gantry.CodeOf(err), code)
			}
		}
	}
}

// FuzzOutputs holds what is taken to encoding/json and encoding/base64, however the bytes come.
func FuzzOutputs(f *testing.F) {
	f.Add([]byte(`{"outputs":[{"media":"image/png","data":"UE5H"}],"score":[0.5,{"a":null}]}`))
	f.Add([]byte(`{"a":{"outputs":[]},"outputs":[{"x":"y","data":"iVBORw0KGgo=","media":"image/png"}]}`))
	f.Add([]byte(`{"outputs":[{"media":"image/jpeg","data":"+\/\u002b\n\r\u002F"},{"media":"application/json","data":"e30="}]}`))
	hand := func(t *testing.T, r io.Reader) ([]output, error) {
		var out []output
		err := (&outputs{r: bufio.NewReader(r), receive: receiver(t.Context(), request(&out))}).hand()
		return out, err
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		out, err := hand(t, bytes.NewReader(b))
		slow, slowErr := hand(t, iotest.OneByteReader(bytes.NewReader(b)))
		if diff := cmp.Diff(out, slow); diff != "" || fmt.Sprint(err) != fmt.Sprint(slowErr) {
			t.Fatalf("in pieces: %v, %v (-whole +pieces):\n%s", err, slowErr, diff)
		}
		if err != nil {
			if gantry.KindOf(err) != gantry.BadResponse {
				t.Fatalf("%v is %s", err, gantry.KindOf(err))
			}
			return
		}
		var all map[string]json.RawMessage
		var list []map[string]json.RawMessage
		if err := json.Unmarshal(b, &all); err != nil {
			t.Fatalf("taken, and no JSON: %v", err)
		}
		if err := json.Unmarshal(all["outputs"], &list); err != nil || len(list) != len(out) && len(list) != len(out)-1 {
			t.Fatalf("%d outputs of %d: %v", len(out), len(list), err)
		}
		for i, x := range list {
			var data string
			if err := json.Unmarshal(x["data"], &data); err != nil {
				t.Fatal(err)
			}
			if want, err := base64.StdEncoding.DecodeString(data); err != nil || string(want) != out[i].Body {
				t.Fatalf("output %d is %q, want %q: %v", i, out[i].Body, want, err)
			}
		}
		if len(out) > len(list) && !json.Valid([]byte(out[len(list)].Body)) {
			t.Fatalf("the rest is no JSON: %q", out[len(list)].Body)
		}
	})
}
