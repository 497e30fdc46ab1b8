package api

import (
	"cmp"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// problem is an answer that says what is wrong (RFC 9457). Its type is about:blank, so its title is that of
// the status; code and kind are as in records.
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
	Kind   string `json:"kind"`
}

// defaultRetry is the Retry-After of what says none.
const defaultRetry = 5 * time.Second

// refuse answers with what an error means. Of faults of ours it says no more than that there is one.
func refuse(w http.ResponseWriter, err error) { refuseAs(w, err, status(err)) }

func refuseAs(w http.ResponseWriter, err error, status int) {
	kind := gantry.KindOf(err)
	p := problem{Status: status, Detail: err.Error(), Code: string(gantry.CodeOf(err)), Kind: kind.String()}
	p.Title = http.StatusText(p.Status)
	switch {
	case p.Status == http.StatusServiceUnavailable:
		pause := cmp.Or(gantry.RetryAfterOf(err), defaultRetry)
		w.Header().Set("Retry-After", strconv.Itoa(int((pause+time.Second-1)/time.Second)))
		if p.Code != string(CodeBusy) {
			p.Detail = "the database or the disk cannot take it now; nothing was acknowledged, so send it again"
		}
	case p.Status >= 500:
		p.Detail = "something is wrong here; the log says more"
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p)
}

// status is what an error is in HTTP.
func status(err error) int {
	switch gantry.CodeOf(err) {
	case gantry.CodeTooLarge:
		return http.StatusRequestEntityTooLarge
	case CodeForm, CodeEncoded:
		return http.StatusUnsupportedMediaType
	case CodeIdle:
		return http.StatusRequestTimeout
	case CodeBroken:
		return http.StatusBadRequest
	case gantry.CodeConflict:
		return http.StatusUnprocessableEntity
	}
	switch gantry.KindOf(err) {
	case gantry.Transient, gantry.Timeout, gantry.Unavailable:
		return http.StatusServiceUnavailable
	case gantry.Denied:
		return http.StatusForbidden
	case gantry.NotFound:
		return http.StatusNotFound
	case gantry.Illegal:
		return http.StatusBadRequest
	}
	return http.StatusInternalServerError
}
