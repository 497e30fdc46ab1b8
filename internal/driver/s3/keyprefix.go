package s3

import (
	"cmp"
	"path"
)

// KeyPrefix is what every ref of the source begins with: folders are counted below it.
func (c SourceConfig) KeyPrefix() string { return c.Prefix }

// Wants tells whether an object would be announced, by the part of its key after the last slash.
func (c SourceConfig) Wants(name string) bool {
	matches, err := path.Match(cmp.Or(c.Pattern, "*"), name)
	return matches && err == nil
}
