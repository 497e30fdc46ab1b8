package driver_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/driver"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

type config struct{ Path string }

func (c config) Target() gantry.Target { return gantry.Target{Scheme: "dir", Host: c.Path} }

type pointerConfig struct{ Host string }

func (c *pointerConfig) Target() gantry.Target { return gantry.Target{Scheme: "tcp", Host: c.Host} }

type untargeted struct{}

type name string

func (n name) Target() gantry.Target { return gantry.Target{Host: string(n)} }

type sink struct {
	gantry.Sink
	config config
	egress gantry.Egress
}

type processor struct {
	gantry.Processor
	host string
}

type source struct{ gantry.Source }

type egress struct{}

func (egress) Transport() http.RoundTripper { return nil }
func (egress) DialContext(context.Context, string, string) (net.Conn, error) {
	return nil, errors.New("no network here")
}

func newSink(_ context.Context, c config, e gantry.Egress) (gantry.Sink, error) {
	if c.Path == "" {
		return nil, gantry.Errorf(gantry.NotFound, "", "open sink: no folder")
	}
	return sink{config: c, egress: e}, nil
}

func newSource(context.Context, config, gantry.Egress) (gantry.Source, error) { return source{}, nil }

func newProcessor(_ context.Context, c pointerConfig, _ gantry.Egress) (gantry.Processor, error) {
	return processor{host: c.Host}, nil
}

func filled() *driver.Register {
	r := driver.New()
	driver.Sink(r, "shelf", newSink)
	driver.Sink(r, "box", newSink)
	driver.Source(r, "shelf", newSource)
	driver.Processor(r, "echo", newProcessor)
	return r
}

func TestKinds(t *testing.T) {
	t.Parallel()
	r := filled()
	for role, want := range map[gantry.Boundary][]string{
		gantry.AtSource:    {"shelf"},
		gantry.AtProcessor: {"echo"},
		gantry.AtSink:      {"box", "shelf"},
	} {
		if diff := cmp.Diff(want, r.Kinds(role)); diff != "" {
			t.Errorf("kinds at %s (-want +got):\n%s", role, diff)
		}
	}
	if got := driver.New().Kinds(gantry.AtSink); len(got) != 0 {
		t.Errorf("an empty register has kinds %q", got)
	}
}

func TestConfigIsNewEachTime(t *testing.T) {
	t.Parallel()
	r := filled()
	a, ok := r.Config(gantry.AtSink, "shelf")
	if !ok {
		t.Fatal("no config for a kind that is there")
	}
	a.(*config).Path = "/in"
	b, _ := r.Config(gantry.AtSink, "shelf")
	if got := b.(*config).Path; got != "" {
		t.Errorf("the second config holds %q of the first", got)
	}
	if got := a.(gantry.Targeted).Target().Key(); got != "dir:/in" {
		t.Errorf("target = %q", got)
	}
	for _, k := range []string{"echo", "", "Shelf"} {
		if c, ok := r.Config(gantry.AtSink, k); ok || c != nil {
			t.Errorf("kind %q: config %v, want none", k, c)
		}
	}
}

func TestNewTakesTheConfigOrAPointer(t *testing.T) {
	t.Parallel()
	r, e := filled(), egress{}
	for _, c := range []any{config{"/out"}, &config{"/out"}} {
		s, err := r.NewSink(t.Context(), "box", c, e)
		if err != nil {
			t.Fatalf("%T: %v", c, err)
		}
		if got := s.(sink); got.config.Path != "/out" || got.egress != e {
			t.Errorf("%T: made with %v and %v", c, got.config, got.egress)
		}
	}
	p, err := r.NewProcessor(t.Context(), "echo", &pointerConfig{"a.test"}, e)
	if err != nil || p.(processor).host != "a.test" {
		t.Errorf("processor = %v, %v", p, err)
	}
	s, err := r.NewSource(t.Context(), "shelf", config{}, e)
	if _, ok := s.(source); err != nil || !ok {
		t.Errorf("source = %v, %v", s, err)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	r := filled()
	for _, c := range []struct {
		what   string
		kind   string
		config any
		want   gantry.Kind
		code   gantry.Code
	}{
		{"an unknown kind", "ftp", config{"/x"}, gantry.Illegal, driver.CodeUnknownKind},
		{"a kind of another boundary", "echo", config{"/x"}, gantry.Illegal, driver.CodeUnknownKind},
		{"another config", "box", pointerConfig{}, gantry.Illegal, driver.CodeWrongConfig},
		{"no config", "box", nil, gantry.Illegal, driver.CodeWrongConfig},
		{"a nil pointer", "box", (*config)(nil), gantry.Illegal, driver.CodeWrongConfig},
		{"what the driver refuses", "box", config{}, gantry.NotFound, "not_found"},
	} {
		s, err := r.NewSink(t.Context(), c.kind, c.config, egress{})
		if s != nil || err == nil || gantry.KindOf(err) != c.want || gantry.CodeOf(err) != c.code {
			t.Errorf("%s: %v, %v (%s, %s); want %s, %s", c.what, s, err, gantry.KindOf(err), gantry.CodeOf(err), c.want, c.code)
		}
	}
	if _, err := r.NewSink(t.Context(), "ftp", nil, nil); err == nil || !strings.Contains(err.Error(), "box, shelf") {
		t.Errorf("an unknown kind does not name the known ones: %v", err)
	}
}

func TestAddPanics(t *testing.T) {
	t.Parallel()
	for what, f := range map[string]func(*driver.Register){
		"a kind twice":    func(r *driver.Register) { driver.Sink(r, "box", newSink) },
		"a nameless kind": func(r *driver.Register) { driver.Sink(r, "", newSink) },
		"no target": func(r *driver.Register) {
			driver.Sink(r, "x", func(context.Context, untargeted, gantry.Egress) (gantry.Sink, error) { return nil, nil })
		},
		"no struct": func(r *driver.Register) {
			driver.Sink(r, "x", func(context.Context, name, gantry.Egress) (gantry.Sink, error) { return nil, nil })
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			defer func() {
				if recover() == nil {
					t.Error("added without a panic")
				}
			}()
			f(filled())
		})
	}
}
