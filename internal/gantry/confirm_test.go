package gantry

import "testing"

// TestNamesDigest is the same for the same names, in whatever order and however often each stands there.
func TestNamesDigest(t *testing.T) {
	t.Parallel()
	a, b, c := Digest{1}, Digest{2}, Digest{3}
	one := NamesDigest([]Digest{a, b, c})
	for _, same := range [][]Digest{{c, b, a}, {a, a, b, c, c}} {
		if NamesDigest(same) != one {
			t.Errorf("%v differs", same)
		}
	}
	list := []Digest{c, a}
	for _, other := range [][]Digest{nil, {a}, {a, b}, list} {
		if NamesDigest(other) == one {
			t.Errorf("%v is the same", other)
		}
	}
	if list[0] != c {
		t.Error("the list was sorted in its place")
	}
}

// TestWhole takes an answer for one to what was asked, and to nothing less or else.
func TestWhole(t *testing.T) {
	t.Parallel()
	asked := Asked{Asking: Asking{Count: 2, Names: Digest{1}}}
	for _, x := range []struct {
		a    *Answer
		want bool
	}{
		{nil, false},
		{&Answer{Kept: 2, Names: Digest{1}}, true},
		{&Answer{Kept: 2, Names: Digest{2}}, false},
		{&Answer{Kept: 2, Names: Digest{1}, Failed: make([]Unconfirmed, 1)}, false},
	} {
		asked.Answer = x.a
		if asked.Whole() != x.want {
			t.Errorf("%+v: %v", x.a, asked.Whole())
		}
	}
}
