// Package all lists the drivers that gantry has, one line each.
package all

import (
	"github.com/gantry-imaging/gantry/internal/driver"
	"github.com/gantry-imaging/gantry/internal/driver/dicom"
	"github.com/gantry-imaging/gantry/internal/driver/dicomweb"
	"github.com/gantry-imaging/gantry/internal/driver/dir"
	"github.com/gantry-imaging/gantry/internal/driver/http"
	"github.com/gantry-imaging/gantry/internal/driver/s3"
)

// Drivers gives a register of every driver.
func Drivers() *driver.Register {
	r := driver.New()
	driver.Source(r, "dir", dir.NewSource)
	driver.Source(r, "http", http.NewSource)
	driver.Processor(r, "http", http.NewProcessor)
	driver.Processor(r, "dicom", dicom.NewProcessor)
	driver.Sink(r, "dir", dir.NewSink)
	driver.Sink(r, "http", http.NewSink)
	driver.Source(r, "s3", s3.NewSource)
	driver.Source(r, "dicom", dicom.NewSource)
	driver.Sink(r, "dicom", dicom.NewSink)
	driver.Sink(r, "s3", s3.NewSink)
	driver.Archive(r, "dicom", dicom.NewArchive)
	driver.Archive(r, "dicomweb", dicomweb.NewArchive)
	return r
}
