package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

var (
	signedAt = time.Unix(1764133200, 0)
	key      = NewSecret("whsec_one")
	other    = NewSecret("whsec_two")
)

// verify reads a body in small pieces through a verifier.
func verify(secret Secret, header, body string, now time.Time) error {
	v := NewCallbackVerifier(secret, header, now)
	io.CopyBuffer(struct{ io.Writer }{v}, struct{ io.Reader }{strings.NewReader(body)}, make([]byte, 3))
	return v.Check()
}

// TestSignatureOfOthers: what another tool signs is right:
//
//	printf '%s' '1764133200.the answer' | openssl dgst -sha256 -hmac whsec_one -r
func TestSignatureOfOthers(t *testing.T) {
	t.Parallel()
	const header = "t=1764133200,v1=2f606fddaee975b63411849cc07dcdbabf8e9a312b7232adfb32aaba3033e0eb"
	if got := SignCallback(signedAt, []byte("the answer"), key); got != header {
		t.Errorf("we sign %s", got)
	}
	if err := verify(key, header, "the answer", signedAt); err != nil {
		t.Error(err)
	}
}

func TestCallbackSignatures(t *testing.T) {
	t.Parallel()
	good := SignCallback(signedAt, []byte("body"), key)
	sum := strings.TrimPrefix(good, "t=1764133200,v1=")
	wrong := strings.Repeat("0", 64)
	for _, c := range []struct {
		header, body string
		now          time.Time
		code         gantry.Code
	}{
		{good, "body", signedAt, ""},
		{good, "body", signedAt.Add(CallbackWindow), ""},
		{good, "body", signedAt.Add(-CallbackWindow), ""},
		{good, "body", signedAt.Add(CallbackWindow + 1), CodeSignatureStale},
		{good, "body", signedAt.Add(-CallbackWindow - 1), CodeSignatureStale},
		{good, "bodY", signedAt, CodeSignatureWrong},
		{good, "bod", signedAt, CodeSignatureWrong},
		{good, "body ", signedAt, CodeSignatureWrong},
		{good, "", signedAt, CodeSignatureWrong},
		{"v1=" + sum + ", t=1764133200", "body", signedAt, ""},                                   // another order, a space
		{"t=1764133200,v1=" + strings.ToUpper(sum), "body", signedAt, ""},                        // the same bytes
		{SignCallback(signedAt, []byte("body"), other, key), "body", signedAt, ""},               // rotation
		{SignCallback(signedAt, []byte("body"), key, other), "body", signedAt, ""},               // and back
		{SignCallback(signedAt, []byte("body"), other), "body", signedAt, CodeSignatureWrong},    // another's
		{"t=1764133200,v1=" + wrong + ",v0=x,v2=y,v1=" + sum, "body", signedAt, ""},              // other schemes
		{"t=1764133201,v1=" + sum, "body", signedAt, CodeSignatureWrong},                         // the time is signed
		{"t=01764133200,v1=" + sum, "body", signedAt, CodeSignatureWrong},                        // as it is written
		{"t=1764133200,v2=" + sum, "body", signedAt, CodeSignatureMalformed},                     // no v1
		{"v1=" + sum, "body", signedAt, CodeSignatureMalformed},                                  // no time
		{"t=1764133200,t=1764133200,v1=" + sum, "body", signedAt, CodeSignatureMalformed},        // two
		{"t=-1,v1=" + sum, "body", signedAt, CodeSignatureMalformed},                             //
		{"t=+1764133200,v1=" + sum, "body", signedAt, CodeSignatureMalformed},                    //
		{"t=1764133200.0,v1=" + sum, "body", signedAt, CodeSignatureMalformed},                   //
		{"t=999999999999,v1=" + sum, "body", signedAt, CodeSignatureMalformed},                   // too many digits
		{"t=99999999999,v1=" + sum, "body", signedAt, CodeSignatureStale},                        // the year 5138
		{"t=0,v1=" + sum, "body", signedAt, CodeSignatureStale},                                  //
		{"t=,v1=" + sum, "body", signedAt, CodeSignatureMalformed},                               //
		{"t=1764133200,v1=" + sum[:62], "body", signedAt, CodeSignatureMalformed},                // short
		{"t=1764133200,v1=" + sum + "00", "body", signedAt, CodeSignatureMalformed},              // long
		{"t=1764133200,v1=" + strings.Repeat("g", 64), "body", signedAt, CodeSignatureMalformed}, //
		{"t=1764133200,v1=", "body", signedAt, CodeSignatureMalformed},                           //
		{good + ",", "body", signedAt, CodeSignatureMalformed},                                   //
		{good + strings.Repeat(",a=b", 15), "body", signedAt, CodeSignatureMalformed},            // too many
		{good + ",a=" + strings.Repeat("b", 1024), "body", signedAt, CodeSignatureMalformed},     // too long
		{"", "body", signedAt, CodeSignatureMissing},                                             //
		{" ", "body", signedAt, CodeSignatureMalformed},                                          //
	} {
		err := verify(key, c.header, c.body, c.now)
		if gantry.CodeOf(err) != c.code || err != nil && gantry.KindOf(err) != gantry.Denied {
			t.Errorf("%q over %q: %v (%s), want %q", c.header, c.body, err, gantry.CodeOf(err), c.code)
		}
		early := NewCallbackVerifier(key, c.header, c.now).CheckHeader()
		if (early != nil) != (err != nil && c.code != CodeSignatureWrong) {
			t.Errorf("%q: of the header alone %v", c.header, early)
		}
		if err != nil && (strings.Contains(err.Error(), sum) || strings.Contains(err.Error(), "1764133200")) {
			t.Errorf("it quotes the header: %v", err)
		}
	}
}

// TestNoSecretSignsNothing: an empty secret is no secret, though a MAC can be made with it.
func TestNoSecretSignsNothing(t *testing.T) {
	t.Parallel()
	for _, none := range []Secret{{}, NewSecret("")} {
		if err := verify(none, SignCallback(signedAt, []byte("body"), none), "body", signedAt); gantry.CodeOf(err) != CodeSignatureMissing {
			t.Error(err)
		}
	}
}

// FuzzCallbackHeader: no header makes anything panic, and one is right only if it holds the one MAC.
func FuzzCallbackHeader(f *testing.F) {
	f.Add(SignCallback(signedAt, []byte("body"), key))
	f.Add(SignCallback(signedAt, []byte("body"), other, key))
	f.Add("t=1,v1=00,v1=zz,t=")
	f.Fuzz(func(t *testing.T, header string) {
		if verify(key, header, "body", signedAt) != nil {
			return
		}
		at, _, err := parseSignature(header)
		if err != nil {
			t.Fatal(err)
		}
		mac := hmac.New(sha256.New, []byte("whsec_one"))
		fmt.Fprintf(mac, "%s.body", at)
		if !strings.Contains(strings.ToLower(header), "v1="+hex.EncodeToString(mac.Sum(nil))) {
			t.Errorf("%q is taken", header)
		}
	})
}
