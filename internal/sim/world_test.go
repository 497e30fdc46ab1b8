package sim

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/sample"
)

// worlds is how many different worlds there are. What a world leads to when nothing goes wrong is found out once.
const worlds = 40

// world is what is to be done, whatever goes wrong: pipelines, services and objects.
type world struct {
	dice      dice
	pipelines []*gantry.Pipeline
	services  []serviceSpec
	progress  []int // limit of tasks in progress, by pipeline
	objects   []object
}

// serviceSpec is a target with its limits.
type serviceSpec struct {
	name        string
	concurrency int
	rate, burst float64
	picture     bool          // it answers with a picture, not with data
	refuses     float64       // how much of what it is sent it refuses for good, or answers with garbage
	lo, hi      time.Duration // how long it works on one request
	breaker     gantry.Breaker
}

// object is something that a source announces.
type object struct {
	pipeline int
	ref      string
	body     []byte
	at       time.Duration // from the beginning
	more     [][]byte      // the other members of a collection, of which body is the first; nil: it is alone
}

const (
	callTimeout = 5 * time.Second
	attempts    = 14 // so many that no number of faults of one run is enough for a part to fail for good
)

func newWorld(n int) *world {
	w := &world{dice: dice(mix(uint64(n) + 77))}
	for i := range 3 {
		d := w.dice.of("service", "", i)
		s := serviceSpec{name: fmt.Sprintf("svc%d", i), concurrency: 1 + d.below(3), picture: d.more(1).hits(0.4),
			lo: 5 * time.Millisecond, hi: d.more(2).between(20*time.Millisecond, 800*time.Millisecond)}
		if d.more(3).hits(0.4) {
			s.rate, s.burst = float64(2+d.more(4).below(9)), float64(1+d.more(5).below(3))
		}
		if d.more(6).hits(0.3) {
			s.refuses = 0.15
		}
		if d.more(7).hits(0.4) {
			s.breaker = gantry.Breaker{Failures: 2 + d.more(8).below(3), Open: d.more(9).between(time.Second, 5*time.Second)}
		}
		w.services = append(w.services, s)
	}
	for i := range 2 {
		w.pipelines = append(w.pipelines, w.pipeline(i))
		w.progress = append(w.progress, 1+w.dice.of("progress", "", i).below(4))
	}
	for i := range 3 + w.dice.of("objects", "", 0).below(4) {
		d := w.dice.of("object", "", i)
		o := object{pipeline: d.below(2), ref: fmt.Sprintf("object%d", i), at: d.more(1).between(0, 5*time.Second)}
		switch d.more(3).below(10) {
		case 0, 1:
			o.body = picture(d.more(2))
		case 2, 3:
			o.body = loop(d.more(2), 1+d.more(4).below(4))
		default:
			o.body = archive(d.more(4), 1+d.more(5).below(7))
		}
		if d.more(7).hits(0.4) {
			o.more = others(d.more(8))
		}
		w.objects = append(w.objects, o)
	}
	return w
}

// others are the members of a collection but for the first: up to four, now and then none.
func others(d dice) [][]byte {
	out := [][]byte{}
	for i := range d.below(5) {
		switch x := d.more(i + 1); x.below(6) {
		case 0:
			out = append(out, archive(x.more(1), 1+x.more(2).below(3)))
		case 1:
			out = append(out, loop(x.more(1), 1+x.more(2).below(2)))
		default:
			out = append(out, picture(x.more(1)))
		}
	}
	return out
}

// pipeline makes one of several shapes.
func (w *world) pipeline(i int) *gantry.Pipeline {
	d := w.dice.of("pipeline", "", i)
	p := &gantry.Pipeline{Name: fmt.Sprintf("p%d", i), Version: gantry.Digest{byte(i + 1)}, Resolved: []byte("{}"), Priority: gantry.PriorityNormal,
		OnError: gantry.OnErrorFail, Extract: gantry.Extract{Archives: []string{"zip"}, Depth: 2, MaxBytes: 1 << 20, MaxEntries: 100, MaxRatio: 1000, Shard: 500, Frames: gantry.RenderPNG},
		Timeouts: gantry.Timeouts{Queued: 12 * time.Hour, Extracting: 12 * time.Hour, Ingesting: 12 * time.Hour, Inferring: 12 * time.Hour, Responding: 12 * time.Hour},
		Retry:    gantry.RetryPolicy{Attempts: attempts, Initial: 50 * time.Millisecond, Factor: 2, Max: 2 * time.Second}}
	policy := gantry.OnErrorSkip
	if d.hits(0.3) {
		policy = gantry.OnErrorFail
	}
	stage := func(name string, m gantry.Mode, e gantry.Each, calls ...string) gantry.Stage {
		return gantry.Stage{Name: name, Mode: m, Each: e, Call: calls, OnError: policy}
	}
	switch d.more(1).below(6) {
	case 0:
		p.Stages = []gantry.Stage{stage("one", gantry.Sequential, gantry.EachPart, "svc0")}
	case 1:
		p.Stages = []gantry.Stage{stage("first", gantry.Sequential, gantry.EachPart, "svc1"), stage("second", gantry.Cumulative, gantry.EachTask, "svc0")}
	case 2:
		p.Stages = []gantry.Stage{stage("both", gantry.Fanout, gantry.EachPart, "svc0", "svc2")}
	case 3:
		p.Stages = []gantry.Stage{stage("batch", gantry.Sequential, gantry.EachBatch, "svc2"), stage("each", gantry.Sequential, gantry.EachItem, "svc1")}
		p.Stages[0].Max = 2
	case 4: // a task for each study
		p.Stages = []gantry.Stage{stage("one", gantry.Sequential, gantry.EachPart, "svc0"), stage("two", gantry.Cumulative, gantry.EachPart, "svc1")}
		p.Group = gantry.GroupStudy
	default: // in shards
		p.Stages = []gantry.Stage{stage("part", gantry.Sequential, gantry.EachPart, "svc0"), stage("whole", gantry.Cumulative, gantry.EachTask, "svc2")}
		p.Extract.Shard = 2
	}
	if d.more(2).hits(0.3) {
		p.Priority = gantry.PriorityUrgent
	}
	return p
}

var pictures sync.Map // by shade

// picture is a small PNG.
func picture(d dice) []byte {
	shade := byte(d.below(256))
	if b, ok := pictures.Load(shade); ok {
		return b.([]byte)
	}
	m := image.NewGray(image.Rect(0, 0, 3, 2))
	for i := range m.Pix {
		m.Pix[i] = shade
	}
	m.SetGray(1, 1, color.Gray{Y: ^shade})
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		panic(err)
	}
	pictures.Store(shade, b.Bytes())
	return b.Bytes()
}

// loop is a small ultrasound of some frames; a few different ones, each of a study of its own.
func loop(d dice, frames int) []byte { return sample.Ultrasound(frames, 4+d.below(3), 4) }

// archive is a zip of some pictures, or of ultrasound.
func archive(d dice, n int) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := range n {
		w, err := z.CreateHeader(&zip.FileHeader{Name: fmt.Sprintf("%d.png", i), Method: zip.Store})
		if err != nil {
			panic(err)
		}
		b := picture(d.more(i))
		if d.more(-2).hits(0.3) {
			b = loop(d.more(i), 1)
		}
		w.Write(b)
	}
	z.Close()
	return b.Bytes()
}

// answerTo is what a service answers: a function of what it is sent.
func (s serviceSpec) answerTo(d dice, inputs []gantry.Digest) (media string, body []byte, err error) {
	h := sha256.New()
	h.Write([]byte(s.name))
	for _, x := range inputs {
		h.Write(x[:])
	}
	sum := gantry.Digest(h.Sum(nil))
	d = d.of("answer", sum.String(), 0)
	switch {
	case d.hits(s.refuses):
		return "", nil, gantry.Errorf(gantry.Permanent, "http_400", "read answer: it is refused")
	case d.more(2).hits(s.refuses / 3):
		return gantry.MediaPNG, []byte("this is no picture"), nil
	case s.picture:
		return gantry.MediaPNG, picture(d.more(1)), nil
	}
	return gantry.MediaJSON, fmt.Appendf(nil, `{"service":%q,"of":%d,"sum":%q}`, s.name, len(inputs), sum), nil
}
