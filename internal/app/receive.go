package app

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/gantry-imaging/gantry/internal/api"
	"github.com/gantry-imaging/gantry/internal/auth"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Callbacks is an installation as the interface for services that answer on their own sees it.
func (a *App) Callbacks() api.Callbacks { return receiver{a} }

type receiver struct{ a *App }

// Callback tells the service no more than it has to know: a sign of life was accepted.
func (r receiver) Callback(ctx context.Context, token string, h http.Header, status gantry.CallbackStatus, body io.Reader) (api.CallbackVerdict, error) {
	v, err := r.a.Callback(ctx, token, h, status, body)
	if err != nil {
		return api.CallbackUnknown, err
	}
	switch v {
	case gantry.CallbackAccepted, gantry.CallbackAlive:
		return api.CallbackAccepted, nil
	case gantry.CallbackDuplicate:
		return api.CallbackDuplicate, nil
	case gantry.CallbackLate:
		return api.CallbackLate, nil
	case gantry.CallbackForged:
		return api.CallbackForged, nil
	}
	return api.CallbackUnknown, nil
}

// CallbackSignatures checks callbacks by auth.SignatureHeader.
func CallbackSignatures(secret string, h http.Header, now time.Time) (Signature, error) {
	v := auth.NewCallbackVerifier(auth.NewSecret(secret), h.Get(auth.SignatureHeader), now)
	if err := v.CheckHeader(); err != nil {
		return nil, err
	}
	return signature{v}, nil
}

type signature struct{ *auth.CallbackVerifier }

// Verify is nil if the signature is of what was written.
func (s signature) Verify() error { return s.Check() }
