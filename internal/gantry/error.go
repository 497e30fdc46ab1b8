package gantry

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what a caller may do about an error. Drivers classify, the engine decides. The zero
// Kind is Transient, so what nobody classified is tried again until the attempts run out.
type Kind uint8

// The kinds, from the most to the least worth another try.
const (
	Transient   Kind = iota // the network or a peer broke off
	Timeout                 // a deadline passed
	Unavailable             // the peer says "not now": 429, 503, 0xA700
	BadResponse             // an answer that makes no sense; tried twice at most
	Denied                  // credentials or permission
	NotFound                // the object or the route is not there
	Permanent               // the peer refuses this request for good
	Illegal                 // the input or the configuration breaks a rule of ours
)

var kindNames = [...]string{"transient", "timeout", "unavailable", "bad_response", "denied", "not_found", "permanent", "illegal"}

// String gives the kind's name as it stands in records and expressions.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// ParseKind is the reverse of String.
func ParseKind(s string) (Kind, bool) {
	for i, n := range kindNames {
		if n == s {
			return Kind(i), true
		}
	}
	return 0, false
}

// Retryable tells whether another try of the same call may go differently.
func (k Kind) Retryable() bool { return k <= BadResponse }

// Code is a reason in one word, as in docs/reasons.md: archive_bomb, truncated, timeout. It never
// holds anything that was read from an input.
type Code string

// Codes that more than one room uses. Those of one format stand beside its reader.
const (
	CodeUnsupportedFormat Code = "unsupported_format"
	CodeEmpty             Code = "empty"
	CodeTruncated         Code = "truncated"
	CodeMalformed         Code = "malformed"
	CodeTooLarge          Code = "too_large"
	CodeStateTimeout      Code = "state_timeout"
	CodeSourceGone        Code = "source_gone"
	CodeCorrupt           Code = "blob_corrupt"
	CodeRunnerGone        Code = "runner_gone"
	CodeConflict          Code = "conflict"
	CodeFenced            Code = "fenced"
	CodeCancelled         Code = "cancelled"
	CodeCrashed           Code = "crashed" // processes died again and again while they worked on the task
	CodePaused            Code = "paused"
	CodeMoved             Code = "moved"
	CodeTooManyLegs       Code = "too_many_legs" // a rule of move_if holds, and the task has moved often enough
	CodeBadTemplate       Code = "bad_template"
	CodeHeld              Code = "held"     // no failure: the pipeline was paused before the call left
	CodeFiltered          Code = "filtered" // no failure: the pipeline's when does not hold
)

// Error is an error with a kind and a reason code. Its text must hold no patient data: no file
// names, no tag values, no bytes of an answer.
type Error struct {
	Kind       Kind
	Code       Code          // empty: the kind's own name
	RetryAfter time.Duration // how long the peer asked to be left alone; 0 if it did not
	Err        error         // what happened; its text is what a person reads
}

// Errorf makes an Error of the kind, with a reason code and a text formatted as fmt.Errorf does.
func Errorf(kind Kind, code Code, format string, args ...any) *Error {
	return &Error{Kind: kind, Code: code, Err: fmt.Errorf(format, args...)}
}

// Error reads as the text alone; the kind and the code have columns of their own.
func (e *Error) Error() string {
	if e.Err == nil {
		return string(e.code())
	}
	return e.Err.Error()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

func (e *Error) code() Code {
	if e.Code == "" {
		return Code(e.Kind.String())
	}
	return e.Code
}

// KindOf classifies any error; one that carries no Kind is Transient.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Transient
}

// CodeOf gives an error's reason code; "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.code()
	}
	return Code(Transient.String())
}

// RetryAfterOf gives the pause that the peer asked for; 0 if it asked for none.
func RetryAfterOf(err error) time.Duration {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.RetryAfter
	}
	return 0
}

// ErrFenced is the answer to every write of a process that no longer holds the task: its lease
// ran out and another process may have the task. Nothing was written; nothing more may be.
var ErrFenced = errors.New("fenced: the lease on the task is lost")

// ErrCancelled is the cause of a context that ends because an operator cancelled the task: what runs for
// it is broken off.
var ErrCancelled error = Errorf(Permanent, CodeCancelled, "an operator cancelled the task")

// ErrNoUnit is the answer to a call that was given up, without a record, because no unit of its target's
// limit was to be had.
var ErrNoUnit = errors.New("no unit of the target's limit is to be had")

// ErrNotRecorded means that the database did not take a call's record for a reason other than a
// lost lease. Whatever the call brought is not kept.
var ErrNotRecorded = errors.New("call not recorded")
