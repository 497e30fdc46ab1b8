package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/auth"
)

// TestModelsServeSignsCallbacks: the secret of the command line is a reference, and what it means signs.
func TestModelsServeSignsCallbacks(t *testing.T) {
	t.Setenv("CALLBACK_TEST_SECRET", "whsec_test")
	err := (&modelsServeCmd{Listen: "127.0.0.1:0", CallbackSecret: "whsec_literal"}).Run(t.Context(), console{err: io.Discard})
	if _, usage := errors.AsType[usageError](err); !usage || strings.Contains(err.Error(), "whsec_literal") {
		t.Fatalf("a literal: %v", err)
	}
	came := make(chan error, 1)
	box := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		v := auth.NewCallbackVerifier(auth.NewSecret("whsec_test"), r.Header.Get(auth.SignatureHeader), time.Now())
		io.Copy(v, r.Body)
		came <- v.Check()
	}))
	defer box.Close()
	ctx, stop := context.WithCancel(t.Context())
	said, saying := io.Pipe()
	served := make(chan error, 1)
	go func() {
		served <- (&modelsServeCmd{Listen: "127.0.0.1:0", CallbackSecret: "${env:CALLBACK_TEST_SECRET}"}).Run(ctx, console{err: saying})
	}()
	line, err := bufio.NewReader(said).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	at := regexp.MustCompile(`http://[0-9.:]+`).FindString(line)
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, at+"/async/v1/identity", strings.NewReader("x"))
	req.Header.Set("Callback-Url", box.URL)
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusAccepted {
		t.Fatalf("%v, %v", resp, err)
	}
	resp.Body.Close()
	select {
	case err := <-came:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("no callback comes")
	}
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
