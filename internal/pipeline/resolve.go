package pipeline

import (
	"bytes"
	"crypto/sha256"
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// resolve writes what a version consists of: the file's own grammar as JSON on one line, keys
// sorted, defaults filled in, variables put in and paths absolute, secrets as references; without
// the keys that may change under a running task. The same file read again gives the same bytes.
func resolve(f *file) ([]byte, gantry.Digest, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(plain(reflect.ValueOf(f).Elem())); err != nil {
		return nil, gantry.Digest{}, fmt.Errorf("write the resolved pipeline: %w", err)
	}
	out := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	return out, sha256.Sum256(out), nil
}

// plain turns a value into what encoding/json writes as the file's grammar. A field that is zero
// and has no default is left out: reading it back gives zero again.
func plain(v reflect.Value) any {
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		text, err := m.MarshalText()
		if err != nil {
			panic(fmt.Sprintf("pipeline: write a %s: %v", v.Type(), err))
		}
		return string(text)
	}
	if d, ok := v.Interface().(time.Duration); ok {
		return formatDuration(d)
	}
	switch v.Kind() {
	case reflect.Struct:
		out := map[string]any{}
		for _, f := range schemaOf(v).fields {
			_, hasDefault := f.tag.Lookup("default")
			if f.tag.Get("version") != "no" && (hasDefault || !empty(f.v)) {
				out[f.name] = plain(f.v)
			}
		}
		return out
	case reflect.Map:
		out := map[string]any{}
		for _, k := range v.MapKeys() {
			out[k.String()] = plain(v.MapIndex(k))
		}
		return out
	case reflect.Slice:
		out := make([]any, v.Len())
		for i := range out {
			out[i] = plain(v.Index(i))
		}
		return out
	}
	return v.Interface()
}

// empty tells whether a field holds nothing; a list or map without entries is as good as none.
func empty(v reflect.Value) bool {
	if v.Kind() == reflect.Slice || v.Kind() == reflect.Map {
		return v.Len() == 0
	}
	return v.IsZero()
}
