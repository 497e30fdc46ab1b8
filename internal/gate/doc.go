// Package gate is the only door to the outside: a call passes it with a record, within limits and
// to the declared target, or not at all. Read meter.go for the numbers of a running call, egress.go
// for the policy on connections and answers, and classify.go for what a broken call is called.
package gate
