package media

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// What a decoder says is looked at and never passed on.
func TestChildVerdict(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]gantry.Code{
		"exit 0":                               "",
		"exit 1":                               gantry.CodeMalformed,
		"echo 'SECRET: concealing errors' >&2": gantry.CodeMalformed,
		"echo 'SECRET: moov atom not found' >&2; exit 1":    gantry.CodeTruncated,
		"echo 'SECRET: partial file' >&2":                   gantry.CodeTruncated,
		"echo 'SECRET: Cannot allocate memory' >&2; exit 1": gantry.CodeTooLarge,
		"echo 'SECRET: matches no streams' >&2; exit 1":     gantry.CodeUnsupportedFormat,
		"kill -SEGV $$": gantry.CodeMalformed,
		"kill -XFSZ $$": gantry.CodeTooLarge,
		"yes SECRET | head -c 100000 >&2; exit 1":               gantry.CodeMalformed,
		"echo '{\"streams\": \"an answer over the limit\"}'; :": gantry.CodeTooLarge,
	} {
		c, err := newChild(t.Context(), "sh", "-c", script)
		wantCode(t, err)
		_, err = c.output(10)
		if want == gantry.CodeTooLarge && strings.HasPrefix(script, "echo '{") && err != nil {
			continue // the pipe is closed on it
		}
		wantCode(t, err, want)
		if err != nil && strings.Contains(err.Error(), "SECRET") {
			t.Errorf("the child's words come out: %v", err)
		}
	}
	c, err := newChild(t.Context(), "sh", "-c", "kill -KILL $$")
	wantCode(t, err)
	if _, err := c.output(1); gantry.KindOf(err) != gantry.Timeout || gantry.CodeOf(err) != CodeTimeout {
		t.Errorf("killed by its limit: got %v", err)
	}
	c, _ = newChild(t.Context(), "sh", "-c", "exit 3")
	var exit *exec.ExitError
	if _, err := c.output(1); errors.As(err, &exit) {
		t.Error("the verdict carries the process's own state")
	}
}

func TestParseProbe(t *testing.T) {
	t.Parallel()
	stream := `{"streams":[{"codec_name":"h264","width":W,"height":48,"nb_frames":"N","r_frame_rate":"R","duration":"1.5"}]}`
	fill := func(w, n, r string) []byte {
		return []byte(strings.NewReplacer("W", w, `"N"`, `"`+n+`"`, `"R"`, `"`+r+`"`).Replace(stream))
	}
	for name, c := range map[string]struct {
		out  []byte
		want gantry.Code
	}{
		"sound":         {fill("64", "7", "25/1"), ""},
		"no streams":    {[]byte(`{"streams":[]}`), gantry.CodeUnsupportedFormat},
		"another codec": {[]byte(`{"streams":[{"codec_name":"gif","width":1,"height":1}]}`), gantry.CodeUnsupportedFormat},
		"no answer":     {nil, gantry.CodeMalformed},
		"no width":      {fill("0", "7", "25/1"), CodeBadValue},
		"too wide":      {fill("8193", "7", "25/1"), gantry.CodeTooLarge},
	} {
		_, err := parseProbe(gantry.MediaMP4, c.out)
		if gantry.CodeOf(err) != c.want {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
	v, err := parseProbe(gantry.MediaMP4, fill("64", "N/A", "0/0"))
	if err != nil || v.Frames != -1 || v.Rate != (Rate{}) || v.Duration != 1500*time.Millisecond {
		t.Errorf("got %+v, %v", v, err)
	}
}

func TestReadTimes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"frame:0    pts:0       pts_time:0\nn=0\nframe:1    pts:40000   pts_time:0.04\nn=0\n": 2,
		"frame:0    pts:-40 pts_time:0\n":                    1,
		"frame:0    pts:NOPTS pts_time:NOPTS\nframe:1 pts:1": 0,
		"frame:0    pts:9223372036854775807":                 0,
		"frame:0":                                            0,
		"":                                                   0,
	} {
		times, n := make(chan time.Duration, 8), 0
		readTimes(strings.NewReader(text), times, make(chan struct{}))
		for range times {
			n++
		}
		if n != want {
			t.Errorf("%q: %d times, want %d", text, n, want)
		}
	}
}

// TestDiskFull: that there is no room for a child's output is not the input's fault.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("this system has no /dev/full")
	}
	picture := GapPicture(64, 64)
	for _, kind := range []string{gantry.MediaMKV, gantry.MediaMP4} {
		err := JoinVideo(t.Context(), "/dev/full", kind, Rate{Num: 25, Den: 1}, func(i int) (VideoFrame, bool, error) {
			return VideoFrame{Picture: bytes.NewReader(picture), Media: gantry.MediaPNG, At: time.Duration(i) * 40 * time.Millisecond}, i < 50, nil
		})
		if gantry.KindOf(err) != gantry.Unavailable || gantry.CodeOf(err) != "no_space" {
			t.Errorf("%s: %s %s: %v", kind, gantry.KindOf(err), gantry.CodeOf(err), err)
		}
	}
}
