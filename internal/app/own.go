package app

import (
	"errors"
	"strings"

	"github.com/gantry-imaging/gantry/internal/blob"
	"github.com/gantry-imaging/gantry/internal/driver/dir"
	"github.com/gantry-imaging/gantry/internal/driver/s3"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// CodeOwnFiles says, Illegal, that a source would take what the installation keeps for itself: each task makes more of that.
const CodeOwnFiles gantry.Code = "own_files"

// own is where the installation keeps what it makes for each task: its blobs. Their names begin with a hexadecimal digit; there is more, but no task
// makes more of that.
func (s Settings) own() gantry.Keys {
	var lays gantry.Laying = dir.SinkConfig{Path: s.Blobs}
	if place, err := blob.ParsePlace(s.Blobs); s.inBucket() && err == nil {
		x := s.BlobBucket
		lays = s3.SinkConfig{Bucket: place.Bucket, Prefix: strings.TrimPrefix(place.Prefix+"/", "/"), Endpoint: x.Endpoint, Region: x.Region}
	}
	below := lays.Lays()
	return gantry.Keys{Place: below.Place, Prefix: below.Prefix, Patterns: []string{"[0-9a-f]*"}}
}

// checkOwn refuses sources that would take what lies there.
func (s Settings) checkOwn(pipelines []*gantry.Pipeline, shared []gantry.Shared) error {
	blobs := s.own()
	check := func(name string, e gantry.Endpoint) error {
		source, ok := e.Config.(gantry.Looking)
		if !ok {
			return nil
		}
		if _, some := blobs.In(source.Takes()); some {
			return gantry.Errorf(gantry.Illegal, CodeOwnFiles, "source %s would take the files of gantry's own blob store, and each task makes more of them: "+
				"let it look elsewhere, or set blobs to another place", name)
		}
		return nil
	}
	var errs []error
	for _, p := range pipelines {
		for _, e := range p.Sources {
			errs = append(errs, check(p.Name+"/"+e.Name, e))
		}
	}
	for _, x := range shared {
		errs = append(errs, check(x.Name, x.Endpoint))
	}
	return errors.Join(errs...)
}
