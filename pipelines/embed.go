// Package pipelines holds the pipeline files that ship with gantry.
package pipelines

import _ "embed"

// FirstLight is first-light.yaml, the pipeline of the demonstration.
//
//go:embed first-light.yaml
var FirstLight []byte
