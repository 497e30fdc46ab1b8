package api

import (
	"net/http"
	"time"
)

// Why says what a task waits for, or how it ended; the first cause is the one to look at.
type Why struct {
	Task   string  `json:"task"`
	State  string  `json:"state,omitempty"`
	Phase  string  `json:"phase,omitempty"` // empty once it has ended
	Causes []Cause `json:"causes"`
}

// Cause is one thing that a task waits for. docs/why.md lists the codes.
type Cause struct {
	Code    string     `json:"code"`
	Text    string     `json:"text"`            // a sentence, or two
	Until   *time.Time `json:"until,omitempty"` // by the database's clock
	Limit   string     `json:"limit,omitempty"` // the key that gantry limits lists
	Holders []Holder   `json:"holders,omitempty"`
}

// Holder is a process that holds something.
type Holder struct {
	Process   int64      `json:"process"`
	Host      string     `json:"host,omitempty"` // empty if it is gone
	Units     int        `json:"units,omitempty"`
	HeldUntil *time.Time `json:"held_until,omitempty"` // of a process that is gone: its calls may run until then
}

// why says what a task waits for.
func (t *tasks) why(w http.ResponseWriter, r *http.Request) error {
	x, err := t.desk.Why(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, x)
}
