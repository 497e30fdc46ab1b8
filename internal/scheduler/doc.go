// Package scheduler decides which tasks run when, and makes their progress durable. scheduler.go
// holds the process's life; claimer.go takes tasks, alone.go keeps apart those that processes died of, committer.go writes in batches, keeper.go and
// bucket.go hold units and rate slots of global limits, heart.go keeps the lease, housekeeping.go
// rescues and promotes, wake.go tells other processes that there is work.
package scheduler
