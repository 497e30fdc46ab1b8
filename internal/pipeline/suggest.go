package pipeline

import (
	"fmt"
	"strings"
)

// nearest gives the one of names that was probably meant: within two edits, or one the beginning
// of the other. It gives "" if there is none.
func nearest(name string, names []string) string {
	best, limit := "", min(2, (len(name)+1)/2)
	if len(name) < 2 || len(name) > 64 {
		return ""
	}
	for _, n := range names {
		if d := edits(name, n); d <= limit && n != name {
			best, limit = n, d-1
		}
	}
	if best != "" {
		return best
	}
	for _, n := range names {
		if len(name) > 1 && len(n) > 1 && (strings.HasPrefix(n, name) || strings.HasPrefix(name, n)) && n != name {
			return n
		}
	}
	return ""
}

// didYouMean gives the end of a message, "" if there is nothing to suggest.
func didYouMean(hint string) string {
	if hint == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", hint)
}

// edits is the Levenshtein distance, in bytes.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

// short quotes what a person wrote, cut to a readable length.
func short(s string) string {
	if r := []rune(s); len(r) > 40 {
		s = string(r[:40]) + "…"
	}
	return fmt.Sprintf("%q", s)
}
