package app

import (
	"time"

	"github.com/gantry-imaging/gantry/internal/api"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func after(d time.Duration) *time.Time { t := noon.Add(d); return &t }

// host is a driver's config whose target has this name.
type host string

func (h host) Target() gantry.Target { return gantry.Target{Scheme: "http", Host: string(h)} }

// told is what is said of a task of a pipeline with two stages; with changes the facts of a task that a process
// works on in the second.
func told(with func(*postgres.Facts)) []api.Cause {
	f := postgres.Facts{Now: noon, State: gantry.Inferring, Phase: gantry.Owned, Stage: 1, Owner: 12, Rank: 5, Last: postgres.LastEvent{Change: -1},
		Lane:      postgres.FactLane{Pipeline: "echo", Source: "inbox", Limiter: 1},
		Processes: []postgres.Process{{ID: 12, Host: "pacs-gw", PID: 4711, StartedAt: noon.Add(-time.Hour), ExpiresAt: noon.Add(time.Minute), Tasks: 4}},
		Limits: []postgres.FactLimit{limited("pipeline:echo", 1, 6, 2), limited("http://a", 2, 4, 0), limited("http://b", 3, 4, 0),
			limited("http://out", 4, -1, 0), limited("pipeline:echo:inferring", 5, -1, 0), limited("pipeline:echo:extracting", 6, 2, 2)}}
	with(&f)
	return causes(f, &gantry.Pipeline{Name: "echo", Retry: gantry.RetryPolicy{Attempts: 3},
		Stages:     []gantry.Stage{{Name: "look", Call: []string{"a"}}, {Name: "read", Call: []string{"a", "b"}}},
		Processors: []gantry.Processing{{Endpoint: gantry.Endpoint{Name: "a", Config: host("a")}}, {Endpoint: gantry.Endpoint{Name: "b", Config: host("b")}}},
		Sinks:      []gantry.Endpoint{{Name: "out", Config: host("out")}}})
}

func limited(key string, id int32, units, used int) postgres.FactLimit {
	return postgres.FactLimit{LimitRow: postgres.LimitRow{ID: id, Key: key, Units: units, InUse: used, Breaker: "closed", Rate: 2}}
}

// ready makes it a task that nobody holds.
func ready(f *postgres.Facts) {
	f.State, f.Phase, f.Stage, f.Owner = gantry.Queued, gantry.Ready, 0, 0
}

const worksOn = "working: Process 12 (pacs-gw, pid 4711, since 2026-11-26T11:00:00Z) works on it: inferring, stage read (2 of 2)"

// whyCases are facts with what is said of them. docs/why.md takes its sentences from here.
var whyCases = map[string]struct {
	with func(*postgres.Facts)
	want []string
}{
	"done": {func(f *postgres.Facts) { f.State, f.Ended = gantry.Done, after(-time.Minute) }, []string{
		"done: It was done at 2026-11-26T11:59:00Z (1m0s ago)."}},
	"filtered": {func(f *postgres.Facts) {
		f.State, f.Ended, f.Last.Code = gantry.Done, after(0), "filtered"
	}, []string{
		"done: It was done at 2026-11-26T12:00:00Z (now) without a call, since the pipeline's when does not hold for it."}},
	"done, of a study that lacked some": {func(f *postgres.Facts) {
		f.State, f.Ended, f.Collection = gantry.Done, after(-time.Minute), &postgres.CollectionRow{ID: 7, Held: 300, Expected: 324, Why: "cap"}
	}, []string{"done: It was done at 2026-11-26T11:59:00Z (1m0s ago).", "incomplete: It was made of 300 of 324 images or files that were expected: cap closed its collection, 7."}},
	"done, of a whole study": {func(f *postgres.Facts) {
		f.State, f.Ended, f.Collection = gantry.Done, after(-time.Minute), &postgres.CollectionRow{ID: 7, Held: 324, Expected: 324, Why: "expected"}
	}, []string{"done: It was done at 2026-11-26T11:59:00Z (1m0s ago)."}},
	"failed": {func(f *postgres.Facts) {
		f.State, f.Ended, f.Stage, f.Last.From, f.Last.Stage, f.Error = gantry.Failed, after(0), 0, gantry.Inferring, 1, postgres.TaskError{Code: "http_500", Kind: "transient", Message: "it answered 500"}
		f.Until, f.Asked = after(5), []postgres.Asked{{Verb: "cancel"}} // both are past
	}, []string{
		"failed: It failed at 2026-11-26T12:00:00Z (now) in inferring, stage read (2 of 2), with http_500 (transient): It answered 500. The input is kept: " +
			"gantry task retry puts it back into that state, gantry task redrive calls parts again, gantry task move gives it to another pipeline."}},
	"failed in gantry run": {func(f *postgres.Facts) {
		f.State, f.Ended, f.Run, f.Error = gantry.Failed, after(0), true, postgres.TaskError{Code: "empty", Kind: "illegal", Message: "no bytes"}
	}, []string{
		"failed: It failed at 2026-11-26T12:00:00Z (now) in queued, with empty (illegal): No bytes. The input is kept: it belonged to gantry run, which can be run again."}},
	"a part failed": {func(f *postgres.Facts) {
		f.State, f.Ended, f.Parent, f.Error = gantry.Failed, after(0), "abc", postgres.TaskError{Code: "empty", Kind: "illegal", Message: "no bytes"}
	}, []string{
		"failed: It failed at 2026-11-26T12:00:00Z (now) in queued, with empty (illegal): No bytes. The input is kept: retry and redrive go by the task that it is a part of, abc."}},
	"cancelled": {func(f *postgres.Facts) {
		f.State, f.Ended, f.Last.From, f.Error = gantry.Cancelled, after(0), gantry.Responding, postgres.TaskError{Code: "cancelled", Message: "an operator cancelled the task"}
	}, []string{
		"cancelled: It was cancelled at 2026-11-26T12:00:00Z (now) in responding, with cancelled: An operator cancelled the task. The input is kept."}},

	"its runner died": {func(f *postgres.Facts) {
		f.State, f.Ended, f.Last.From, f.Error = gantry.Cancelled, after(0), gantry.Responding, postgres.TaskError{Code: "runner_gone", Message: "the process is gone; the input is kept"}
	}, []string{
		"cancelled: It was cancelled at 2026-11-26T12:00:00Z (now) in responding, with runner_gone: The process is gone. The input is kept."}},

	"next": {ready, []string{"next: Nothing holds it: it is next, and a process takes it within half a second."}},
	"no process": {func(f *postgres.Facts) {
		ready(f)
		f.Processes[0].ExpiresAt = noon
		f.Processes = append(f.Processes, postgres.Process{ID: 13, ExpiresAt: *after(9), Private: true})
	}, []string{"no_process: No process is running: start gantry serve, or gantry worker."}},
	"the runner is gone": {func(f *postgres.Facts) { ready(f); f.Lane.Private = 11 }, []string{
		"runner_gone: It belongs to gantry run, whose process 11 is gone, and nobody else may take it: the next live process ends it as cancelled."}},
	"the limit of tasks in progress": {func(f *postgres.Facts) {
		ready(f)
		f.Limits[0].InUse = 6
		f.Limits[0].Holders = []postgres.FactHolder{{Process: 12, Host: "pacs-gw", Units: 4}, {Process: 14, Host: "b", Units: 1}, {Process: 9, Units: 1}}
		f.Ahead = postgres.FactAhead{All: 3, Urgent: 1}
	}, []string{
		"in_progress_full: 6 of 6 tasks of echo are in progress, held by process 12 (pacs-gw, 4 tasks), process 14 (b, 1 task) and process 9, which is gone (1 task).",
		"ahead: 3 tasks of echo/inbox go before it: 1 more urgent, 2 older of its priority, which is 5."}},
	"in progress at a process that died": {func(f *postgres.Facts) {
		ready(f)
		f.Processes[0].ExpiresAt = noon
		f.Limits[0].InUse, f.Limits[0].Holders = 6, []postgres.FactHolder{{Process: 12, Host: "pacs-gw", Units: 6}}
	}, []string{
		"no_process: No process is running: start gantry serve, or gantry worker.",
		"in_progress_full: 6 of 6 tasks of echo are in progress, held by process 12, which is gone (6 tasks)."}},
	"very many before it": {func(f *postgres.Facts) { ready(f); f.Ahead.All = postgres.MostAhead }, []string{
		"ahead: At least 10000 tasks of echo/inbox go before it: 0 more urgent, 10000 older of its priority, which is 5."}},
	"the pipeline is paused": {func(f *postgres.Facts) {
		ready(f)
		f.Limits[0].PausedBy, f.Limits[0].PausedAt, f.Limits[0].Units = "ann", after(-time.Hour), 0
	}, []string{
		"pipeline_paused: No task of its pipeline may begin: ann paused pipeline:echo at 2026-11-26T11:00:00Z (1h0m0s ago), gantry resume pipeline:echo ends that."}},
	"the pipeline is set to nothing": {func(f *postgres.Facts) { ready(f); f.Limits[0].Units, f.Limits[0].SetBy = 0, "ann" }, []string{
		"pipeline_paused: No task of its pipeline may begin: ann set the limit of pipeline:echo to 0, gantry limits set pipeline:echo changes that."}},
	"the pipeline declares nothing": {func(f *postgres.Facts) { ready(f); f.Limits[0].Units = 0 }, []string{
		"pipeline_paused: No task of its pipeline may begin: the limit of pipeline:echo is 0."}},
	"off-peak": {func(f *postgres.Facts) {
		ready(f)
		f.Rank, f.OffPeak = 8, "sun,mon,tue,wed,thu,fri,sat 22:00-06:00 UTC"
	}, []string{
		"off_peak: It is off-peak: a window of its pipeline opens at 2026-11-26T22:00:00Z (in 10h0m0s)."}},
	"not off-peak": {func(f *postgres.Facts) {
		ready(f)
		f.Rank, f.OffPeak = 7, "sun,mon,tue,wed,thu,fri,sat 22:00-06:00 UTC"
	}, []string{
		"next: Nothing holds it: it is next, and a process takes it within half a second."}},
	"busy": {func(f *postgres.Facts) {
		ready(f)
		f.Processes[0].Tasks = 64
		f.Processes = append(f.Processes, postgres.Process{ID: 13, Host: "b", ExpiresAt: *after(9), Tasks: 1, Alone: true},
			postgres.Process{ID: 14, Host: "c", ExpiresAt: *after(9), Tasks: 2, Places: 2})
	}, []string{
		"processes_busy: Every process has as many tasks as it takes: process 12 (pacs-gw) has 64, process 13 (b) works on a task alone and process 14 (c) has 2."}},
	"busy but for the urgent": {func(f *postgres.Facts) { ready(f); f.Processes[0].Tasks, f.Rank = 71, 1 }, []string{
		"next: Nothing holds it: it is next, and a process takes it within half a second."}},
	"busy for the urgent too": {func(f *postgres.Facts) { ready(f); f.Processes[0].Tasks, f.Rank = 72, 1 }, []string{
		"processes_busy: Every process has as many tasks as it takes: process 12 (pacs-gw) has 72."}},
	"one has room": {func(f *postgres.Facts) {
		ready(f)
		f.Processes[0].Tasks = 64
		f.Processes = append(f.Processes, postgres.Process{ID: 13, Host: "b", ExpiresAt: *after(9), Tasks: 1})
	}, []string{"next: Nothing holds it: it is next, and a process takes it within half a second."}},
	"to run alone": {func(f *postgres.Facts) { ready(f); f.Deaths = 2 }, []string{
		"alone: 2 processes died while they worked on it: whoever takes it next lets what runs there end, and works on it alone."}},

	"at work": {func(f *postgres.Facts) {
		f.Parts = []postgres.Parts{{OK: 3, Planned: 2, Failed: 1}, {Processor: 1, OK: 5, Skipped: 1}}
		f.Calls = []postgres.OpenCalls{{Limiter: 2, Target: "http://a", N: 2, Since: *after(-40 * time.Second)}, {Limiter: 3, Target: "http://b", N: 1, Since: noon}}
		f.Until = after(time.Hour)
		f.Parent = "abc"
	}, []string{
		"calls: 2 calls to http://a have not ended, the first on record since 2026-11-26T11:59:20Z (40s ago).",
		"calls: 1 call to http://b has not ended, the first on record since 2026-11-26T12:00:00Z (now).",
		worksOn + "; a has answered 3 of 6 parts, 1 failed, 2 planned; b has answered 5 of 6 parts, 1 skipped.",
		"state_time: Its time for inferring is up at 2026-11-26T13:00:00Z (in 1h0m0s).",
		"part_of: It is a part of task abc."}},
	"its process is gone": {func(f *postgres.Facts) { f.Processes[0].ID, f.Until = 13, after(-time.Second) }, []string{
		"owner_gone: Process 12 held it, and was not heard of before its lease ran out: the next live process takes the task away from it.",
		"state_time_over: Its time for inferring was up at 2026-11-26T11:59:59Z (1s ago): it fails as soon as a process looks at it."}},
	"set aside": {func(f *postgres.Facts) { f.Aside, f.Deaths = true, 2 }, []string{
		"alone: 2 processes died while they worked on it: process 12 (pacs-gw, pid 4711, since 2026-11-26T11:00:00Z) has set it aside, and works on it alone once the other tasks there have ended (3)."}},
	"the limit of the state": {func(f *postgres.Facts) {
		f.Limits[4] = limited("pipeline:echo:inferring", 5, 1, 1)
		f.Limits[4].Waiting, f.Limits[4].Holders = 2, []postgres.FactHolder{{Process: 14, Host: "b", Units: 1}}
	}, []string{
		"state_full: 1 of 1 tasks of echo are inferring, held by process 14 (b, 1 task): it waits for one of them to end that.", worksOn + "."}},
	"the limit of another state": {func(f *postgres.Facts) {
		f.State, f.Limits[5].Waiting, f.Limits[5].Holders = gantry.Extracting, 1, []postgres.FactHolder{{Process: 12, Host: "pacs-gw", Units: 2}}
	}, []string{
		"state_full: 2 of 2 tasks of echo are extracting, held by process 12 (pacs-gw, 2 tasks): it waits for one of them to end that, or is one of them.",
		"working: Process 12 (pacs-gw, pid 4711, since 2026-11-26T11:00:00Z) works on it: extracting."}},
	"past the limit of the state": {func(f *postgres.Facts) {
		f.Limits[4] = limited("pipeline:echo:inferring", 5, 1, 1)
		f.Limits[4].Waiting = 2
		f.Calls = []postgres.OpenCalls{{Target: "http://a", N: 1, Since: noon}}
	}, []string{"calls: 1 call to http://a has not ended, the first on record since 2026-11-26T12:00:00Z (now).", worksOn + "."}},
	"a target that rests": {func(f *postgres.Facts) {
		f.Parts = []postgres.Parts{{Planned: 9}}
		l := &f.Limits[1]
		l.NotBefore, l.Breaker, l.BreakerEnd, l.InUse, l.Waiting, l.Next = after(9*time.Second), "open", after(20*time.Second), 4, 5, after(3*time.Second)
	}, []string{
		"target_rests: http://a asked to be left alone (Retry-After): no call begins before 2026-11-26T12:00:09Z (in 9s).",
		"breaker_open: Calls to http://a failed again and again: none begins before 2026-11-26T12:00:20Z (in 20s), then one tries it.",
		worksOn + "; a has answered 0 of 9 parts, 9 planned."}},
	"a target that is busy": {func(f *postgres.Facts) {
		f.Parts = []postgres.Parts{{Planned: 9}}
		l := &f.Limits[1]
		l.InUse, l.Waiting, l.Held, l.Next = 4, 5, 1, after(3*time.Second)
		l.Holders = []postgres.FactHolder{{Process: 12, Host: "pacs-gw", Units: 3}, {Process: 9, Units: 1, HeldUntil: after(30 * time.Second)}}
	}, []string{
		"units_in_use: 4 of 4 units of http://a are in use, held by process 12 (pacs-gw, 3 units) and process 9, which is gone (1 unit until 2026-11-26T12:00:30Z (in 30s)); processes want 5 more.",
		"rate: http://a takes 2 calls a second: no start is free before 2026-11-26T12:00:03Z (in 3s).",
		worksOn + "; a has answered 0 of 9 parts, 9 planned."}},
	"a target whose units a dead process has": {func(f *postgres.Facts) {
		f.Parts = []postgres.Parts{{Planned: 9}}
		l := &f.Limits[1]
		l.InUse, l.Held, l.Holders = 4, 4, []postgres.FactHolder{{Process: 9, Units: 4, HeldUntil: after(30 * time.Second)}}
	}, []string{
		"units_in_use: 4 of 4 units of http://a are in use, held by process 9, which is gone (4 units until 2026-11-26T12:00:30Z (in 30s)).",
		worksOn + "; a has answered 0 of 9 parts, 9 planned."}},
	"a target that nothing is left for": {func(f *postgres.Facts) {
		f.Parts = []postgres.Parts{{OK: 9}}
		f.Limits[1].NotBefore = after(9)
	}, []string{worksOn + "; a has answered 9 of 9 parts."}},
	"all units in use by calls that run": {func(f *postgres.Facts) {
		f.Parts, f.Limits[1].InUse = []postgres.Parts{{Planned: 9}}, 4
	}, []string{worksOn + "; a has answered 0 of 9 parts, 9 planned."}},
	"a probe is due": {func(f *postgres.Facts) {
		f.Parts, f.Limits[1].Breaker, f.Limits[1].BreakerEnd = []postgres.Parts{{Planned: 9}}, "open", after(-1)
	}, []string{
		"breaker_probe: Calls to http://a failed again and again: the next one tries it, before any other.",
		worksOn + "; a has answered 0 of 9 parts, 9 planned."}},
	"a probe is out": {func(f *postgres.Facts) {
		f.Parts, f.Limits[1].Breaker, f.Limits[1].BreakerEnd = []postgres.Parts{{Planned: 9}}, "half_open", after(5*time.Second)
	}, []string{
		"breaker_probe: Calls to http://a failed again and again: one tries it now, and is given up at 2026-11-26T12:00:05Z (in 5s).",
		worksOn + "; a has answered 0 of 9 parts, 9 planned."}},
	"a sink is paused": {func(f *postgres.Facts) {
		f.State = gantry.Responding
		f.Limits[3].PausedBy, f.Limits[3].PausedAt, f.Limits[3].Units = "ann", after(0), 0
	}, []string{
		"target_paused: No call to http://out may begin: ann paused http://out at 2026-11-26T12:00:00Z (now), gantry resume http://out ends that.",
		"working: Process 12 (pacs-gw, pid 4711, since 2026-11-26T11:00:00Z) works on it: responding."}},
	"asked of a process": {func(f *postgres.Facts) {
		f.Asked = []postgres.Asked{{Verb: "move", By: "ann", At: *after(-time.Second)}}
	}, []string{
		"asked: ann asked for its move at 2026-11-26T11:59:59Z (1s ago): process 12 does it at its next heartbeat.", worksOn + "."}},
	"asked of one that died": {func(f *postgres.Facts) {
		f.Owner, f.Asked = 11, []postgres.Asked{{Verb: "pause", By: "ann", At: noon}}
	}, []string{
		"asked: ann asked for its pause at 2026-11-26T12:00:00Z (now): the next process that looks does it.",
		"owner_gone: Process 11 held it, and was not heard of before its lease ran out: the next live process takes the task away from it."}},
	"asked of nobody": {func(f *postgres.Facts) { ready(f); f.Asked = []postgres.Asked{{Verb: "cancel", By: "ann", At: noon}} }, []string{
		"asked: ann asked for its cancel at 2026-11-26T12:00:00Z (now): the next process that looks does it.",
		"next: Nothing holds it: it is next, and a process takes it within half a second."}},

	"tried again": {func(f *postgres.Facts) {
		f.State, f.Phase, f.Owner, f.Due, f.Tries = gantry.Responding, gantry.Delayed, 0, after(3*time.Second), 1
		f.Last = postgres.LastEvent{Change: int16(gantry.Retry), Code: "no_space", Detail: "write object: the disk is full"}
	}, []string{
		"retry: Attempt 1 of 3 of responding ended with no_space: Write object: the disk is full. It is tried again at 2026-11-26T12:00:03Z (in 3s)."}},
	"parts tried again": {func(f *postgres.Facts) {
		f.Phase, f.Owner, f.Due, f.Last.Change = gantry.Delayed, 0, after(time.Minute), int16(gantry.Park)
		f.Parts = []postgres.Parts{{Planned: 2, Later: 2, OK: 1, Due: after(time.Minute), Code: "timeout", Tries: 3, Asked: 2},
			{Processor: 1, Planned: 1, Later: 1, Due: after(2 * time.Minute), Code: "http_503", Tries: 2, Asked: 2}}
		f.Limits[1].NotBefore = after(time.Minute)
	}, []string{
		"parts_later: 2 parts for a are tried again from 2026-11-26T12:01:00Z (in 1m0s) on: attempt 1 of 3 of the first ended with timeout.",
		"parts_later: 1 part for b is tried again from 2026-11-26T12:02:00Z (in 2m0s) on: the target asked to come back later (http_503), which counts as no attempt.",
		"target_rests: http://a asked to be left alone (Retry-After): no call begins before 2026-11-26T12:01:00Z (in 1m0s)."}},
	"parked": {func(f *postgres.Facts) {
		f.Phase, f.Owner, f.Due, f.Last.Change = gantry.Delayed, 0, after(1e9), int16(gantry.Park)
	}, []string{
		"parked: There is nothing to do for it before 2026-11-26T12:00:01Z (in 1s)."}},
	"out": {func(f *postgres.Facts) {
		f.Phase, f.Owner, f.Due = gantry.Delayed, 0, after(time.Second)
		f.Parts = []postgres.Parts{{Processor: 1, Out: 3, OutLimiter: 3, OutDue: after(10 * time.Second), OutUntil: after(time.Hour)}}
	}, []string{
		"answers: It waits for the answer of 3 calls to http://b (b), and asks again at 2026-11-26T12:00:10Z (in 10s); the first deadline is 2026-11-26T13:00:00Z (in 1h0m0s)."}},
	"a sink confirms": {func(f *postgres.Facts) {
		f.State, f.Phase, f.Owner, f.Due, f.Parts = gantry.Responding, gantry.Delayed, 0, after(time.Minute), nil
		f.Confirms = []postgres.Confirms{{Sink: 0, Count: 3, At: noon.Add(-10 * time.Second)}, {Sink: 7, Count: 1, At: noon}}
	}, []string{
		"confirmation: It waits for sink out to say whether it keeps the 3 files that it got: it was asked at 2026-11-26T11:59:50Z (10s ago).",
		"confirmation: It waits for its sink 8 to say whether it keeps the 1 file that it got: it was asked at 2026-11-26T12:00:00Z (now)."}},
	"nobody is there for it when it is due": {func(f *postgres.Facts) { f.Phase, f.Owner, f.Due, f.Processes = gantry.Delayed, 0, after(1e9), nil }, []string{
		"no_process: No process is running: start gantry serve, or gantry worker.",
		"parked: There is nothing to do for it before 2026-11-26T12:00:01Z (in 1s)."}},
	"children": {func(f *postgres.Facts) {
		f.Phase, f.Owner = gantry.Waiting, 0
		f.Children = postgres.FactChildren{All: 9, Open: 5, First: []postgres.FactChild{
			{ID: "aa", State: gantry.Inferring, Phase: gantry.Owned, Owner: 12}, {ID: "bb", State: gantry.Queued},
			{ID: "cc", State: gantry.Responding, Phase: gantry.Delayed, Due: after(time.Second)}, {ID: "dd", State: gantry.Inferring, Phase: gantry.Paused}}}
	}, []string{
		"children: It waits for 5 of its 9 children: aa (inferring, at process 12), bb (queued, ready), cc (responding, delayed until 2026-11-26T12:00:01Z (in 1s)), dd (inferring, paused), and 1 more."}},
	"paused": {func(f *postgres.Facts) {
		f.Phase, f.Owner, f.Until, f.Pause = gantry.Paused, 0, after(-1), &postgres.Pausing{By: "ann", At: noon, Reason: "the service is serviced."}
	}, []string{"paused: It was paused by ann at 2026-11-26T12:00:00Z (now), the service is serviced: gantry task resume lets it go on."}},
}
