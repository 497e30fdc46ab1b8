// Package media knows formats: it tells by content what bytes are, opens zip archives safely and
// with random access, and checks that a PNG is whole. It trusts nothing that a file says of
// itself. Read detect.go first, then budget.go, zip.go with zipdir.go, zipname.go and zipread.go,
// and png.go; code.go lists the reasons for which an input is refused.
package media
