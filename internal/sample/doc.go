// Package sample makes the inputs that gantry shows itself with: a chest radiograph, a CT of a head
// and an ultrasound of a heart that nobody ever had, computed from a few shapes, so that no picture
// of a person lies in the repository. The same call gives the same bytes. Read write.go (the files),
// xray.go, thorax.go, bones.go and vessels.go (the radiograph), ct.go (the CT), loop.go,
// ultrasound.go and avi.go (the heart as DICOM and as a video) and noise.go.
package sample
