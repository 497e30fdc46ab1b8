package api

import (
	"net/http"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// routes are what is served, by patterns of http.ServeMux. An error is answered as a problem.
type routes map[string]func(http.ResponseWriter, *http.Request) error

// mount serves routes, each request once guard let it pass, and leaves all else to next. Nil is no guard.
func mount(next http.Handler, r routes, guard func(*http.Request) error) http.Handler {
	mux := http.NewServeMux()
	for pattern, serve := range r {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Cache-Control", "no-store")
			w.Header().Set("X-Content-Type-Options", "nosniff")
			var err error
			if guard != nil {
				err = guard(req)
			}
			if err == nil {
				err = serve(w, req)
			}
			if err != nil {
				refuse(w, err)
			}
		})
	}
	mux.Handle("/", next)
	return mux
}

// nothing refuses what is at no path of ours.
func nothing(http.ResponseWriter, *http.Request) error {
	return gantry.Errorf(gantry.NotFound, CodeNotFound, "there is nothing at this path, or not for this method")
}
