package dir

import (
	"cmp"
	"path"
)

// Wants tells whether a file of a name would be announced.
func (c SourceConfig) Wants(name string) bool {
	matches, err := path.Match(cmp.Or(c.Pattern, "*"), name)
	return matches && err == nil && !ignored(name)
}
