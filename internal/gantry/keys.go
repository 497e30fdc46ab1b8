package gantry

import (
	"slices"
	"strings"
)

// Keys is a set of keys of objects, or of paths of files: what a sink lays down, what a source takes, or what becomes of
// that where it is moved. It may hold more than there will ever be, and never less.
type Keys struct {
	Place    string                   // the server with the bucket, or that they are files; those of two places have nothing in common
	Prefix   string                   // they all begin so
	Except   []string                 // those that begin so are not among them
	Patterns []string                 // their names, which follow the last slash, match each of them (path.Match)
	Results  bool                     // they are named as results are
	Skips    func(folder string) bool // of a source: nothing in such a folder behind Prefix is among them; nil: there are none

	key Template // what follows Prefix is what follows cut in a value of it; empty: anything
	cut string
}

// Looking is a source's config that can tell what it takes.
type Looking interface {
	Takes() Keys
	// Moves says what may take the place of the Prefix of what was taken, if the source moves it.
	Moves() []string
}

// Laying is a sink's config that can tell what it lays down.
type Laying interface{ Lays() Keys }

// ResultKeys are the keys of a sink whose template is key. One that is none, which Check reports, is as good as any.
func ResultKeys(place, prefix, key string) Keys {
	t, _ := ParseKey(key)
	head := ""
	for len(t.parts) > 0 && t.parts[0].variable == "" {
		head, t.parts = head+t.parts[0].text, t.parts[1:]
	}
	return Keys{Place: place, Prefix: prefix + head, Results: true, key: t}
}

// TakesResults tells whether the source of a config would take what the sink of another lays down.
func TakesResults(source, sink any) bool {
	from, looks := source.(Looking)
	to, lays := sink.(Laying)
	if !looks || !lays {
		return false
	}
	_, some := to.Lays().In(from.Takes())
	return some
}

// TakesMoved tells whether a source would take what another took, or it itself, once to stands in place of that one's prefix.
func TakesMoved(source, mover Looking, to string) bool {
	all := mover.Takes()
	_, some := all.Moved(all.Prefix, to).In(source.Takes())
	return some
}

// In gives those of k that a source takes, and tells whether there may be any.
func (k Keys) In(source Keys) (Keys, bool) {
	if k.Place != source.Place {
		return Keys{}, false
	}
	if rest, deeper := strings.CutPrefix(source.Prefix, k.Prefix); deeper {
		k.Prefix, k.cut = source.Prefix, k.cut+rest
	}
	folders, below := strings.CutPrefix(k.Prefix, source.Prefix)
	if !below || !k.key.Empty() && !k.key.MayBegin(k.cut) {
		return Keys{}, false
	}
	if i := strings.LastIndexByte(folders, '/'); i >= 0 && source.Skips != nil && slices.ContainsFunc(strings.Split(folders[:i], "/"), source.Skips) {
		return Keys{}, false
	}
	k.Except = append(slices.Clip(k.Except), source.Except...)
	if slices.ContainsFunc(k.Except, func(x string) bool { return strings.HasPrefix(k.Prefix, x) }) || slices.ContainsFunc(source.Patterns, k.neverCalled) {
		return Keys{}, false
	}
	k.Patterns = append(slices.Clip(k.Patterns), source.Patterns...)
	return k, true
}

// neverCalled tells whether none of the keys has a name that matches a pattern.
func (k Keys) neverCalled(pattern string) bool {
	return k.Results && !MayBeResult(pattern) || slices.ContainsFunc(k.Patterns, func(p string) bool { return !patternsMeet(p, pattern) })
}

// Moved gives what becomes of keys if another beginning takes the place of one that they all have. That a name gets something more where
// another is in the way of it counts for nothing: no two results are in the way of one another, and an input that comes back has its own name.
func (k Keys) Moved(from, to string) Keys {
	k.Prefix = to + strings.TrimPrefix(k.Prefix, from)
	except := k.Except
	k.Except = nil
	for _, x := range except {
		if rest, ok := strings.CutPrefix(x, from); ok {
			k.Except = append(k.Except, to+rest)
		}
	}
	return k
}

// Grows tells whether keys that were taken from those of a source, and came back to it, may go the same way again, and so without
// end: what was at the beginning of them then is so still.
func (k Keys) Grows(source Keys) bool { return strings.HasPrefix(k.Prefix, source.Prefix+k.cut) }

// String names the set; sets with one name are the same.
func (k Keys) String() string {
	return strings.Join(append(append([]string{k.Place, k.Prefix, k.cut, ""}, k.Except...), append([]string{""}, k.Patterns...)...), "\x00")
}
