// Package trace tells an OpenTelemetry collector about the steps of tasks and their calls, if the
// environment names one (OTEL_EXPORTER_OTLP_ENDPOINT, or OTEL_TRACES_EXPORTER=otlp); otherwise nothing is
// made and nothing is sent. All spans of a task are of one trace, whatever process they are of: its id is
// that of the task. Attributes are names from pipeline files and words and numbers of ours, never
// anything that was read from an input.
package trace

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"log/slog"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Tracer makes spans. All methods may be called concurrently, and on nil, where they do nothing.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   oteltrace.Tracer
}

// FromEnv makes the tracer that the environment asks for by OpenTelemetry's variables; nil if it asks for
// none. What cannot be sent is logged, without the collector's words. Another exporter than otlp is
// Illegal with code unknown_exporter.
func FromEnv(ctx context.Context, env func(string) (string, bool), version string, log *slog.Logger) (*Tracer, error) {
	set := func(name string) bool { v, ok := env(name); return ok && v != "" }
	switch kind, _ := env("OTEL_TRACES_EXPORTER"); {
	case kind == "none", kind == "" && !set("OTEL_EXPORTER_OTLP_ENDPOINT") && !set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
		return nil, nil
	case kind != "" && kind != "otlp":
		return nil, gantry.Errorf(gantry.Illegal, "unknown_exporter", "OTEL_TRACES_EXPORTER: there is otlp and none")
	}
	if v, _ := env("OTEL_SDK_DISABLED"); v == "true" {
		return nil, nil
	}
	x, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, gantry.Errorf(gantry.Illegal, "", "set up the exporter of traces: %w", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) { log.Warn("send traces: the collector did not take them") }))
	return New(ctx, x, version)
}

// New makes a tracer that hands its spans to x in batches.
func New(ctx context.Context, x sdk.SpanExporter, version string) (*Tracer, error) {
	about, err := resource.New(ctx, resource.WithAttributes(attribute.String("service.name", "gantry"), attribute.String("service.version", version)),
		resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, gantry.Errorf(gantry.Illegal, "", "describe the process for traces: %w", err)
	}
	p := sdk.NewTracerProvider(sdk.WithBatcher(x), sdk.WithResource(about), sdk.WithIDGenerator(ids{}))
	return &Tracer{provider: p, tracer: p.Tracer("github.com/gantry-imaging/gantry")}, nil
}

// closeWithin bounds the sending of what is left at the end of a process.
const closeWithin = 5 * time.Second

// Close sends what is left; what fails then is told to nobody but the log.
func (t *Tracer) Close() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		otel.Handle(err)
	}
}

// Step begins the span of one step of a task; end takes what came of it.
func (t *Tracer) Step(ctx context.Context, task gantry.Task, pipeline string) (_ context.Context, end func(gantry.Transition)) {
	if t == nil {
		return ctx, func(gantry.Transition) {}
	}
	ctx, span := t.tracer.Start(context.WithValue(ctx, taskKey{}, task.PublicID), "step "+task.State.String(), oteltrace.WithNewRoot(), oteltrace.WithAttributes(
		attribute.String("gantry.task", task.PublicID), attribute.String("gantry.pipeline", pipeline), attribute.String("gantry.state", task.State.String()),
		attribute.Int("gantry.stage", int(task.Stage)), attribute.Int("gantry.attempt", int(task.Attempt))))
	return ctx, func(tr gantry.Transition) {
		span.SetAttributes(attribute.String("gantry.to", tr.To.String()), attribute.String("gantry.code", string(tr.Code)))
		if tr.Task == 0 {
			span.SetStatus(codes.Error, "the lease is lost")
		} else if tr.To == gantry.Failed || tr.Change == gantry.Retry {
			span.SetStatus(codes.Error, string(tr.Code))
		}
		span.End()
	}
}

// Call tells about a call that has ended: from its record to its last byte. ctx is that of the step that
// made it, if any.
func (t *Tracer) Call(ctx context.Context, in gantry.Intent, pipeline, endpoint string, o gantry.Outcome) {
	if t == nil {
		return
	}
	begun := in.ID.Time()
	_, span := t.tracer.Start(ctx, "call "+in.Boundary.String(), oteltrace.WithTimestamp(begun), oteltrace.WithSpanKind(oteltrace.SpanKindClient),
		oteltrace.WithAttributes(attribute.String("gantry.call", in.ID.String()), attribute.String("gantry.pipeline", pipeline),
			attribute.String("gantry.endpoint", endpoint), attribute.String("gantry.operation", in.Op.String()), attribute.Int("gantry.try", int(in.Try)),
			attribute.String("gantry.outcome", o.Result.String()), attribute.String("gantry.code", string(o.Code)), attribute.Int("gantry.status", int(o.Status)),
			attribute.Int64("gantry.sent_bytes", o.ReqSize), attribute.Int64("gantry.received_bytes", o.RespSize),
			attribute.Int64("gantry.wait_us", o.Sent.Microseconds())))
	if o.Result != gantry.ResultOK {
		span.SetStatus(codes.Error, string(o.Code))
	}
	span.End(oteltrace.WithTimestamp(begun.Add(o.Sent + o.Took)))
}

type taskKey struct{}

// ids gives a task's spans the trace of the task, and others one of their own.
type ids struct{}

// NewIDs is part of sdk.IDGenerator.
func (g ids) NewIDs(ctx context.Context) (oteltrace.TraceID, oteltrace.SpanID) {
	var id oteltrace.TraceID
	public, _ := ctx.Value(taskKey{}).(string)
	if b, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(public)); err == nil {
		copy(id[:], b)
	}
	if !id.IsValid() {
		rand.Read(id[:])
	}
	return id, g.NewSpanID(ctx, id)
}

// NewSpanID is part of sdk.IDGenerator.
func (ids) NewSpanID(context.Context, oteltrace.TraceID) (id oteltrace.SpanID) {
	rand.Read(id[:])
	return id
}
