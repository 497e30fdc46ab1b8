package s3

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestNoAnswerIsToldOf: a bucket whose server takes requests and does not answer cannot be looked at, which is told long before its listing is
// given up.
func TestNoAnswerIsToldOf(t *testing.T) {
	t.Parallel()
	for name, tail := range map[string]string{"a small bucket": "", "a large one": "k00199"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sh, s := still(t, 200)
				s.poll = time.Second
				b := newBook()
				b.up.Tail, b.up.Taken = tail, true
				during(t, s, b, nil, func() {
					time.Sleep(20 * time.Second)
					if got := b.came(); !slices.Contains(got, "+poll") || slices.Contains(got, "poll") {
						t.Errorf("it answers: %v", got)
					}
					sh.hang(true)
					time.Sleep(10 * time.Second)
					if got := b.came(); got[len(got)-1] != "poll" {
						t.Errorf("it does not answer: %v", got)
					}
					sh.hang(false)
					time.Sleep(2 * time.Minute)
					if got := b.came(); got[len(got)-1] != "+poll" {
						t.Errorf("it answers again: %v", got)
					}
				})
			})
		})
	}
}
