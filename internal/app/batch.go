package app

import "context"

// mostTogether is how much is written, or asked, at once.
const mostTogether = 500

// together waits for something to come and gives it with all else that is there by then; nothing once ctx has ended.
func together[T any](ctx context.Context, queue <-chan T) (batch []T) {
	select {
	case x := <-queue:
		batch = append(batch, x)
	case <-ctx.Done():
		return nil
	}
	for len(batch) < mostTogether {
		select {
		case x := <-queue:
			batch = append(batch, x)
		default:
			return batch
		}
	}
	return batch
}
