package gantry

import (
	"context"
	"net/http"
	"time"
)

// Hooked is a Source that takes notifications which its server sends over HTTP.
type Hooked interface {
	Source
	// HookToken refers to what a sender has to know; empty: the source takes none.
	HookToken() SecretRef
	// Hook takes the body of one notification and returns nil once nothing of it is left to do: each object it
	// tells of was announced, and everything else was told to the Journal. What nobody understands is Illegal;
	// any other error means that the sender should send it again.
	Hook(ctx context.Context, h http.Header, body []byte, announce func(context.Context, Object) error) error
}

// Channel is a way in which a source learns of objects.
type Channel string

// The channels: it looks itself, its server tells it over HTTP, or a queue does.
const (
	ChannelPoll    Channel = "poll"
	ChannelFolder  Channel = "folder" // the same of a folder
	ChannelWebhook Channel = "webhook"
	ChannelSQS     Channel = "sqs"
	ChannelStore   Channel = "c-store"    // the object itself came
	ChannelDelete  Channel = "sqs delete" // messages of which nothing is left to do leave the queue
)

// Notice is what one message to a source came to, or that a channel is broken.
type Notice struct {
	Channel Channel
	At      time.Time // of the newest event in it, as its sender says; zero if it says none
	Objects int       // objects that were announced
	Ignored int       // events of other kinds, of other buckets and of objects that the source leaves out

	Code Code   // why the message, or a part of it, tells of no object; empty: it was understood
	Body []byte // with Code: the message. It may hold names of people, so it is never logged

	Err error // the channel is broken, and is tried again later. Without Err and Code it works
}

// Noting is a Source that tells what it hears.
type Noting interface {
	Source
	// Note says whom it tells. It is called once, before Watch. An error of tell means that a message was not
	// kept, and must come again.
	Note(tell func(context.Context, Notice) error)
}

// FurtherTarget is a server that a driver calls beside the one of its own.
type FurtherTarget struct {
	Target
	Service string // what requests to it are signed for, where signatures say so (AWS): sqs
}

// Reaching is a config of a driver that has further targets.
type Reaching interface {
	Targeted
	Further() []FurtherTarget
}

// Branching is the Egress that a driver with further targets is given.
type Branching interface {
	Egress
	// Branch gives the way to a further target of the config; false if it declares none such.
	Branch(t Target) (Egress, bool)
}
