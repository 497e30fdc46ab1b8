package gantry

import (
	"context"
	"io"
)

// Facts says what is asked about an arriving object beyond what its announcement tells.
type Facts uint8

// Each fact has its price: one request for the content type and the metadata, one for the tags, and the
// beginning of the object for the attributes of a DICOM file.
const (
	FactHead Facts = 1 << iota
	FactTags
	FactHeader
)

// Has tells whether all of some facts are among these.
func (f Facts) Has(some Facts) bool { return f&some == some }

// Rule is a condition about an arriving object. It is asked once Facts have been found out.
type Rule interface {
	Condition
	Facts() Facts
}

// Description is what a source tells about an object. Its values may hold anything, names of people
// too, so they are never logged.
type Description struct {
	ContentType string
	Metadata    map[string]string // what was put beside the object, under names in small letters
	Tags        map[string]string
}

// Described is a Source that tells more about an object than its announcement.
type Described interface {
	Source
	// Describe finds out facts about an announced object, FactHeader apart. What the source's kind does not
	// know is empty. An object that is gone, or that another took the place of, is NotFound with code source_gone;
	// what asking again would not change is Permanent.
	Describe(ctx context.Context, o Object, f Facts) (Description, error)
	// Peek reads n bytes of an announced object from an offset on; both lie within its size. Errors are
	// those of Open.
	Peek(ctx context.Context, o Object, from, n int64) (io.ReadCloser, error)
}

// Describing is a source's config that says which facts objects of its kind have. Without it they have none.
type Describing interface {
	Describes() Facts
}

// Match says how many of a source's routes an arrival may take.
type Match string

// The first route whose rule holds, or each.
const (
	MatchFirst Match = "first"
	MatchAll   Match = "all"
)

// Route sends the arrivals of a shared source to a pipeline.
type Route struct {
	When Rule   // nil: every one
	To   string // the pipeline's name
}

// Shared is a source of a deployment, which feeds several pipelines by rules.
type Shared struct {
	Endpoint
	Version  Digest // of Resolved
	Resolved []byte // what the deployment file says of it, as canonical JSON
	Match    Match
	Routes   []Route
}

// Reasons of arrivals that are unmatched.
const (
	CodeNoRoute Code = "no_route" // no rule holds
)
