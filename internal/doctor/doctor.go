// Package doctor looks at an installation and says, check by check, what is well, what is not and what
// to do about it. It changes nothing but a file that it writes into the blob store and removes, and an object
// that it does the same with in each bucket for results. Read doctor.go, then database.go, machine.go, targets.go and trials.go:
// the checks.
package doctor

import (
	"context"
	"time"

	"github.com/gantry-imaging/gantry/internal/blob"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Level is how a check went.
type Level string

// The levels. A warning is about something that may be meant so.
const (
	OK      Level = "ok"
	Warning Level = "warning"
	Problem Level = "problem"
)

// Finding is the result of one check, without patient data and without secrets.
type Finding struct {
	Check  string `json:"check"`
	Level  Level  `json:"level"`
	Text   string `json:"text"`
	Advice string `json:"advice,omitempty"` // what to do; empty if all is well
}

func well(check, text string) Finding { return Finding{Check: check, Level: OK, Text: text} }

func doubt(check, text, advice string) Finding { return Finding{check, Warning, text, advice} }

func bad(check, text, advice string) Finding { return Finding{check, Problem, text, advice} }

// Options say what is looked at.
type Options struct {
	Home        string
	DatabaseURL string // empty: the private cluster below Home
	Blobs       string // the folder of the blob store
	// Bucket, if the store lies in one, reads its identity and its owner and holds the key to it; Blobs is then a folder on the disk that
	// work is done on.
	Bucket    func(context.Context) (blob.About, error)
	Key       []byte // the configured deployment key; empty: the blob store's own
	Pipelines []*gantry.Pipeline
	Now       func() time.Time
	Trials    []Trial // sources and sinks that can be tried out
}

// checkTime bounds each look at something that may not answer.
const checkTime = 5 * time.Second

// Examine makes all checks.
func Examine(ctx context.Context, o Options) []Finding {
	found, id := database(ctx, o)
	if o.Bucket != nil {
		found = append(found, bucket(ctx, o, id)...)
	} else {
		found = append(found, blobs(o, id)...)
	}
	found = append(found, disk(o), files())
	found = append(found, programs(ctx)...)
	found = append(found, targets(ctx, o.Pipelines)...)
	return append(found, trials(ctx, o.Trials)...)
}

// Sound tells whether nothing that was found is a problem.
func Sound(found []Finding) bool {
	for _, f := range found {
		if f.Level == Problem {
			return false
		}
	}
	return true
}
