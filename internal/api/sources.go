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
	mux := http.NewServeMux()
	for pattern, serve := range sourceRoutes(s) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "no-store")
			w.Header().Set("X-Content-Type-Options", "nosniff")
			err := fromHere(r)
			if err == nil {
				err = serve(w, r)
			}
			if err != nil {
				refuse(w, err)
			}
		})
	}
	mux.Handle("/", next)
	return mux
}

func sourceRoutes(s Sources) map[string]func(http.ResponseWriter, *http.Request) error {
	return map[string]func(http.ResponseWriter, *http.Request) error{
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
