package auth_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/auth"
)

func TestSecretNeverPrints(t *testing.T) {
	t.Parallel()
	s := auth.NewSecret(password)
	type holder struct {
		S auth.Secret
		P *auth.Secret
		L []auth.Secret
		s auth.Secret // fmt cannot call the methods of these two
		p *auth.Secret
	}
	h := holder{s, &s, []auth.Secret{s}, s, &s}
	var out []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%10.3s", "%p"} {
		for _, v := range []any{s, &s, h, &h, []any{s}, map[string]auth.Secret{"k": s}} {
			out = append(out, fmt.Sprintf(verb, v))
		}
	}
	out = append(out, s.String(), s.GoString(), fmt.Sprint(s, h), fmt.Errorf("wrapped: %v", s).Error())

	var logs bytes.Buffer
	slog.New(slog.NewTextHandler(&logs, nil)).Info("text", "secret", s, "holder", h)
	slog.New(slog.NewJSONHandler(&logs, nil)).Info("json", "secret", s, "holder", h)
	out = append(out, logs.String())

	for what, marshal := range map[string]func(any) ([]byte, error){"json": json.Marshal, "xml": xml.Marshal} {
		b, err := marshal(h)
		if err != nil || !strings.Contains(string(b), "[secret]") {
			t.Errorf("%s: %s, %v", what, b, err)
		}
		out = append(out, string(b))
	}
	for _, o := range out {
		for _, leak := range []string{password, fmt.Sprintf("%x", password), fmt.Sprintf("%X", password), password[:3]} {
			if strings.Contains(o, leak) {
				t.Errorf("printed: %s", o)
			}
		}
	}
	if s.Reveal() != password || (auth.Secret{}).Reveal() != "" {
		t.Error("Reveal does not give the text")
	}
}
