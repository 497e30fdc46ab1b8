// Package app is the composition root: it opens database, blob store and drivers, wraps every
// driver in its gate, and runs the whole in one of three ways. app.go opens; plans.go turns
// pipeline files into plans with open drivers; intake.go turns announced objects into tasks, route.go
// says of which pipelines (with header.go for what DICOM files say), pool.go opens the sources that several share;
// session.go is the life of one lease; desk.go takes uploads and shows results; serve.go, run.go,
// preview.go and trial.go (the tests in pipeline files, with mock.go in place of services) are what commands call.
package app
