package models

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// problem is a refusal as JSON (RFC 9457), with our reason code as an extension.
type problem struct {
	Title  string      `json:"title"`
	Status int         `json:"status"`
	Detail string      `json:"detail,omitempty"`
	Code   gantry.Code `json:"code"`
}

// problemOf finds the status for an error. Those of the product's own type hold nothing of the
// input; the text of any other stays here.
func problemOf(err error) problem {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return problem{Status: http.StatusRequestEntityTooLarge, Code: gantry.CodeTooLarge, Detail: "the body is over the limit"}
	}
	switch {
	case errors.Is(err, errEncoded):
		return problem{Status: http.StatusUnsupportedMediaType, Code: gantry.CodeUnsupportedFormat, Detail: err.Error()}
	case errors.Is(err, errBody):
		return problem{Status: http.StatusBadRequest, Code: gantry.CodeTruncated, Detail: err.Error()}
	case errors.Is(err, errNoImage):
		return problem{Status: http.StatusUnsupportedMediaType, Code: gantry.CodeUnsupportedFormat, Detail: err.Error()}
	}
	if e, ok := errors.AsType[*gantry.Error](err); ok {
		if e.Kind == gantry.Denied {
			return problem{Status: http.StatusForbidden, Code: gantry.CodeOf(err), Detail: e.Error()}
		}
		return problem{Status: http.StatusUnprocessableEntity, Code: gantry.CodeOf(err), Detail: e.Error()}
	}
	return problem{Status: http.StatusInternalServerError, Code: "internal"}
}

// bytes is the problem as JSON.
func (p problem) bytes() []byte {
	p.Title = http.StatusText(p.Status)
	b, err := json.Marshal(p)
	if err != nil { // never for these types
		panic(err)
	}
	return b
}

func (p problem) write(w http.ResponseWriter) {
	p.Title = http.StatusText(p.Status)
	if p.Status == http.StatusTooManyRequests || p.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, p.Status, "application/problem+json", p)
}
