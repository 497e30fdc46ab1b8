//go:build !amd64

package digest

func newPair() pair { return newApart() }
