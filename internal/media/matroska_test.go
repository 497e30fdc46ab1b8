package media

import (
	"bytes"
	"encoding/json"
	"errors"
	"image/png"
	"io"
	"math"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Another program reads each picture back, byte for byte, at its microsecond.
func TestMatroskaRead(t *testing.T) {
	t.Parallel()
	times := []time.Duration{0, time.Microsecond, 40 * time.Millisecond, 41*time.Millisecond + 1600, 33 * time.Second, 999 * time.Hour}
	p := pictures(t, len(times), 64, 48)
	var stream bytes.Buffer
	m, err := newMatroska(&stream, Rate{30000, 1001}, 64, 48)
	for i := range p {
		if err == nil {
			err = m.frame(times[i], p[i])
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), "ffprobe", "-v", "error", "-f", "matroska", "-show_streams", "-show_packets", "-of", "json", "pipe:0")
	c.Stdin = bytes.NewReader(stream.Bytes())
	out, err := c.Output()
	var a struct {
		Streams []struct {
			Codec    string `json:"codec_name"`
			Width    int    `json:"width"`
			Height   int    `json:"height"`
			TimeBase string `json:"time_base"`
			Average  string `json:"avg_frame_rate"`
		} `json:"streams"`
		Packets []struct {
			PTS   int64  `json:"pts"`
			Size  string `json:"size"`
			Flags string `json:"flags"`
		} `json:"packets"`
	}
	if err := errors.Join(err, json.Unmarshal(out, &a)); err != nil {
		t.Fatal(err)
	}
	if len(a.Streams) != 1 || len(a.Packets) != len(p) {
		t.Fatalf("%d streams, %d packets", len(a.Streams), len(a.Packets))
	}
	if s := a.Streams[0]; s.Codec != "png" || s.Width != 64 || s.Height != 48 || s.TimeBase != "1/1000000" || s.Average != "30000/1001" {
		t.Errorf("got %+v", s)
	}
	for i, x := range a.Packets {
		if x.PTS != times[i].Round(time.Microsecond).Microseconds() || x.Size != strconv.Itoa(len(p[i])) || x.Flags[0] != 'K' {
			t.Errorf("packet %d: %+v", i, x)
		}
	}
	copied := exec.CommandContext(t.Context(), "ffmpeg", "-v", "error", "-f", "matroska", "-i", "pipe:0", "-c", "copy", "-f", "image2pipe", "pipe:1")
	copied.Stdin = &stream
	if out, err := copied.Output(); err != nil || !bytes.Equal(out, bytes.Join(p, nil)) {
		t.Errorf("%d bytes of pictures come back: %v", len(out), err)
	}
}

// Identifiers and sizes as RFC 8794 section 5 and 4 have them.
func TestMatroskaBytes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		got  []byte
		want string
	}{
		{number(idTrackNumber, 1), "\xD7\x01\x00\x00\x00\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00\x01"},
		{element(idDocType, []byte("matroska")), "\x42\x82\x01\x00\x00\x00\x00\x00\x00\x08matroska"},
		{element(idTimestampScale, nil), "\x2A\xD7\xB1\x01\x00\x00\x00\x00\x00\x00\x00"},
		{size(identifier(nil, idCluster), 1<<40), "\x1F\x43\xB6\x75\x01\x00\x01\x00\x00\x00\x00\x00"},
	} {
		if string(c.got) != c.want {
			t.Errorf("got %x, want %x", c.got, c.want)
		}
	}
	if Detect(matroskaHead(t)) != gantry.MediaMKV {
		t.Error("the head is not detected as Matroska")
	}
	for rate, want := range map[Rate]uint64{{25, 1}: 40_000_000, {30000, 1001}: 33_366_666, {1, math.MaxInt64}: 3_600_000_000_000, {math.MaxInt64, 1}: 1} {
		if got := nominal(rate); got != want {
			t.Errorf("a frame at %v lasts %d ns, want %d", rate, got, want)
		}
	}
}

func matroskaHead(t *testing.T) []byte {
	var b bytes.Buffer
	if _, err := newMatroska(&b, Rate{25, 1}, 8, 8); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// breaking takes n writes.
type breaking struct{ n int }

func (w *breaking) Write(p []byte) (int, error) {
	if w.n--; w.n < 0 {
		return 0, io.ErrClosedPipe
	}
	return len(p), nil
}

func TestMatroskaBroken(t *testing.T) {
	t.Parallel()
	if _, err := newMatroska(&breaking{0}, Rate{25, 1}, 8, 8); err == nil {
		t.Error("no error of the head")
	}
	for n := 1; n < 3; n++ {
		m, err := newMatroska(&breaking{n}, Rate{25, 1}, 8, 8)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.frame(0, GapPicture(8, 8)); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("broken at write %d: got %v", n, err)
		}
	}
}

// However a picture is made, one that is taken is a PNG of the first one's size, and decoded JPEGs too.
func FuzzPictureReader(f *testing.F) {
	f.Add(GapPicture(8, 8), false)
	f.Add(jpegs(f)["colour"], true)
	f.Add(jpegs(f)["grey"], true)
	f.Fuzz(func(t *testing.T, data []byte, isJPEG bool) {
		medium := map[bool]string{false: gantry.MediaPNG, true: gantry.MediaJPEG}[isJPEG]
		p := &pictureReader{frames: func(i int) (VideoFrame, bool, error) {
			return VideoFrame{Picture: bytes.NewReader(data), Media: medium, At: time.Duration(i) * time.Second}, true, nil
		}}
		for range 2 {
			b, _, _, err := p.next()
			if err != nil {
				if gantry.KindOf(err) != gantry.Illegal {
					t.Fatalf("got %v", err)
				}
				return
			}
			c, err := png.DecodeConfig(bytes.NewReader(b))
			if verifyAs(gantry.MediaPNG, b) != nil || isJPEG && (err != nil || c.Width != int(p.width) || c.Height != int(p.height)) {
				t.Fatalf("%d bytes that are no PNG of its size: %v", len(b), err)
			}
		}
	})
}
