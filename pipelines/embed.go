// Package pipelines holds the pipeline files that ship with gantry.
package pipelines

import _ "embed"

// The pipelines of the demonstration: one of each mode, one that takes apart and puts together DICOM files,
// one that does so with videos, and one from bucket to bucket.
var (
	// FirstLight is first-light.yaml.
	//
	//go:embed first-light.yaml
	FirstLight []byte
	// Cumulative is cumulative.yaml.
	//
	//go:embed cumulative.yaml
	Cumulative []byte
	// Fanout is fanout.yaml.
	//
	//go:embed fanout.yaml
	Fanout []byte
	// Multiframe is multiframe.yaml.
	//
	//go:embed multiframe.yaml
	Multiframe []byte
	// Video is video.yaml.
	//
	//go:embed video.yaml
	Video []byte
	// Bucket is bucket.yaml.
	//
	//go:embed bucket.yaml
	Bucket []byte
)
