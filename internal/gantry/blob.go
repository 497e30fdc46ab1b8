package gantry

import "time"

// KeptBlob is the row of a blob that is an object or a file of its own, and not part of a segment.
type KeptBlob struct {
	Location string    // as Staged.Commit gives it
	Worker   WorkerID  // that committed it last; 0 if nobody knows
	Size     int64     // bytes
	SHA      Digest    // of its bytes
	At       time.Time // of the last commit; where the row is being written, zero: now
}

// DoomedBlob is a blob that is being deleted. Until its row goes nobody may rely on it.
type DoomedBlob struct {
	Location string
	Size     int64
	Since    time.Time // names this deletion
}
