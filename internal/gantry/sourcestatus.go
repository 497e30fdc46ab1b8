package gantry

import "time"

// SourceStatus is a source as people see it. It holds no name of an object.
type SourceStatus struct {
	Source    string          `json:"source"` // pipeline/source
	Kind      string          `json:"kind"`
	At        time.Time       `json:"reported_at"` // by the process that watches it
	Channels  []ChannelStatus `json:"channels"`
	LastEvent *time.Time      `json:"last_event,omitempty"` // of any channel
	Lag       *SourceLag      `json:"lag,omitempty"`
	LastSweep *SweepStatus    `json:"last_sweep,omitempty"`
	Sweeps    int64           `json:"sweeps"`
	Missed    int64           `json:"mismatches"` // by all sweeps
	Backlog   bool            `json:"backlog"`    // what was there before is being taken up
	Passed    int64           `json:"backlog_passed,omitempty"`
	Arrivals  ArrivalCounts   `json:"arrivals"`
	LastError *SourceFailure  `json:"last_error,omitempty"`
}

// ChannelStatus is one way in which a source's objects become known.
type ChannelStatus struct {
	Channel string     `json:"channel"`
	Heard   *time.Time `json:"last_event,omitempty"` // when a new one was taken that it told of
	Told    int64      `json:"told"`                 // new objects
}

// SourceLag is the time from an object's own time, or its event's, to the commit of its arrival, in seconds: of the last,
// and of those of the last five minutes in which something came.
type SourceLag struct {
	Last float64 `json:"last_s"`
	Half float64 `json:"p50_s"`
	Max  float64 `json:"max_s"`
}

// SweepStatus is the last listing of everything.
type SweepStatus struct {
	Began   time.Time `json:"began"`
	Took    float64   `json:"took_s"`
	Objects int64     `json:"objects"`
	Missed  int64     `json:"mismatches"`
}

// ArrivalCounts counts arrivals by status.
type ArrivalCounts struct {
	Accepted   int64 `json:"accepted"`
	Superseded int64 `json:"superseded"`
	SourceGone int64 `json:"source_gone"`
	Unmatched  int64 `json:"unmatched"`
	Ignored    int64 `json:"ignored"`
}

// SourceFailure is the last failure of a channel, or of another part of what a source does.
type SourceFailure struct {
	Part string     `json:"part,omitempty"` // poll, sqs, webhook, …, or object, sweep, backlog, association; empty: not known, from an older version
	Code string     `json:"code"`
	Kind string     `json:"kind"`
	At   time.Time  `json:"at"`
	Over *time.Time `json:"over_since,omitempty"` // when the same part worked again
}
