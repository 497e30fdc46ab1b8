package gantry

import (
	"context"
	"time"
)

// Debt is an answer that a peer asked a source for and is to get later, on whatever connection.
type Debt struct {
	ID      int64
	Turn    int32         // whoever takes it up raises it: what an earlier holder says of it counts no more
	Peer    string        // who asked, as it calls itself
	Name    string        // of its request, given when it is owed: asked again under it, it asks the same
	Request []byte        // what it asked, as the source writes it down; it may tell of people, and is kept no longer than the answer is owed
	Tries   int           // to answer it, that failed
	Age     time.Duration // since it was asked last
}

// Debts keeps what the peers of one source are owed, over the end of this process and for all that serve the source. A debt is held by
// whoever took it up, for as long as was said; then anybody may. Errors are Unavailable or Transient unless said otherwise.
type Debts interface {
	// Owe puts a debt on record and gives it to the caller to hold. The same peer's request of the same name begins anew; what
	// asks something else under it is Illegal with code duplicate. A source that owes too much already is Unavailable with code too_many.
	Owe(ctx context.Context, d Debt, hold time.Duration) (Debt, error)
	// Due gives at most n debts that nobody holds and whose time has come, to the caller to hold.
	Due(ctx context.Context, n int, hold time.Duration) ([]Debt, error)
	// Postpone has a debt that the caller holds wait so long, with as many tries as it says.
	Postpone(ctx context.Context, d Debt, by time.Duration) error
	// Settle ends a debt that the caller holds: it was answered, or is given up for a reason.
	Settle(ctx context.Context, d Debt, given Code) error
}

// CodeTooMany: there are as many already as there may be. It is Unavailable.
const CodeTooMany Code = "too_many"
