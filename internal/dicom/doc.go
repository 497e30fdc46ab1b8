// Package dicom reads and writes DICOM Part 10 files (PS3.10). Scan is the guard that every file
// passes before anything else looks at it: one forward pass without recursion that bounds what a
// file can make us do, says whether it is whole, and hashes it. Read scan.go, source.go, meta.go,
// element.go, value.go, pixel.go, codestream.go and verdict.go in this order, then tags.go (text
// of the tags), frame.go (samples of an image) and write.go (images of our own). The tables are
// syntax.go, vr.go, uid.go and charset.go.
//
// OpenFrames takes an image apart into its frames, of whatever layout: frames.go with layout.go,
// attributes.go and fragments.go finds them; codec.go says who decodes them, native.go, rle.go and
// baseline.go do; shows.go, window.go, grey.go, colour.go and segments.go make them seen; render.go
// and png.go write them. lossless.go with ljpegbits.go and ljpegpredict.go decodes lossless JPEG.
//
// Join puts answered frames back into one object: answer.go and npy.go read what models answer,
// join.go, joinform.go and joinhead.go make the object, and rewrite.go with turn.go keeps the bytes
// of all elements that do not change.
package dicom
