package gantry

import (
	"path"
	"slices"
)

// resultEnds are how the names of results end, by their media.
var resultEnds = []string{".dcm", ".png", ".json", ".jpg", ".npy", ".zip", ".tar", ".tar.gz", ".tar.zst", ".mp4", ".mkv", ".bin"}

// resultStarts are how they begin: numbered as what they are about, about the task, or put together again; all but the last with a number if
// there are several. # is a digit, and + one or more.
var resultStarts = []string{"#####+", "#####+-+", "task", "task-+", "rejoined"}

// MayBeResult tells whether some name that a result or a manifest may have matches a pattern (path.Match). One that is no pattern matches
// none.
func MayBeResult(pattern string) bool {
	if _, err := path.Match(pattern, ""); err != nil {
		return false
	}
	signs := signsOf(pattern)
	for _, name := range resultStarts {
		for _, end := range resultEnds {
			if meets(signs, name+end) {
				return true
			}
		}
	}
	return meets(signs, ManifestName)
}

// signsOf divides a pattern into what stands for any characters (*) or for one.
func signsOf(pattern string) (signs []string) {
	for r := []rune(pattern); len(r) > 0; {
		n := 1
		switch r[0] {
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
		signs = append(signs, string(r[:n]))
		r = r[n:]
	}
	return signs
}

// meets tells whether signs match one of the names of a form. It keeps the places up to which some beginning of a name has been matched.
func meets(signs []string, form string) bool {
	at := make([]bool, len(form)+1)
	at[0] = true
	for _, sign := range signs {
		next := make([]bool, len(at))
		for i := range at {
			switch {
			case !at[i]:
			case sign == "*":
				for k := i; k < len(at); k++ {
					next[k] = true
				}
			case i < len(form) && matchesOne(sign, form[i]):
				next[i+1] = true
				next[i] = next[i] || form[i] == '+'
			}
		}
		at = next
	}
	return at[len(form)]
}

// matchesOne tells whether a sign matches a character of a form.
func matchesOne(sign string, c byte) bool {
	chars := string(c)
	if c == '#' || c == '+' {
		chars = "0123456789"
	}
	return slices.ContainsFunc([]byte(chars), func(x byte) bool {
		ok, err := path.Match(sign, string(x))
		return ok && err == nil
	})
}
