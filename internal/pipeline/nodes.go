package pipeline

import (
	"strings"

	"go.yaml.in/yaml/v4"
)

// place is where a key and its value stand. List entries have no key of their own.
type place struct{ key, value *yaml.Node }

// placeOf finds where a path stands, or for what is absent the nearest path around it.
func (d *decoder) placeOf(path string) place {
	for ; path != ""; path = path[:max(0, strings.LastIndexAny(path, ".["))] {
		if p, ok := d.places[path]; ok {
			return p
		}
	}
	return place{nil, d.root}
}

// keyOf gives the node of a path's key; of its value, if it is an entry of a list.
func (d *decoder) keyOf(path string) *yaml.Node {
	if p := d.placeOf(path); p.key != nil {
		return p.key
	}
	return d.placeOf(path).value
}

// pair is one key of a mapping with its value.
type pair struct {
	name       string
	key, value *yaml.Node
}

// pairs gives the keys of a mapping, each once, and remembers where they stand.
func (d *decoder) pairs(n *yaml.Node, path string) []pair {
	if len(n.Content)/2 > maxEntries {
		d.at(n, "%d keys, more than the %d allowed", len(n.Content)/2, maxEntries)
		n.Content = n.Content[:2*maxEntries]
	}
	var pairs []pair
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		switch {
		case k.Kind == yaml.AliasNode || tagged(k):
			continue
		case k.Tag == "!!merge":
			d.at(k, "merge key <<: pipeline files have no merge keys")
			continue
		case k.Kind != yaml.ScalarNode || k.Value == "" || len(k.Value) > maxKey || strings.ContainsFunc(k.Value, notInKey):
			d.at(k, "a key is one line of text of 1 to %d bytes", maxKey)
			continue
		case seen[k.Value] > 0:
			d.at(k, "key %s stands twice, first in line %d", short(k.Value), seen[k.Value])
			continue
		}
		seen[k.Value] = k.Line
		d.places[join(path, k.Value)] = place{k, n.Content[i+1]}
		pairs = append(pairs, pair{k.Value, k, n.Content[i+1]})
	}
	return pairs
}

func notInKey(c rune) bool { return c == '\n' || !printable(c) }

// is checks what sort of node stands at a path.
func (d *decoder) is(n *yaml.Node, path string, want yaml.Kind) bool {
	have := nodeKind(n)
	if n.Kind == want && have != "nothing" {
		return true
	}
	wanted := map[yaml.Kind]string{yaml.ScalarNode: "one value", yaml.SequenceNode: "a list", yaml.MappingNode: "a mapping of keys to values"}[want]
	d.at(n, "%swant %s, have %s", prefix(last(path)), wanted, have)
	return false
}

func nodeKind(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Tag == "!!null":
		return "nothing"
	}
	return "one value"
}

// join makes the path of a key.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// last gives the key that a path ends in, without the index of a list entry.
func last(path string) string {
	path = path[strings.LastIndexByte(path, '.')+1:]
	name, _, _ := strings.Cut(path, "[")
	return name
}

// prefix and of put a name before or behind a message, if there is one.
func prefix(name string) string {
	if name == "" {
		return ""
	}
	return name + ": "
}

func of(path string) string {
	if path == "" {
		return ""
	}
	return " in " + path
}
