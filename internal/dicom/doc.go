// Package dicom reads and writes DICOM Part 10 files (PS3.10). Scan is the guard that every file
// passes before anything else looks at it: one forward pass without recursion that bounds what a
// file can make us do, says whether it is whole, and hashes it. Read scan.go, source.go, meta.go,
// element.go, value.go, pixel.go, codestream.go and verdict.go in this order, then tags.go (text
// of the tags), frame.go (samples of an image) and write.go (images of our own). The tables are
// syntax.go, vr.go, uid.go and charset.go.
package dicom
