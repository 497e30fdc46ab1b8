package gantry

// ItemID numbers the items of one task from 0, the original, upwards.
type ItemID int32

// NoItem stands where there is no parent or origin.
const NoItem ItemID = -1

// OriginalStage is the stage of a task's own media.
const OriginalStage int16 = -1

// Item is one piece of media that a task holds: the original, an archive entry, or what a
// processor answered. It never changes, but that SHA and Reason are set once at the first full read.
type Item struct {
	ID         ItemID
	Parent     ItemID // NoItem for the original
	Origin     ItemID // the leaf of the task's own media that it descends from
	Ordinal    int32  // its place among its parent's, or among a part's outputs, from 0
	Leg        int16
	Stage      int16 // OriginalStage for the task's own media
	Processor  int16 // index in the stage's list of calls
	Part       int32 // ordinal of the part that made it
	Generation int16
	Name       string // what its archive called it; erasable, never logged
	Transform  string // how it is made from its parent: zip; source if it is read where it came from; empty if it has bytes of its own
	Locator    string // what the transform needs to find it
	Media      string // media type, by content
	Size       int64  // -1 while not known
	SHA        Digest
	Body       []byte // the bytes themselves, up to InlineLimit
	Location   string // where in the blob store the bytes lie
	Reason     Code   // why it goes no further, or a warning
	Rejected   bool   // Reason is a refusal, not a warning
}

// InlineLimit is the largest output kept in its row, in bytes.
const InlineLimit = 16 << 10

// Media types that more than one room names.
const (
	MediaDICOM = "application/dicom"
	MediaPNG   = "image/png"
	MediaZIP   = "application/zip"
	MediaJSON  = "application/json"
	MediaJPEG  = "image/jpeg"
	MediaNPY   = "application/x-npy"
	MediaTAR   = "application/x-tar"
	MediaGZIP  = "application/gzip"
	MediaZSTD  = "application/zstd"
	MediaMP4   = "video/mp4"
	MediaMKV   = "video/x-matroska" // WebM too: the same container
	MediaAVI   = "video/x-msvideo"
)

// ItemMark is what the first full read of an item found.
type ItemMark struct {
	ID       ItemID
	SHA      Digest
	Size     int64
	Reason   Code
	Rejected bool
	Sent     bool // it was all of a call's request: SHA is that of the request, as Outcome.Digested gives it
}

// PartStatus says how far a part is.
type PartStatus uint8

// The statuses. The numbers stand in the database. Out means that a ticket is outstanding.
const (
	PartPlanned PartStatus = iota
	PartOut
	PartOK
	PartSkipped
	PartFailed
)

var partNames = [...]string{"planned", "out", "ok", "skipped", "failed"}

// String gives the status's name.
func (s PartStatus) String() string { return partNames[s] }

// PartKey names one unit of work of a stage within its task.
type PartKey struct {
	Leg, Stage, Processor int16
	Ordinal               int32
	Generation            int16
}

// Part is one unit of work of a stage, the grain of progress and of retry.
type Part struct {
	PartKey
	Status  PartStatus
	Attempt int16
	Asked   int16  // how many of these tries the target answered with a request to come back later
	First   ItemID // the origin that it is about; the original, for a stage that calls once per task
	Count   int32  // how many origins
	DueIn   int64  // microseconds until it may be tried again, or its ticket be asked for; below 0: no such time
	Reason  Code
	Submits int16 // how often it was submitted for an answer later, over all its lives
	Out     Outstanding
}

// Outstanding is what is known of a part that is out.
type Outstanding struct {
	Ticket  string // what the service calls the job
	Limiter int32  // the target, a unit of whose limit the part holds
	For     int64  // microseconds until no answer is awaited any more, unless a sign of life comes
	Left    int64  // microseconds until none is awaited whatever comes
	Token   Digest // SHA-256 of the token that it may be answered under; zero: it has none
}

// Ended is the part after a try that has come to an end, with the status that follows: it holds no unit.
func (p Part) Ended(s PartStatus) Part {
	p.Status, p.Attempt, p.DueIn, p.Reason, p.Out = s, p.Attempt+1, -1, "", Outstanding{}
	return p
}

// Submitted is the part once a call has left: a submission is counted.
func (p Part) Submitted(op Op) Part {
	if op == OpSubmit {
		p.Submits++
	}
	return p
}
