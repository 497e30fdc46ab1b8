// Package scheduler decides which tasks run when, and makes their progress durable. scheduler.go
// holds the process's life; claimer.go takes tasks, as many of each lane as shares.go says, alone.go keeps apart those
// that processes died of, committer.go writes in batches, keeper.go and
// bucket.go hold units of global limits, hold.go those of parts that go out, temper.go and standing.go what targets ask
// for, starts.go waits for starts where there is a rate, press.go has other processes give way to urgent calls, heart.go
// keeps the lease, housekeeping.go
// rescues and promotes, wake.go tells other processes that there is work.
package scheduler
