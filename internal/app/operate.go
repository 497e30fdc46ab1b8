package app

import (
	"context"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/driver"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// The results of a Verdict.
const (
	ResultCancelled  = "cancelled"  // the task has ended
	ResultCancelling = "cancelling" // the process that holds it ends it at its next heartbeat
	ResultReopened   = "reopened"   // the task goes on from the state that failed
	ResultRefused    = "refused"    // nothing was changed
)

// Verdict says what became of one task that an operator's command was about.
type Verdict struct {
	Task   string `json:"task"`
	Result string `json:"result"`
	State  string `json:"state,omitempty"`  // of the task, after the command
	Reason string `json:"reason,omitempty"` // why it was refused

	Redrive *Redriven `json:"redrive,omitempty"` // what is called again
}

func refusal(id, state, reason string) Verdict {
	return Verdict{Task: id, Result: ResultRefused, State: state, Reason: reason}
}

// find looks for the one task that an id, or the beginning of one, means; reason says why there is none.
func (d *Database) find(ctx context.Context, id string) (t postgres.TaskRow, reason string, err error) {
	if id == "" || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz234567") != "" {
		return t, "it is no id of a task", nil
	}
	list, err := d.Tasks(ctx, postgres.Filter{Task: id, Limit: 2})
	switch {
	case err != nil:
		return t, "", err
	case len(list) == 0:
		return t, "there is no such task", nil
	case len(list) > 1:
		return t, "more than one task begins so", nil
	}
	return list[0], "", nil
}

// pollEnd is how often a task is looked at whose end is waited for.
const pollEnd = 100 * time.Millisecond

// Cancel ends a task as cancelled: at once if no process holds it, else at the next heartbeat of the
// one that does, which breaks off the task's calls. It waits up to wait for that. The error is one of
// the database.
func (d *Database) Cancel(ctx context.Context, id, by string, wait time.Duration) (Verdict, error) {
	t, reason, err := d.find(ctx, id)
	if err != nil || reason != "" {
		return refusal(id, "", reason), err
	}
	return d.Cancelling(by, wait)(ctx, t)
}

// Cancelling is Cancel for a task that was found.
func (d *Database) Cancelling(by string, wait time.Duration) Act {
	return func(ctx context.Context, t postgres.TaskRow) (Verdict, error) { return d.cancel(ctx, t, by, wait) }
}

func (d *Database) cancel(ctx context.Context, t postgres.TaskRow, by string, wait time.Duration) (Verdict, error) {
	if s, _ := gantry.ParseState(t.State); s.Final() {
		return refusal(t.ID, t.State, "it has ended"), nil
	}
	if t.Parent != "" {
		return refusal(t.ID, t.State, "it is a part of another task, which can be cancelled"), nil
	}
	if err := d.Store.Cancel(ctx, gantry.TaskID(t.Key), by); err != nil {
		return Verdict{}, err
	}
	for until := time.Now().Add(wait); ; {
		s, err := d.StateOf(ctx, t.Key)
		switch {
		case err != nil:
			return Verdict{}, err
		case s == gantry.Cancelled:
			return Verdict{Task: t.ID, Result: ResultCancelled, State: s.String()}, nil
		case s.Final():
			return refusal(t.ID, s.String(), "it ended before it could be cancelled"), nil
		case !time.Now().Before(until):
			return Verdict{Task: t.ID, Result: ResultCancelling, State: s.String()}, nil
		}
		select {
		case <-ctx.Done():
			return Verdict{}, context.Cause(ctx)
		case <-time.After(pollEnd):
		}
	}
}

// Retry puts a failed task back into the state that failed, under the pipeline version that it began
// with, and those that failed with it of the tasks that it was divided into. Parts of that stage that failed
// are tried again from the first attempt; what was answered is not called again. The error is one of the database.
func (d *Database) Retry(ctx context.Context, id, by string, drivers *driver.Register) (Verdict, error) {
	t, reason, err := d.find(ctx, id)
	if err != nil || reason != "" {
		return refusal(id, "", reason), err
	}
	return d.Retrying(by, drivers)(ctx, t)
}

// Retrying is Retry for a task that was found.
func (d *Database) Retrying(by string, drivers *driver.Register) Act {
	v := d.versions(drivers)
	return func(ctx context.Context, t postgres.TaskRow) (Verdict, error) { return d.retry(ctx, t, by, v) }
}

func (d *Database) retry(ctx context.Context, t postgres.TaskRow, by string, of *versions) (Verdict, error) {
	f, failed, err := d.Failure(ctx, gantry.TaskID(t.Key))
	switch {
	case err != nil:
		return Verdict{}, err
	case !failed:
		return refusal(t.ID, t.State, "only a task that failed can be tried again"), nil
	case f.Child:
		return refusal(t.ID, t.State, "it is a part of another task, which can be tried again"), nil
	case f.Run:
		return refusal(t.ID, t.State, "it belonged to gantry run, which is over: run the input again"), nil
	}
	if _, err := gantry.Failed.Next(gantry.Reopen(f.State)); err != nil {
		return Verdict{}, gantry.Errorf(gantry.Illegal, "", "reopen task: %w", err)
	}
	p, err := of.get(ctx, f.Pipeline)
	if err != nil {
		return Verdict{}, err
	}
	ok, err := d.Reopen(ctx, gantry.TaskID(t.Key), p.Timeouts, p.Priority, "by "+by)
	switch {
	case err != nil:
		return Verdict{}, err
	case !ok:
		return refusal(t.ID, t.State, "somebody else reopened it, or its source is not served any more"), nil
	}
	return Verdict{Task: t.ID, Result: ResultReopened, State: f.State.String()}, nil
}
