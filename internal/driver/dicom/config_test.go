package dicom

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// sound is a config without mistakes.
func sound() SourceConfig {
	return SourceConfig{AET: "GANTRY", Listen: "127.0.0.1:11112", MaxAssociations: 4, MaxPerPeer: 2, MaxMiB: 1, Duplicates: duplicatesRevise}
}

func TestSourceConfig(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*SourceConfig)
		want   []string // keys at fault
	}{
		"sound":          {func(*SourceConfig) {}, nil},
		"localhost":      {func(c *SourceConfig) { c.Listen = "localhost:104" }, nil},
		"IPv6":           {func(c *SourceConfig) { c.Listen = "[::1]:104" }, nil},
		"no title":       {func(c *SourceConfig) { c.AET = "" }, []string{"aet"}},
		"long title":     {func(c *SourceConfig) { c.AET = "GANTRYGANTRYGANTRY" }, []string{"aet"}},
		"no port":        {func(c *SourceConfig) { c.Listen = "127.0.0.1" }, []string{"listen"}},
		"port 0":         {func(c *SourceConfig) { c.Listen = "127.0.0.1:0" }, []string{"listen"}},
		"open":           {func(c *SourceConfig) { c.Listen = ":104" }, []string{"listen"}},
		"open by name":   {func(c *SourceConfig) { c.Listen = "gantry.local:104" }, []string{"listen"}},
		"open by intent": {func(c *SourceConfig) { c.Listen, c.AllowAny = ":104", true }, nil},
		"open to some":   {func(c *SourceConfig) { c.Listen, c.Allow = ":104", []AllowConfig{{From: "10.0.0.0/8"}} }, nil},
		"any and some":   {func(c *SourceConfig) { c.AllowAny, c.Allow = true, []AllowConfig{{AET: "A"}} }, []string{"allow_any"}},
		"cert alone":     {func(c *SourceConfig) { c.Cert = "x" }, []string{"cert"}},
		"ca alone":       {func(c *SourceConfig) { c.CA = "x" }, []string{"ca"}},
		"nobody":         {func(c *SourceConfig) { c.Allow = []AllowConfig{{}} }, []string{"allow[0].aet"}},
		"bad network":    {func(c *SourceConfig) { c.Allow = []AllowConfig{{AET: "A"}, {From: "10.0.0.0/33"}} }, []string{"allow[1].from"}},
		"bad peer":       {func(c *SourceConfig) { c.Allow = []AllowConfig{{AET: `A\`}} }, []string{"allow[0].aet"}},
		"no authority":   {func(c *SourceConfig) { c.Allow = []AllowConfig{{Certificate: "a"}} }, []string{"allow[0].certificate"}},
		"no commitment":  {func(c *SourceConfig) { c.Allow = []AllowConfig{{AET: "A", Report: "h:1"}} }, []string{"allow[0].report"}},
		"no host":        {func(c *SourceConfig) { c.Commit, c.Allow = true, []AllowConfig{{AET: "A", Report: ":1"}} }, []string{"allow[0].report"}},
		"no peer":        {func(c *SourceConfig) { c.Commit, c.Allow = true, []AllowConfig{{From: "::1", Report: "h:1"}} }, []string{"allow[0].report"}},
		"commitment":     {func(c *SourceConfig) { c.Commit, c.Allow = true, []AllowConfig{{AET: "A", Report: "h:1"}} }, nil},
	} {
		x := sound()
		c.change(&x)
		var got []string
		for _, p := range x.Check() {
			got = append(got, p.Key)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		s, err := NewSource(t.Context(), x, drivertest.Egress(t))
		if (s != nil) != (c.want == nil) || c.want != nil && (gantry.KindOf(err) != gantry.Illegal || gantry.CodeOf(err) != CodeBadConfig) {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
}

func TestSourceTargets(t *testing.T) {
	t.Parallel()
	c := sound()
	c.Listen, c.Commit = ":11112", true
	c.Allow = []AllowConfig{{AET: "A", Report: "10.0.0.5:104"}, {From: "10.1.0.0/16"}, {From: "10.2.0.7"}}
	if key := c.Target().Key(); key != "dicom-scp://*:11112/GANTRY" {
		t.Error(key)
	}
	further := c.Further()
	if len(further) != 1 || further[0].Key() != "dicom://10.0.0.5:104/A" {
		t.Errorf("%v", further)
	}
	p := c.place()
	want := []Allowed{{AET: "A"}, {From: netip.MustParsePrefix("10.1.0.0/16")}, {From: netip.MustParsePrefix("10.2.0.7/32")}}
	if !slices.Equal(p.Allow, want) || !p.Last || !p.Commit || p.MaxBytes != 1<<20 || p.Most != 4 || p.PerPeer != 2 {
		t.Errorf("%+v", p)
	}
}

func TestServerTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := writePair(t, dir, "server", nil)
	junk := filepath.Join(dir, "junk")
	if err := os.WriteFile(junk, []byte("no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		place Place
		ok    bool
	}{
		"none":         {Place{}, true},
		"pair":         {Place{Cert: cert, Key: key}, true},
		"with ca":      {Place{Cert: cert, Key: key, CA: cert}, true},
		"wrong key":    {Place{Cert: cert, Key: junk}, false},
		"no file":      {Place{Cert: cert + "x", Key: key}, false},
		"no authority": {Place{Cert: cert, Key: key, CA: junk}, false},
		"no ca file":   {Place{Cert: cert, Key: key, CA: junk + "x"}, false},
	} {
		got, err := serverTLS(c.place)
		if (err == nil) != c.ok || err != nil && gantry.CodeOf(err) != codeBadTLS || (got != nil) != (c.ok && c.place.Cert != "") {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}
