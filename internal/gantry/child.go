package gantry

import (
	"strconv"
	"strings"
	"time"
)

// Role says what a task is to its parent.
type Role uint8

// The roles. The numbers stand in the database.
const (
	NoRole Role = iota // it has no parent
	Shard              // a range of its parent's origins, through the first stages
	Member             // one study, series or patient of its parent's media, through the whole pipeline
)

var roleNames = [...]string{"", "shard", "member"}

// String gives the role's name; empty for a task without a parent.
func (r Role) String() string { return roleNames[r] }

// Span is a range of ids of items: First and those after it that are below End.
type Span struct{ First, End ItemID }

// Spans puts ids in ascending order together to as few ranges as there can be.
func Spans(ids []ItemID) (out []Span) {
	for _, id := range ids {
		if n := len(out); n > 0 && out[n-1].End == id {
			out[n-1].End++
			continue
		}
		out = append(out, Span{id, id + 1})
	}
	return out
}

// FormatSpans writes ranges as PostgreSQL reads an int4multirange.
func FormatSpans(list []Span) string {
	var b strings.Builder
	for i, s := range list {
		b.WriteString([]string{"{[", ",["}[min(i, 1)] + strconv.Itoa(int(s.First)) + "," + strconv.Itoa(int(s.End)) + ")")
	}
	if len(list) == 0 {
		return "{}"
	}
	return b.String() + "}"
}

// Division is what a task is divided into when it begins to wait: children in its lane, of its
// pipeline version. Their priority is one above its own, so that what was begun is finished first.
type Division struct {
	Role     Role
	State    State         // that each begins in
	Within   time.Duration // how long each may stay in it; 0: as long as the parent in its own
	Children []Child       // by ordinal
}

// Child is one task to be.
type Child struct {
	PublicID string
	Members  []Span // of the items of the task at the top, in ascending order
}

// ChildTask is a child that was made.
type ChildTask struct {
	ID       TaskID
	PublicID string
	Role     Role
	Ordinal  int32
	State    State // a final one once it has ended
	Members  int32 // how many items it is about
	Kind     Kind  // of its end, with Code and Detail, where it did not end as done
	Code     Code
	Detail   string
	Delivery int16 // under which prefix it delivers
}

// ChildID is a child's public id: an HMAC under its parent's, which nobody can guess without knowing
// the parent's. The same parent, role and ordinal always give the same.
func ChildID(parent string, r Role, ordinal int) string {
	return PublicID([]byte(parent), r.String(), strconv.Itoa(ordinal))
}
