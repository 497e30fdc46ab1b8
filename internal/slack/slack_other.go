//go:build !linux

package slack

import "time"

// Widen does nothing: only Linux has timer slack.
func Widen() {}

// Now is below zero: there is none.
func Now() time.Duration { return -1 }
