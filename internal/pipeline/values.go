package pipeline

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// need is how many processors of a fanout must answer; 0: all.
type need int

// UnmarshalText reads all, any, or a number of processors.
func (n *need) UnmarshalText(b []byte) error {
	switch text := string(b); text {
	case "all":
		*n = 0
	case "any":
		*n = 1
	default:
		i, err := strconv.Atoi(text)
		if err != nil || i < 1 || i > maxEntries || strconv.Itoa(i) != text {
			return fmt.Errorf("%s is neither all, any nor a number from 1%s", short(text), didYouMean(nearest(text, []string{"all", "any"})))
		}
		*n = need(i)
	}
	return nil
}

// MarshalText gives all or the number.
func (n need) MarshalText() ([]byte, error) {
	if n == 0 {
		return []byte("all"), nil
	}
	return strconv.AppendInt(nil, int64(n), 10), nil
}

// sample is how many frames are taken per second.
type sample Rate

// UnmarshalText reads a rate, or a number that is meant per second.
func (s *sample) UnmarshalText(b []byte) error {
	text := string(b)
	if !strings.Contains(text, "/") {
		if _, err := parseNumber(text); err != nil {
			return fmt.Errorf("%s is no rate such as 5/s", short(text))
		}
		text += "/s"
	}
	return (*Rate)(s).UnmarshalText([]byte(text))
}

// MarshalText gives the rate per second.
func (s sample) MarshalText() ([]byte, error) { return Rate(s).MarshalText() }

// window is file, full, stored or center/width.
type window string

// UnmarshalText reads one of the words, or the center and width of a window (PS3.3 section
// C.11.2.1.2), whose width is at least 1.
func (w *window) UnmarshalText(b []byte) error {
	text := string(b)
	center, width, two := strings.Cut(text, "/")
	switch {
	case two:
		_, err := parseNumber(center)
		size, bad := parseNumber(width)
		if err != nil || bad != nil || size < 1 {
			return fmt.Errorf("%s is no window such as -600/1500, a center and a width from 1", short(text))
		}
	case text != "file" && text != "full" && text != "stored":
		return fmt.Errorf("%s is neither file, full, stored nor center/width%s", short(text), didYouMean(nearest(text, []string{"file", "full", "stored"})))
	}
	*w = window(text)
	return nil
}

// MarshalText gives it as it was written.
func (w window) MarshalText() ([]byte, error) { return []byte(w), nil }

// outputs is a number of files; below 0: any.
type outputs int

// UnmarshalText reads any or a number.
func (o *outputs) UnmarshalText(b []byte) error {
	text := string(b)
	if text == "any" {
		*o = -1
		return nil
	}
	i, err := strconv.ParseUint(text, 10, 31)
	if err != nil || strconv.FormatUint(i, 10) != text {
		return fmt.Errorf("%s is neither any nor a number", short(text))
	}
	*o = outputs(i)
	return nil
}

// MarshalText gives any or the number.
func (o outputs) MarshalText() ([]byte, error) {
	if o < 0 {
		return []byte("any"), nil
	}
	return strconv.AppendInt(nil, int64(o), 10), nil
}

// answer decodes what may be any JSON: objects, lists, texts, numbers, true, false, null.
func (d *decoder) answer(n *yaml.Node, path string) any {
	switch {
	case n.Kind == yaml.AliasNode || tagged(n):
		return nil // reported by checkPlain
	case n.Kind == yaml.MappingNode:
		out := map[string]any{}
		for _, p := range d.pairs(n, path) {
			out[p.name] = d.answer(p.value, join(path, p.name))
		}
		return out
	case n.Kind == yaml.SequenceNode:
		out := make([]any, len(n.Content))
		for i, c := range n.Content {
			out[i] = d.answer(c, fmt.Sprintf("%s[%d]", path, i))
		}
		return out
	}
	switch n.Tag {
	case "!!null":
		return nil
	case "!!bool":
		return n.Value == "true"
	case "!!int", "!!float":
		f, err := parseNumber(n.Value)
		if err != nil {
			d.at(n, "%s: %v", last(path), err)
		}
		return f
	}
	return n.Value
}
