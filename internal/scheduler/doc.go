// Package scheduler decides which tasks run when, and makes their progress durable. scheduler.go
// holds the process's life; claimer.go takes tasks, committer.go writes in batches, keeper.go and
// bucket.go hold units and rate slots of global limits, hold.go those of parts that go out, heart.go keeps the lease, housekeeping.go
// rescues and promotes, wake.go tells other processes that there is work.
package scheduler
