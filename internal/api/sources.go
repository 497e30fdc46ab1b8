package api

import (
	"context"
	"net/http"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Sources knows how sources are.
type Sources interface {
	// Sources lists every source that was ever watched, in the order of their names. It may be called concurrently.
	Sources(ctx context.Context) ([]gantry.SourceStatus, error)
}

// sourceList is the answer.
type sourceList struct {
	Sources []gantry.SourceStatus `json:"sources"`
}

// ListSources serves GET /api/v1/sources and leaves all else to next.
func ListSources(next http.Handler, s Sources) http.Handler {
	return mount(next, sourceRoutes(s), fromHere)
}

func sourceRoutes(s Sources) routes {
	return routes{
		"GET /api/v1/sources": func(w http.ResponseWriter, r *http.Request) error {
			list, err := s.Sources(r.Context())
			if err != nil {
				return err
			}
			if list == nil {
				list = []gantry.SourceStatus{}
			}
			return answer(w, http.StatusOK, sourceList{list})
		},
	}
}
