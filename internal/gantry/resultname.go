package gantry

import (
	"slices"
	"sync"
)

// resultEnds are how the names of results end, by their media.
var resultEnds = []string{".dcm", ".png", ".json", ".jpg", ".npy", ".zip", ".tar", ".tar.gz", ".tar.zst", ".mp4", ".mkv", ".bin"}

// resultStarts are how they begin: numbered as what they are about, about the task, or put together again; all but the last with a number if
// there are several. # is a digit, and + one or more.
var resultStarts = []string{"#####+", "#####+-+", "task", "task-+", "rejoined"}

// MayBeResult tells whether some name that a result or a manifest may have matches a pattern (path.Match). One that is no pattern matches
// none.
func MayBeResult(pattern string) bool {
	signs, ok := signsOf(pattern)
	return ok && slices.ContainsFunc(namesOfResults(), func(name []sign) bool { return meet(signs, name) })
}

// namesOfResults are the names that results and manifests may have.
var namesOfResults = sync.OnceValue(func() (all [][]sign) {
	manifest, _ := signsOf(ManifestName)
	all = append(all, manifest)
	for _, start := range resultStarts {
		for _, end := range resultEnds {
			all = append(all, signsOfForm(start+end))
		}
	}
	return all
})

// signsOfForm reads how names of results are put.
func signsOfForm(form string) (signs []sign) {
	for _, c := range form {
		switch c {
		case '#':
			signs = append(signs, sign{class: "[0-9]"})
		case '+':
			signs = append(signs, sign{class: "[0-9]"}, sign{"[0-9]", true})
		default:
			signs = append(signs, sign{class: string(c)})
		}
	}
	return signs
}
