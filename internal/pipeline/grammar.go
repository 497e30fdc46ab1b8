package pipeline

import (
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// file is the grammar of a pipeline file: what stands here with its tags is all there is. The tags
// are explained in fields.go.
type file struct {
	Gantry      string `yaml:"gantry" one:"v1" doc:"The version of this grammar: v1. It is the first key."`
	Name        string `yaml:"name" required:"true" doc:"The name in records, limits and output keys: 1 to 63 of a-z, 0-9 and -."`
	Description string `yaml:"description" version:"no" doc:"What it is for, in a sentence."`
	ordering
	Sources    map[string]inlet   `yaml:"sources" names:"true" role:"source" doc:"Where objects come from. gantry run brings its own."`
	Group      group              `yaml:"group" doc:"Which arrivals are one task together, and how the media of one archive are divided into tasks of their own. Without it, one arrival is one task."`
	When       expression         `yaml:"when" doc:"Which tasks go on after ingesting; without it, all."`
	Extract    extract            `yaml:"extract" doc:"What is unpacked, and how much of it, over all nesting."`
	Limits     fileLimits         `yaml:"limits" version:"no" doc:"How much goes on at once, over all processes."`
	Timeouts   timeouts           `yaml:"timeouts" doc:"How long a task may be in a state, with all tries and waits."`
	Retry      retry              `yaml:"retry" doc:"How often, and after what pauses, a call is tried again."`
	OnError    string             `yaml:"on_error" default:"fail" one:"fail skip" doc:"What a bad entry of an archive does to its task."`
	Stages     []stage            `yaml:"stages" required:"true" doc:"The steps of inference in their order."`
	Sinks      map[string]outlet  `yaml:"sinks" names:"true" role:"sink" doc:"Where results go. gantry run brings its own."`
	Processors map[string]process `yaml:"processors" names:"true" role:"processor" doc:"The inference services that stages call."`
	MoveIf     []moveRule         `yaml:"move_if" doc:"Which tasks that would fail begin anew in another pipeline instead: the first rule that holds."`
	Auth       map[string]auth    `yaml:"auth" names:"true" role:"auth" doc:"What requests are signed with."`
	Tests      []test             `yaml:"tests" version:"no" doc:"What must come of samples, with answers in place of the processors': gantry test runs them."`

	_ struct{} `later:"deidentify keep_input notify"`
}

// endpoint is a source or a sink. The keys of its kind's driver stand beside these.
type endpoint struct {
	Kind   string `yaml:"kind" required:"true" doc:"The driver."`
	Auth   string `yaml:"auth" filled:"true" doc:"The name of a block under auth."`
	Config any    `yaml:",kind"`

	_ struct{} `later:"send commit discover async await"`
}

// inlet is a source.
type inlet struct {
	endpoint
	When expression `yaml:"when" doc:"Which arrivals become tasks, by what is known of an object before it is read; docs/routes.md. Without it, all."`
}

// outlet is a sink.
type outlet struct {
	endpoint
	Rejoin string `yaml:"rejoin" one:"original" doc:"original puts what was made of an archive, a multi-frame file or a video back into one of the same kind, in the original order. Without it every output is a file of its own."`
}

// process is a processor.
type process struct {
	endpoint
	Timeout time.Duration `yaml:"timeout" default:"60s" min:"1ms" doc:"Of one call, from the first byte sent to the last received."`
	Limits  callLimits    `yaml:"limits" version:"no" doc:"The calls to its target, over all processes."`
}

type callLimits struct {
	Concurrency int     `yaml:"concurrency" default:"4" min:"1" max:"100000" doc:"Calls at once."`
	Rate        Rate    `yaml:"rate" doc:"Calls begun per second, minute or hour: 20/s, 100/m. Without it there is no such limit."`
	Burst       int     `yaml:"burst" min:"1" max:"100000" doc:"Calls that may begin at once after a pause; 1 without it."`
	Breaker     breaker `yaml:"breaker" doc:"When calls to a target that fails are stopped."`
	Adaptive    bool    `yaml:"adaptive" doc:"Fewer calls at once while the target answers slowly or has no room, and up to concurrency again when it has."`
}

type breaker struct {
	Failures int           `yaml:"failures" default:"10" min:"0" max:"100000" doc:"Failures in a row, of one process, after which no process calls it; 0 is never."`
	Open     time.Duration `yaml:"open" default:"10s" min:"1ms" max:"24h" doc:"Until one call, of all processes, tries it again."`
}

// Check refuses a burst that nothing refers to.
func (l callLimits) Check() []gantry.FieldProblem {
	if l.Burst > 0 && l.Rate == 0 {
		return []gantry.FieldProblem{{Key: "burst", Text: "it means nothing without rate"}}
	}
	return nil
}

type fileLimits struct {
	InProgress int `yaml:"in_progress" min:"1" max:"1000000" doc:"Tasks at once. Without it there is no limit."`
	Extracting int `yaml:"extracting" min:"1" max:"1000000" doc:"Of these, being taken apart at once."`
	Ingesting  int `yaml:"ingesting" min:"1" max:"1000000" doc:"Whose media are looked at."`
	Inferring  int `yaml:"inferring" min:"1" max:"1000000" doc:"In the stages."`
	Responding int `yaml:"responding" min:"1" max:"1000000" doc:"Delivering."`

	_ struct{} `later:"queued"`
}

// states gives the limits of states; nil without any.
func (l fileLimits) states() map[gantry.State]int {
	var out map[gantry.State]int
	for s, n := range map[gantry.State]int{gantry.Extracting: l.Extracting, gantry.Ingesting: l.Ingesting,
		gantry.Inferring: l.Inferring, gantry.Responding: l.Responding} {
		if n == 0 {
			continue
		}
		if out == nil {
			out = map[gantry.State]int{}
		}
		out[s] = n
	}
	return out
}

type extract struct {
	Archives   []string `yaml:"archives" default:"zip tar tar.gz tar.zst" one:"zip tar tar.gz tar.zst" later:"7z" doc:"The archives that are unpacked; others are media that nobody knows."`
	Frames     string   `yaml:"frames" one:"png jpeg npy" doc:"What each frame of a multi-frame DICOM file is sent as; npy is an array of float32. Without it the file is one item."`
	Video      string   `yaml:"video" one:"png jpeg" doc:"What each frame of a video is sent as. Without it videos are not taken."`
	Window     window   `yaml:"window" default:"file" doc:"How stored values become the grey of pictures: file, as the file says; full, from the least to the largest; stored, unchanged in 8 or 16 bits, so that they can be put back exactly; center/width, such as -600/1500."`
	Sample     sample   `yaml:"sample" doc:"How many frames of a video are taken, per second: 5/s, or 5. Without it every one."`
	Depth      int      `yaml:"depth" default:"3" min:"1" max:"16" doc:"Archives inside one another."`
	MaxBytes   Size     `yaml:"max_bytes" default:"20GiB" min:"1B" max:"64TiB" doc:"Unpacked bytes."`
	MaxEntries int      `yaml:"max_entries" default:"100000" min:"1" max:"10000000" doc:"Entries."`
	MaxRatio   int      `yaml:"max_ratio" default:"200" min:"1" max:"1000000" doc:"Unpacked bytes per packed byte."`
	Shard      int      `yaml:"shard" default:"512" min:"2" max:"1000000" doc:"Files and frames of a task above which its first stages run as several tasks, of at most so many each."`
}

type timeouts struct {
	Queued     time.Duration `yaml:"queued" default:"12h" min:"1ms" doc:"Waiting to begin."`
	Extracting time.Duration `yaml:"extracting" default:"15m" min:"1ms" doc:"Without progress in unpacking."`
	Ingesting  time.Duration `yaml:"ingesting" default:"5m" min:"1ms" doc:"Reading what the media say about themselves."`
	Inferring  time.Duration `yaml:"inferring" default:"1h" min:"1ms" doc:"All stages together."`
	Responding time.Duration `yaml:"responding" default:"15m" min:"1ms" doc:"Delivering to the sinks."`
}

type retry struct {
	Attempts int           `yaml:"attempts" default:"5" min:"1" max:"1000" doc:"Tries in all."`
	Initial  time.Duration `yaml:"initial" default:"2s" min:"1ms" doc:"The longest pause after the first try."`
	Factor   float64       `yaml:"factor" default:"2" min:"1" max:"100" doc:"How much longer each further pause may be."`
	Max      time.Duration `yaml:"max" default:"5m" min:"1ms" doc:"The longest pause of all."`
}

// Check refuses a longest pause below the first.
func (r retry) Check() []gantry.FieldProblem {
	if r.Max < r.Initial {
		return []gantry.FieldProblem{{Key: "max", Text: fmt.Sprintf("%s is shorter than initial, %s", formatDuration(r.Max), formatDuration(r.Initial))}}
	}
	return nil
}

type stage struct {
	Name    string     `yaml:"name" required:"true" doc:"Its name in records, and the folder of its outputs; not r1, leg1 and the like, as later deliveries and legs are called."`
	Mode    string     `yaml:"mode" default:"sequential" one:"sequential cumulative fanout" doc:"What its processors read: sequential, what the previous stage left; fanout, the same, each of several side by side; cumulative, the originals and the outputs of every earlier stage."`
	Each    string     `yaml:"each" default:"part" one:"part item batch task" doc:"What one call is about: a part, that is a file or frame of the original with what was made of it; an item; up to max parts; or the whole task."`
	Call    []string   `yaml:"call" required:"true" single:"true" doc:"The processor; of a fanout, one or more."`
	Max     int        `yaml:"max" min:"1" max:"100000" doc:"Parts in one call, of each: batch."`
	Need    need       `yaml:"need" default:"all" doc:"Of a fanout, how many processors must answer for a part: all, any or a number."`
	When    expression `yaml:"when" doc:"Which parts are sent at all; without it, all."`
	KeepIf  expression `yaml:"keep_if" doc:"Which parts go on after the stage; without it, all."`
	Pass    string     `yaml:"pass" one:"outputs inputs both" doc:"What the stage leaves to the next. Without it media that were answered replace what was sent, and data alone go along with it."`
	OnError string     `yaml:"on_error" default:"fail" one:"fail skip" doc:"What a part that failed for good does to its task."`
}

// moveRule moves tasks that would fail.
type moveRule struct {
	When expression `yaml:"when" required:"true" doc:"Which failures."`
	To   string     `yaml:"to" required:"true" doc:"The name of the pipeline that the task goes to, with its original alone."`
	Legs int        `yaml:"legs" default:"3" min:"2" max:"100" doc:"How many pipelines a task goes through at most, this one among them; after that it fails with too_many_legs."`
}

// test is a sample with what must come of it.
type test struct {
	Name   string         `yaml:"name" required:"true" doc:"What it shows."`
	Input  []string       `yaml:"input" required:"true" single:"true" path:"true" doc:"The files, relative to the pipeline file."`
	Mock   map[string]any `yaml:"mock" doc:"What processors answer, by their names: any JSON, $echo, {$file: path} or {$error: kind}; docs/testing.md. The others are called."`
	Expect expect         `yaml:"expect" doc:"What must come of it."`
}

type expect struct {
	State   string         `yaml:"state" default:"done" one:"done failed cancelled" doc:"How each task ends."`
	Calls   map[string]int `yaml:"calls" min:"0" doc:"How often processors are called, every try counted. Those that are not named may be called at will."`
	Outputs outputs        `yaml:"outputs" default:"any" doc:"How many files are delivered, manifests apart: any, or a number."`
	Error   string         `yaml:"error" doc:"The reason code that each task fails with."`
}

// auth is a credential; its keys are those of its kind.
type auth struct {
	Kind   string `yaml:"kind" required:"true" doc:"aws, basic, bearer or header."`
	Config any    `yaml:",kind"`
}

type bearer struct {
	Token gantry.SecretRef `yaml:"token" required:"true" doc:"A reference to the token: ${env:NAME} or ${file:/path}."`
}

type basic struct {
	Username string           `yaml:"username" required:"true" doc:"The user."`
	Password gantry.SecretRef `yaml:"password" required:"true" doc:"A reference to the password."`
}

// headerAuth is a key in a header that a service gave a name to.
type headerAuth struct {
	Header string           `yaml:"header" required:"true" doc:"The header's name, such as X-API-Key."`
	Value  gantry.SecretRef `yaml:"value" required:"true" doc:"A reference to all that the header says."`
}

// Check refuses a header that has a meaning of its own.
func (h headerAuth) Check() []gantry.FieldProblem {
	if h.Header == "" || gantry.IsSecretHeader(h.Header) {
		return nil
	}
	return []gantry.FieldProblem{{Key: "header", Text: "is no name of a header that can carry a secret"}}
}

type awsKeys struct {
	Region          string           `yaml:"region" doc:"The region to sign for. Without it: that in a host name of AWS, else us-east-1."`
	Profile         string           `yaml:"profile" doc:"A profile of the shared AWS files."`
	RoleARN         string           `yaml:"role_arn" doc:"A role to assume."`
	AccessKeyID     gantry.SecretRef `yaml:"access_key_id" doc:"A reference to the key's id. Without keys, the AWS default chain is asked."`
	SecretAccessKey gantry.SecretRef `yaml:"secret_access_key" doc:"A reference to the key itself."`
	SessionToken    gantry.SecretRef `yaml:"session_token" doc:"A reference to the token of temporary keys."`
}

var namePattern = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)

func isName(s string) bool { return namePattern.MatchString(s) }

// laterKinds are the kinds that this release does not have but a later one will.
func laterKinds(role string) []string {
	switch role {
	case "source", "sink":
		return []string{"dicom", "dicomweb", "http"}
	case "processor":
		return []string{"oip", "torchserve", "tfserving", "dicom", "sagemaker", "graphql"}
	case "auth":
		return []string{"oauth2", "mtls"}
	}
	return nil
}

// kinds knows the config of every kind: those of the drivers, and of auth.
type kinds struct{ drivers Kinds }

func (k kinds) config(role, kind string) (any, bool) {
	if role == "auth" {
		switch kind {
		case "bearer":
			return &bearer{}, true
		case "basic":
			return &basic{}, true
		case "header":
			return &headerAuth{}, true
		case "aws":
			return &awsKeys{}, true
		}
		return nil, false
	}
	return k.drivers.Config(boundary(role), kind)
}

func (k kinds) names(role string) []string {
	if role == "auth" {
		return []string{"aws", "basic", "bearer", "header"}
	}
	return slices.Sorted(slices.Values(k.drivers.Kinds(boundary(role))))
}

func boundary(role string) gantry.Boundary {
	for _, b := range []gantry.Boundary{gantry.AtSource, gantry.AtProcessor, gantry.AtSink, gantry.AtArchive} {
		if b.String() == role {
			return b
		}
	}
	panic("pipeline: no boundary " + role)
}
