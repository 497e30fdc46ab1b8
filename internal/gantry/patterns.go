package gantry

import (
	"path"
	"slices"
)

// sign is what stands for one character in a pattern of names (path.Match), or for any number of them.
type sign struct {
	class string // itself a pattern, of one character
	many  bool
}

// maxMeeting is how many pairs of signs are looked at; of longer patterns nobody tells that they have nothing in common.
const maxMeeting = 1 << 20

// patternsMeet tells whether some name may match two patterns (path.Match); of flat ones, some text that follows what they lead with. One that is
// no pattern matches none.
func patternsMeet(a, b called, flat bool) bool {
	x, ok := signsOf(a.pattern)
	y, also := signsOf(b.pattern)
	if !ok || !also || !flat {
		return ok && also && meet(x, y)
	}
	return meetFrom(x, y, after(x, a.lead), after(y, b.lead))
}

// after gives where the signs of a pattern may have got to with the beginning of a name.
func after(signs []sign, lead string) []bool {
	at := make([]bool, len(signs)+1)
	at[0] = true
	for _, c := range lead {
		next := make([]bool, len(at))
		for i, s := range signs {
			at[i+1] = at[i+1] || at[i] && s.many
			if is, err := path.Match(s.class, string(c)); at[i] && is && err == nil {
				next[i], next[i+1] = next[i] || s.many, !s.many
			}
		}
		at = next
	}
	return at
}

// signsOf divides a pattern; false if it is none.
func signsOf(pattern string) (signs []sign, ok bool) {
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, false
	}
	for r := []rune(pattern); len(r) > 0; {
		n := 1
		switch r[0] {
		case '*':
			signs = append(signs, sign{"?", true})
			r = r[1:]
			continue
		case '\\':
			n = 2
		case '[':
			for i := 1; i < len(r); i++ { // an escaped bracket ends nothing
				if r[i] == '\\' {
					i++
				} else if r[i] == ']' {
					n = i + 1
					break
				}
			}
		}
		n = min(n, len(r))
		signs = append(signs, sign{class: string(r[:n])})
		r = r[n:]
	}
	return signs, true
}

// meet tells whether some text matches the signs of two patterns.
func meet(a, b []sign) bool { return meetFrom(a, b, after(a, ""), after(b, "")) }

// meetFrom tells it of what follows where the two may have got to. It keeps up to where they have matched a beginning of one
// text: row by row of the first, since none goes back.
func meetFrom(a, b []sign, from, also []bool) bool {
	if len(a)*len(b) > maxMeeting {
		return true
	}
	common := sharing()
	at := make([]bool, len(b)+1)
	for i := 0; ; i++ {
		next := make([]bool, len(at))
		for j := range at {
			at[j] = at[j] || from[i] && also[j]
			if !at[j] {
				continue
			}
			if j < len(b) && b[j].many {
				at[j+1] = true
			}
			if i == len(a) {
				continue
			}
			next[j] = next[j] || a[i].many
			if j == len(b) {
				continue
			}
			switch {
			case !common(a[i].class, b[j].class):
			case a[i].many && !b[j].many:
				at[j+1] = true
			case b[j].many && !a[i].many:
				next[j] = true
			case !a[i].many:
				next[j+1] = true
			}
		}
		if i == len(a) {
			return at[len(b)]
		}
		at = next
	}
}

// sharing gives share that remembers.
func sharing() func(a, b string) bool {
	known := map[[2]string]bool{}
	return func(a, b string) bool {
		if len(a) == 1 && len(b) == 1 {
			return share(a, b)
		}
		pair := [2]string{a, b}
		is, ok := known[pair]
		if !ok {
			is = share(a, b)
			known[pair] = is
		}
		return is
	}
}

// share tells whether two classes have a character in common. If so, the first of those stands in one of them, or is next to one
// that does, or neither leaves out an x.
func share(a, b string) bool {
	switch {
	case len(a) > 1 || len(b) > 1:
	case a == "?", b == "?":
		return true
	default:
		return a == b
	}
	for _, c := range append([]rune(a+b), 'x') {
		for _, c := range []rune{c - 1, c, c + 1} {
			is := func(class string) bool {
				ok, err := path.Match(class, string(c))
				return ok && err == nil
			}
			if c != '/' && slices.IndexFunc([]string{a, b}, func(class string) bool { return !is(class) }) < 0 {
				return true
			}
		}
	}
	return false
}
