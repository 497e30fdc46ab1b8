// Package media knows formats: it tells by content what bytes are, opens zip and tar archives safely
// and with random access, unpacks compressed tars, checks that a PNG or JPEG is whole, takes videos
// apart and puts them together, and writes archives anew. It trusts nothing that a file says of
// itself. Read detect.go first, then budget.go, archive.go, zip.go with zipdir.go, zipname.go and
// zipread.go, tar.go with tarhead.go and tarread.go, decompress.go, archivewriter.go; verify.go with png.go and
// jpeg.go; container.go, child.go, video.go, videosplit.go with picture.go, videojoin.go with joinpicture.go and
// matroska.go. code.go lists the reasons for which an input is refused.
package media
