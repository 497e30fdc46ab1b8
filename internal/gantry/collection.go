package gantry

import "time"

// GroupPrefix puts together what lies in one folder of a source.
const GroupPrefix GroupBy = "prefix"

// LatePolicy says what becomes of an arrival whose collection was closed.
type LatePolicy string

// LateRerun opens a revision of all members of the last one and those that are late; LateAppend one of those
// that are late alone; LateIgnore keeps them on record and makes nothing of them.
const (
	LateRerun  LatePolicy = "rerun"
	LateAppend LatePolicy = "append"
	LateIgnore LatePolicy = "ignore"
)

// Collect says which arrivals of a source are one task together, and when no more are waited for. It is part
// of the version: what a task's results were made from follows from it.
type Collect struct {
	By     GroupBy       // GroupNone is not allowed
	Depth  int           // of GroupPrefix: how many folders of the path count; 0: all
	Quiet  time.Duration // closed when nothing came for so long; with Marker, not before that came; 0: never
	Count  int           // closed with so many members; 0: never
	Marker string        // pattern of the path of the file that says that all are there; empty: there is none
	Cap    time.Duration // closed so long after the first arrival at the latest; above 0
	Late   LatePolicy
	Expect *Expect // an archive that is asked how many there are; nil: none is
}

// Picky is a source's config that can tell whether the source announces files of a name.
type Picky interface {
	Wants(name string) bool
}

// Fleeting is a source's config that may take objects away once their tasks have ended.
type Fleeting interface {
	// Fleeting gives the key that says so; empty if objects stay, or a copy of each is kept in any case.
	Fleeting() string
}

// Reasons of what closed a collection; they are stored in collection.reason. A collection that nothing but its
// marker came for ends as empty, without a task.
const (
	ClosedByQuiet    Code = "quiet"
	ClosedByCount    Code = "count"
	ClosedByMarker   Code = "marker"
	ClosedByExpected Code = "expected"
	ClosedByCap      Code = "cap"
	ClosedEmpty      Code = "empty"
)

// Reasons of arrivals that no task is made from: one that came after its collection was closed, and one that
// says that a collection is complete. The latter is Accepted.
const (
	CodeLate   Code = "late"
	CodeMarker Code = "marker"
)

// Gathering is an arrival on its way into a collection.
type Gathering struct {
	Arrival  Arrival
	Marker   bool   // it is no member, but says that the others are all there
	Group    Digest // what its members have in common, as a MAC
	Name     string // the same as people write it; erasable
	Pipeline string
	Version  int32 // the row of pipeline_version that the task runs on
	Lane     int32
	Priority int16
	Within   time.Duration // how long the task may stay queued
	Rules    Collect
	Study    string   // the Study Instance UID that Rules.Expect is asked about; empty: it is not
	Receipt  *Receipt // of the call that brought it; nil: there was none
	Instance int64    // stands for its SOP instance, which may come more than once; 0: it is one of its own
}

// Gathered says what became of a Gathering.
type Gathered struct {
	Known      bool  // the arrival was on record; nothing changed
	Collection int64 // that it is a member of, or says the end of; 0: none
	Revision   int32
	Status     ArrivalStatus
	Due        time.Duration // until the collection is closed if nothing more comes; meaningless where Collection is 0
	Ask        time.Duration // until the archive is asked how many there are; below 0: it is not
}

// Closing is a collection that was closed.
type Closing struct {
	Collection int64
	Pipeline   string
	Source     string // pipeline/source
	Revision   int32
	Members    int
	Reason     Code
	Task       string // public id; empty: it held nothing
	Lane       int32
}
