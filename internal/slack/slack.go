// Package slack has the kernel be less exact about when the threads of a process wake (timer slack: prctl(2),
// PR_SET_TIMERSLACK).
//
// While a Go process has system calls under way that last, such as reads, writes and syncs of files, a thread of its runtime looks after them
// every 20 us for as long as there is work. With the usual slack of 50 us it wakes up to ten thousand times a second, each time
// with a timer to be set and an interrupt, which is dear in a virtual machine: a tenth of the processor time of a
// process that receives images. What gantry itself waits for is counted in milliseconds.
package slack

import "time"

// Wide is the slack of a process that works on tasks.
const Wide = 500 * time.Microsecond
