package http

import (
	"crypto/sha256"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// sumOf is the entry that a body's digest makes.
func sumOf(body string) string { return digest(sha256.Sum256([]byte(body))) }

// An answer, or a part of one, that names its digest is held to it. Control: without the header the same
// answer is taken.
func TestAnswersAreHeldToTheirDigests(t *testing.T) {
	t.Parallel()
	mixed := func(header string) string {
		return lines("--B", "Content-Type: image/png", "content-digest: "+header, "", "PNG", "--B--")
	}
	image := `{"outputs":[{"media":"image/png","data":"UE5H"}]}`
	for what, c := range map[string]struct {
		answer, media, body, sum string
		ok                       bool
	}{
		"right":                      {"", "image/png", "PNG", sumOf("PNG"), true},
		"none":                       {"", "image/png", "PNG", "", true},
		"of another algorithm":       {"", "image/png", "PNG", "sha-512=:eA==:, md5=:eA==:", true},
		"right beside another":       {"", "image/png", "PNG", "sha-512=:eA==:," + sumOf("PNG"), true},
		"the last counts":            {"", "image/png", "PNG", sumOf("x") + ", " + sumOf("PNG"), true},
		"of other bytes":             {"", "image/png", "PNG", sumOf("PNH"), false},
		"of JSON":                    {"", "application/json", `{"a":1}`, sumOf(`{"a":2}`), false},
		"that is none":               {"", "image/png", "PNG", "sha-256=:" + secret, false},
		"that is short":              {"", "image/png", "PNG", "sha-256=:eA==:", false},
		"of nothing":                 {"", "image/png", "", sumOf("x"), false},
		"of base64, right":           {"base64", "application/json", image, sumOf(image), true},
		"of base64, wrong":           {"base64", "application/json", image, sumOf("PNG"), false},
		"of a multipart, right":      {"", "multipart/mixed; boundary=B", mixed(sumOf("PNG")), sumOf(mixed(sumOf("PNG"))), true},
		"of a multipart, wrong":      {"", "multipart/mixed; boundary=B", mixed(sumOf("PNG")), sumOf("PNG"), false},
		"of a part, wrong":           {"", "multipart/mixed; boundary=B", mixed(sumOf("PNH")), "", false},
		"of a part, that is no text": {"", "multipart/mixed; boundary=B", mixed("sha-256=" + secret), "", false},
	} {
		p := openProcessor(t, ProcessorConfig{Answer: c.answer}, func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", c.media)
			if c.sum != "" {
				w.Header().Set("Content-Digest", c.sum)
			}
			io.WriteString(w, c.body)
		})
		var out []output
		err := p.Process(t.Context(), request(&out, "x"))
		if c.ok && (err != nil || len(out) != 1) {
			t.Errorf("%s: %v, %v", what, out, err)
		}
		if !c.ok && (gantry.KindOf(err) != gantry.BadResponse || gantry.CodeOf(err) != CodeChecksumMismatch || strings.Contains(err.Error(), secret)) {
			t.Errorf("%s: %v (%s, %s)", what, err, gantry.KindOf(err), gantry.CodeOf(err))
		}
	}
}
