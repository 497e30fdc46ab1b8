package gantry

import (
	"context"
	"time"
)

// Expecting is an archive that can be asked how many instances there are of a study, so that one that is being received is
// known to be complete.
type Expecting interface {
	// Expect says how many SOP instances the archive knows of a study (0020,1208), or of a series of it (0020,1209) if series
	// is not empty. It is false where the archive knows none, or cannot count. study and series are UIDs; what is
	// none is Illegal with code bad_uid, and nothing is asked. It makes one try; errors are *Error with a Kind. It may be called
	// concurrently.
	Expect(ctx context.Context, study, series string) (n int, known bool, err error)
}

// CodeBadUID is the reason of a question about what is no UID.
const CodeBadUID Code = "bad_uid"

// Expect says which archive is asked how many instances there are, and what its answers are good for.
type Expect struct {
	Endpoint               // Name is empty
	Steady   time.Duration // a collection is closed by a count once the archive has given the same for so long
	Missing  MissingPolicy
	Timeout  time.Duration // of one question
	AtOnce   int           // questions at once to the archive, of one process
}

// MissingPolicy says what quiet does while fewer are held than the archive counts.
type MissingPolicy string

// MissingWait waits for them until the cap; MissingClose closes all the same.
const (
	MissingWait  MissingPolicy = "wait"
	MissingClose MissingPolicy = "close"
)

// Defaults of Expect.
const (
	DefaultSteady = time.Second
	DefaultExpect = 10 * time.Second // Timeout
	DefaultAtOnce = 4
)

// Question is one that is to be put to an archive about an open collection. Of several processes one has it, until its
// lease is over.
type Question struct {
	Collection int64
	Number     int32 // of the questions about this collection, from 1 on
	Version    int32 // of the pipeline
	Pipeline   string
	Source     string // pipeline/source
	Study      string // Study Instance UID
	Series     string // what the collection is of; a Series Instance UID if its rules are by series
}

// Counted says what an answer changed.
type Counted struct {
	Due time.Duration // until the collection is closed if nothing more comes
	Ask time.Duration // until the archive is asked again
}
