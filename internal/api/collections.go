package api

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// CodeBadFilter is the reason of a request whose parameters select nothing that there can be.
const CodeBadFilter gantry.Code = "bad_filter"

// Collection is what the API says of arrivals that belong together.
type Collection struct {
	ID       int64      `json:"id"`
	Pipeline string     `json:"pipeline"`
	Source   string     `json:"source"`
	Group    string     `json:"group"` // the same for all revisions
	Revision int        `json:"revision"`
	State    string     `json:"state"` // open or closed
	Members  int        `json:"members"`
	Held     int        `json:"held"`
	Expected int        `json:"expected,omitempty"`
	Marked   bool       `json:"marked"`
	First    time.Time  `json:"first_arrival"`
	Last     time.Time  `json:"last_arrival"`
	Due      time.Time  `json:"due"`
	ClosedAt *time.Time `json:"closed_at,omitempty"`
	Why      string     `json:"why"`
	Task     string     `json:"task,omitempty"`
	Asks     int        `json:"asks,omitempty"`
	AskedAt  *time.Time `json:"asked_at,omitempty"`
}

// CollectionFilter selects collections; empty fields do not.
type CollectionFilter struct {
	Pipeline string
	State    string // open or closed
	Limit    int    // above 0
}

// Collections knows what is waited for.
type Collections interface {
	// Collections lists collections, the newest first. It may be called concurrently.
	Collections(ctx context.Context, f CollectionFilter) ([]Collection, error)
}

// What a listing gives without a limit, and at most.
const (
	listed     = 50
	mostListed = 1000
)

// ListCollections serves GET /api/v1/collections and leaves all else to next.
func ListCollections(next http.Handler, c Collections) http.Handler {
	return mount(next, collectionRoutes(c), fromHere)
}

// collectionList is the answer.
type collectionList struct {
	Collections []Collection `json:"collections"`
}

func collectionRoutes(c Collections) routes {
	return routes{
		"GET /api/v1/collections": func(w http.ResponseWriter, r *http.Request) error {
			f, err := collectionFilter(r)
			if err != nil {
				return err
			}
			list, err := c.Collections(r.Context(), f)
			if err != nil {
				return err
			}
			return answer(w, http.StatusOK, collectionList{append([]Collection{}, list...)})
		},
	}
}

// collectionFilter reads the parameters of a request.
func collectionFilter(r *http.Request) (CollectionFilter, error) {
	q := r.URL.Query()
	f := CollectionFilter{Pipeline: q.Get("pipeline"), State: q.Get("state"), Limit: listed}
	if f.State != "" && f.State != "open" && f.State != "closed" {
		return f, gantry.Errorf(gantry.Illegal, CodeBadFilter, "state is open or closed")
	}
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > mostListed {
			return f, gantry.Errorf(gantry.Illegal, CodeBadFilter, "limit is no number from 1 to %d", mostListed)
		}
		f.Limit = n
	}
	return f, nil
}
