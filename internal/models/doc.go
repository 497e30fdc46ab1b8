// Package models is the reference inference services behind `gantry models serve`: an enhancer
// and a quality score that do real work on PNG and DICOM images, so that a pipeline can be tried
// without a GPU or a licence. They are no medical devices. Read handler.go (the HTTP face),
// problem.go, fault.go, serve.go, picture.go and png.go (what an image is), dicom.go (display values),
// clahe.go and quality.go.
package models
