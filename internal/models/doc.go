// Package models is the reference inference services behind `gantry models serve`: contrast
// enhancement, a quality score, a mask, a report, a survey of a series and a mirror that do real work on PNG, JPEG and
// DICOM images, so that a pipeline can be tried without a GPU or a licence. They are no medical
// devices. Read handler.go (the HTTP face), bundle.go (what a request holds), problem.go, fault.go,
// serve.go, picture.go, png.go and jpeg.go (what an image is), dicom.go (display values), clahe.go,
// quality.go, mask.go, report.go, volume.go and geometry.go.
package models
