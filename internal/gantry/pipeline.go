package gantry

import (
	"fmt"
	"time"
)

// Pipeline is what a file under pipelines/ describes, checked and with every default filled in.
type Pipeline struct {
	Name        string
	Description string
	Version     Digest // of Resolved
	Resolved    []byte // the file's own grammar as canonical JSON, without limits and priority
	Priority    int16  // that tasks begin with; 0 first, 9 last
	Order       Order  // no part of the version
	Sources     []Endpoint
	Sinks       []Endpoint
	Processors  []Processing
	Stages      []Stage
	When        Condition // which tasks go on after ingesting; nil: all
	Group       GroupBy   // what an archive is divided by into children
	Collect     *Collect  // which arrivals are one task together; nil: each is one of its own
	Extract     Extract
	InProgress  int           // how many tasks at once, over all processes; 0: no limit
	States      map[State]int // how many of these may be in a state at once; states without an entry have no limit
	Timeouts    Timeouts
	Retry       RetryPolicy
	OnError     ErrorPolicy // of bad entries of an archive
	MoveIf      []MoveRule  // the first that holds moves a task that would fail
	Tests       []PipelineTest
}

// PipelineTest is a sample with what must come of it. It is no part of a version.
type PipelineTest struct {
	Name   string
	Input  []string       // absolute paths
	Mock   map[string]any // what processors answer instead of being called, as encoding/json decodes it
	Expect Expectation
}

// What a mock may be instead of JSON: MockEcho, a text, gives back each item that was sent; an object
// with the one key MockFile answers with a file, by its absolute path; one with the one key
// MockError fails with the Kind that it names.
const (
	MockEcho  = "$echo"
	MockFile  = "$file"
	MockError = "$error"
)

// Expectation is what must come of a test.
type Expectation struct {
	State   State          // a final one
	Calls   map[string]int // how often processors are called; those that are not named may be called at will
	Outputs int            // files delivered; below 0: any number
	Error   Code           // the reason that the task fails with; empty: any
}

// The priorities that a pipeline file names.
const (
	PriorityUrgent  int16 = 1
	PriorityNormal  int16 = 5
	PriorityOffPeak int16 = 8
)

// MoveRule says which tasks that would fail go to another pipeline instead.
type MoveRule struct {
	When Condition
	To   string // the pipeline's name
	Legs int    // how many legs a task has at most, the one that fails among them
}

// Condition is an expression of a pipeline file, compiled and checked. Holds gives its value for
// variables by name; an error is Illegal with code bad_expression and says nothing of their values.
type Condition interface {
	Holds(vars map[string]any) (bool, error)
	String() string // as it stands in the file
}

// Endpoint is a source or a sink: a kind of driver with its settings.
type Endpoint struct {
	Name   string
	Kind   string
	Config any // the driver's own config type
	Auth   *Credential
	Rejoin Rejoin // of a sink
	When   Rule   // of a source: which arrivals become tasks; nil: all
}

// Rejoin says in what container outputs are delivered.
type Rejoin string

// RejoinNone delivers one file per output; RejoinOriginal puts what was made of an archive, a
// multi-frame DICOM file or a video back into one of the same kind, in the original order.
const (
	RejoinNone     Rejoin = ""
	RejoinOriginal Rejoin = "original"
)

// GroupBy says by which DICOM attribute the files of an archive become children of its task.
type GroupBy string

// The groupings: Study, Series Instance UID, Patient ID (PS3.3 sections C.7.2.1, C.7.3.1, C.7.1.1).
const (
	GroupNone    GroupBy = ""
	GroupStudy   GroupBy = "study"
	GroupSeries  GroupBy = "series"
	GroupPatient GroupBy = "patient"
)

// SecretRef is a reference to a secret: ${env:NAME} or ${file:/absolute/path}. It is resolved at
// use and never stored; it is no secret itself.
type SecretRef string

// Credential is a named block of auth: what a driver's requests are signed with. The driver never
// sees it.
type Credential struct {
	Name     string
	Kind     string    // aws, basic, bearer or header
	Token    SecretRef // bearer
	Username string    // basic
	Password SecretRef // basic
	Header   string    // header: its name
	Value    SecretRef // header

	// Of aws. Without keys it is the SDK's default chain.
	Region          string // empty: that of the host, else us-east-1
	Profile         string
	RoleARN         string
	AccessKeyID     SecretRef
	SecretAccessKey SecretRef
	SessionToken    SecretRef
}

// Processing is a processor: an inference service behind a driver.
type Processing struct {
	Endpoint
	Timeout time.Duration // of one call, from the first byte sent to the last received
	Limits  Limits
}

// Limits bounds the calls to one target over all processes.
type Limits struct {
	Concurrency int     // calls at once; 0: DefaultConcurrency
	Rate        float64 // calls begun per second; 0: no limit
	Burst       int     // calls that may begin at once after a pause; 0: 1
	Breaker     Breaker
	Adaptive    bool // fewer at once while the target is slow or refuses, never more than Concurrency
}

// DefaultConcurrency is the number of calls at once to a target that declares none.
const DefaultConcurrency = 4

// Mode says what the processors of a stage read.
type Mode string

// The modes. Sequential reads what the previous stage left; cumulative reads the task's own media
// and the outputs of every earlier stage; fanout reads what sequential reads and gives it to each of
// its processors side by side, and what it leaves is the union of their outputs.
const (
	Sequential Mode = "sequential"
	Cumulative Mode = "cumulative"
	Fanout     Mode = "fanout"
)

// Each says what one call of a stage is about.
type Each string

// One call per origin, per item, per batch of origins, or one for the whole task.
const (
	EachPart  Each = "part"
	EachItem  Each = "item"
	EachBatch Each = "batch"
	EachTask  Each = "task"
)

// Pass says what a stage leaves to the next.
type Pass string

// PassAuto lets media that were answered replace what was sent, and data alone annotate it; the
// others leave the outputs alone, the inputs alone, or both.
const (
	PassAuto    Pass = ""
	PassOutputs Pass = "outputs"
	PassInputs  Pass = "inputs"
	PassBoth    Pass = "both"
)

// ErrorPolicy says what a bad entry or a failed part does to its task.
type ErrorPolicy string

// OnErrorFail ends the task; OnErrorSkip leaves a marked gap.
const (
	OnErrorFail ErrorPolicy = "fail"
	OnErrorSkip ErrorPolicy = "skip"
)

// Stage is one step of inference.
type Stage struct {
	Name    string
	Mode    Mode
	Each    Each
	Call    []string
	Max     int       // origins in one call of each: batch
	Need    int       // of a fanout: how many processors must answer for an origin; 0: all
	When    Condition // which parts are called at all; nil: all
	KeepIf  Condition // which origins go on after the stage; nil: all
	Pass    Pass
	OnError ErrorPolicy
}

// Extract says what is taken apart, and bounds what one task may unpack, over all nesting.
type Extract struct {
	Archives   []string
	Frames     Rendering // of multi-frame DICOM; empty: the file is one item, as it is
	Video      Rendering // of videos; empty: they are not taken
	Window     string    // of frames rendered as pictures: file, full, or center/width
	Sample     float64   // frames taken per second of a video; 0: every one
	Depth      int
	MaxBytes   int64
	MaxEntries int
	MaxRatio   int
	Shard      int // origins from which on a task is divided among children
}

// Rendering is the form that frames take on their way to a processor.
type Rendering string

// The renderings. NPY is the array of stored values after rescaling, as float32 (NumPy format 1.0).
const (
	RenderNone Rendering = ""
	RenderPNG  Rendering = "png"
	RenderJPEG Rendering = "jpeg"
	RenderNPY  Rendering = "npy"
)

// Timeouts bound how long a task may be in a state, all tries and waits included.
type Timeouts struct {
	Queued, Extracting, Ingesting, Inferring, Responding time.Duration
}

// Of gives the time limit of a state; 0 for a final one.
func (t Timeouts) Of(s State) time.Duration {
	switch s {
	case Queued:
		return t.Queued
	case Extracting:
		return t.Extracting
	case Ingesting:
		return t.Ingesting
	case Inferring:
		return t.Inferring
	case Responding:
		return t.Responding
	}
	return 0
}

// RetryPolicy says how often and after what pauses a part or an effect is tried again.
type RetryPolicy struct {
	Attempts int // tries in all
	Initial  time.Duration
	Factor   float64
	Max      time.Duration
}

// Pause is the delay before the try after attempt failed ones: full jitter over an exponential,
// r being uniform in [0, 1), and never less than what the peer asked for, up to Max.
func (p RetryPolicy) Pause(attempt int, r float64, retryAfter time.Duration) time.Duration {
	top := float64(p.Initial)
	for i := 1; i < attempt && top < float64(p.Max); i++ {
		top *= p.Factor
	}
	d := time.Duration(r * min(top, float64(p.Max)))
	return max(d, min(retryAfter, p.Max), time.Millisecond)
}

// MayRetry tells whether a failure of this kind is worth another try after attempt tries.
func (p RetryPolicy) MayRetry(k Kind, attempt int) bool {
	if k == BadResponse {
		return attempt < min(2, p.Attempts)
	}
	return k.Retryable() && attempt < p.Attempts
}

// Processor finds a processor by its name.
func (p *Pipeline) Processor(name string) (Processing, error) {
	for _, x := range p.Processors {
		if x.Name == name {
			return x, nil
		}
	}
	return Processing{}, fmt.Errorf("pipeline %s: no processor %q", p.Name, name)
}

// Target is where a driver's calls go. Its key names the limiter row: aliases in pipeline files
// and versions do not count.
type Target struct {
	Scheme string // http, https, dir
	Host   string // without port; a folder's path for dir
	Port   string
	Model  string
}

// Key is the target's name in the limiter table and in records.
func (t Target) Key() string {
	if t.Scheme == "dir" {
		return "dir:" + t.Host
	}
	k := t.Scheme + "://" + t.Host
	if t.Port != "" {
		k += ":" + t.Port
	}
	if t.Model != "" {
		k += "/" + t.Model
	}
	return k
}

// Targeted is a driver's config: it says where its calls go.
type Targeted interface {
	Target() Target
}

// Checked is a driver's config with rules beyond the types of its fields.
type Checked interface {
	Check() []FieldProblem
}

// ManifestName is the name of the file that each task's results end with.
const ManifestName = "_manifest.json"

// Placed is a source's config that says where its objects lie. They are known by the source's name and their keys: the
// same keys elsewhere would be other objects.
type Placed interface {
	// Place is kept on record, so that a version that names the same place otherwise refuses what was served before.
	Place() string
}
