package s3

import (
	"context"
	"time"
)

const (
	fewTries  = 4
	firstWait = 200 * time.Millisecond // after the first of them; four times as long after each
	fewTime   = 10 * time.Second       // for all of them
)

// severalTimes does what is better done now than never, also when ctx has ended: again as long as that may help, a few times.
func severalTimes(ctx context.Context, f func(context.Context) error) (err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fewTime)
	defer cancel()
	for n := range fewTries {
		if n > 0 {
			select {
			case <-ctx.Done():
				return err
			case <-time.After(firstWait << (2 * (n - 1))):
			}
		}
		if err = f(ctx); err == nil || settled(err) {
			return err
		}
	}
	return err
}
