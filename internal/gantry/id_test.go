package gantry

import "testing"

// TestMayBegin tells beginnings of paths below a task's id from others.
func TestMayBegin(t *testing.T) {
	t.Parallel()
	id := PublicID([]byte("k"), "x")
	for path, want := range map[string]bool{"": true, id[:1]: true, id[:25]: true, id: true, id + "/": true, id + "/score/1.png": true,
		"in/": false, id[:25] + "/": false, id + "a": false, "A": false, "1": false, "/": false} {
		if MayBegin(path) != want {
			t.Errorf("%q: %t", path, !want)
		}
	}
}
