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

	key   Template // what follows Prefix is what follows cut in a value of it; empty: anything
	cut   string
	names []called // more patterns; those that sources on the way had
	flat  bool     // nothing but a name follows Prefix
}

// called says that a name matched a pattern. Where nothing but a name follows Prefix, a move may have changed how it begins: then
// it was lead and what follows Prefix.
type called struct{ lead, pattern string }

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
	return Keys{Place: place, Prefix: prefix, Results: true, key: t}.headed()
}

// headed moves text that the template begins with to the prefix.
func (k Keys) headed() Keys {
	for p := &k.key.parts; len(*p) > 0 && (*p)[0].variable == ""; *p = (*p)[1:] {
		k.Prefix += (*p)[0].text
	}
	return k
}

// Of are those of a sink of a pipeline of that name; empty: of any.
func (k Keys) Of(pipeline string) Keys {
	k.key.parts = slices.Clone(k.key.parts)
	for i, p := range k.key.parts {
		if p.variable == "pipeline" && pipeline != "" {
			k.key.parts[i] = templatePart{text: pipeline}
		}
	}
	return k.headed()
}

// TakesResults tells whether the source of a config would take what the sink of another lays down, in a pipeline of that name.
func TakesResults(source, sink any, pipeline string) bool {
	from, looks := source.(Looking)
	to, lays := sink.(Laying)
	if !looks || !lays {
		return false
	}
	_, some := to.Lays().Of(pipeline).In(from.Takes())
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
	rest, deeper := strings.CutPrefix(source.Prefix, k.Prefix)
	folders, below := strings.CutPrefix(k.Prefix, source.Prefix)
	if k.Place != source.Place || !deeper && !below {
		return Keys{}, false
	}
	if k.names, k.Patterns = k.called(), nil; deeper {
		k.Prefix, k.cut, k.names = source.Prefix, k.cut+rest, led(k.names, rest)
	}
	if !k.key.Empty() && !k.key.MayBegin(k.cut) {
		return Keys{}, false
	}
	if i := strings.LastIndexByte(folders, '/'); i >= 0 && source.Skips != nil && slices.ContainsFunc(strings.Split(folders[:i], "/"), source.Skips) {
		return Keys{}, false
	}
	k.Except = slices.DeleteFunc(slices.Concat(k.Except, source.Except), func(x string) bool { return !strings.HasPrefix(x, k.Prefix) && !strings.HasPrefix(k.Prefix, x) })
	if slices.ContainsFunc(k.Except, func(x string) bool { return strings.HasPrefix(k.Prefix, x) }) {
		return Keys{}, false
	}
	source.Prefix = k.Prefix
	return k.named(source.called())
}

// called are the patterns of the names.
func (k Keys) called() []called {
	all := slices.Clone(k.names)
	for _, p := range k.Patterns {
		if p != "*" {
			all = append(all, called{lastName(k.Prefix), p})
		}
	}
	return all
}

// led are patterns of names of which some more is known.
func led(names []called, more string) (all []called) {
	for _, n := range names {
		all = append(all, called{lastName(n.lead + more), n.pattern})
	}
	return all
}

func lastName(key string) string { return key[strings.LastIndexByte(key, '/')+1:] }

// named gives those of k that are called so as well, and tells whether there may be any. Folders may follow Prefix, and then names are as they
// always were; of results they do, but for those of a single task.
func (k Keys) named(so []called) (Keys, bool) {
	for _, n := range so {
		k.flat = k.flat || k.Results && !MayBeResult(n.pattern) || !patternsMeet(n, called{pattern: "*"}, false) ||
			slices.ContainsFunc(k.names, func(m called) bool { return !patternsMeet(m, n, false) })
		if !slices.Contains(k.names, n) {
			k.names = append(k.names, n)
		}
	}
	return k, !k.flat || !k.Results && k.mayBeFlat()
}

// mayBeFlat tells whether some text that follows Prefix makes the names what they have to be.
func (k Keys) mayBeFlat() bool {
	for i, n := range k.names {
		if slices.ContainsFunc(k.names[i:], func(m called) bool { return !patternsMeet(m, n, true) }) {
			return false
		}
	}
	return true
}

// Moved gives what becomes of keys if another beginning takes the place of one that they all have. That a name gets something more where
// another is in the way of it counts for nothing: no two results are in the way of one another, and an input that comes back has its own name.
func (k Keys) Moved(from, to string) Keys {
	k.names, k.Patterns = k.called(), nil
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

// Endless tells whether some keys that were taken from those of a source, and came back to it, may go the same way again and again: what was
// at the beginning of them then is so still, and what has come to stand behind that, however often it does, leads into nothing that is left out, and to no
// name that is not taken.
func (k Keys) Endless(source Keys) bool {
	more, still := strings.CutPrefix(k.Prefix, source.Prefix+k.cut)
	if !still || more == "" {
		return still
	}
	for _, x := range k.Except {
		if rest := strings.TrimPrefix(x, k.Prefix); strings.HasPrefix(strings.Repeat(more, len(rest)/len(more)+1), rest) {
			return false
		}
	}
	_, some := k.named(led(k.names, more))
	return some
}

// Exceed tells whether keys are known to begin with more than so many characters, or more of them than looked at is known of what they began with;
// of results that ends by itself.
func (k Keys) Exceed(n, looked int) bool {
	return len(k.Prefix) > n || k.key.Empty() && len(k.cut) > looked
}

// Hold tells whether all of other, which begin as k do, are among k.
func (k Keys) Hold(other Keys) bool {
	return !slices.ContainsFunc(k.Except, func(x string) bool { return !slices.Contains(other.Except, x) }) &&
		!slices.ContainsFunc(k.names, func(n called) bool { return !slices.Contains(other.names, n) })
}

// Beginning names how the keys begin, and began.
func (k Keys) Beginning() string { return k.Place + "\x00" + k.Prefix + "\x00" + k.cut }
