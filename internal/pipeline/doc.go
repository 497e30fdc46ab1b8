// Package pipeline reads pipeline files into gantry.Pipeline and says everything that is wrong with
// one at once, each mistake with its line, column and the nearest right name. Read parse.go and
// load.go first, then grammar.go and values.go (the keys, types and defaults), decode.go, nodes.go,
// fields.go and scalar.go (any tagged struct from YAML), build.go and check.go (what must fit
// together), resolve.go (the canonical form that a version is the digest of), tree.go (what of YAML is
// read) and problem.go. deployment.go is the deployment file, shared.go its sources with their routes, rule.go what
// rules about arrivals speak of, served.go and flow.go what pipelines and sources must be to one another. ordering.go says which tasks go first. Expressions are variables.go (what each field knows), expression.go (check
// and compile), rewrite.go, evaluate.go and functions.go (what operators and functions mean). schema.go, reference.go and
// diagram.go say the same grammar, or one pipeline, in other forms.
//
// # Variables of conditions
//
// Whoever calls Holds of a condition passes these, as the Go types that encoding/json decodes to, but
// for dicom. Any of them may be absent, and so may any field: it is nil then.
//
//	Endpoint.When      (Route.When knows the same; only what its Facts name has to be there)
//	                   object   map[string]any     key, name, source, content_type string, size int64; metadata, tags map[string]any of strings
//	                   dicom    map[string]string  by keyword; nil if the object is no DICOM file
//	Pipeline.When      (Order.Ranking knows the same)
//	                   dicom    map[string]string  by keyword, of the task's first DICOM file; nil if it has none
//	                   object   map[string]any     size int64 in bytes, media string, source string; of a collection
//	                                            the size of all, the media that all have, and count int of members
//	                   items    map[string]any     count int: leaves after extracting (files and frames)
//	Stage.When         dicom    map[string]string  of the first origin that the part is about
//	                   item     map[string]any     of that origin: media string, size int64, frame int from 1 (0: no frame),
//	                                               index int: its place among the task's origins, from 0
//	                   stages   map[string]any     by stage, earlier ones only: map[string]any by processor of []any with a
//	                                               map[string]any{"ok": bool, "result": any} for each origin that the part is
//	                                               about, in their order: one for each: part and item; for each: task
//	                                               all that the earlier stage was given, gaps too
//	Stage.KeepIf       dicom, item, stages         the same, of the one origin that is asked about
//	                   results  map[string]any     by processor: the JSON that it answered for the origin (each: task and
//	                                               batch: for all of them); no entry if it answered none
//	                   result   any                that of the only processor; not known in a stage with several
//
// When of a stage is asked once per part before its calls; KeepIf once per origin that is left after
// them, whether or not it was sent. Numbers
// are float64, int, int32 or int64. A list holds []any, an object map[string]any.
//
// A missing field is nil: it equals only nil, is neither less nor more than anything, gives nil in
// arithmetic, and does not hold where true or false is wanted. So a condition on it is false, not an
// error. Errors are Illegal with code bad_expression: values of types that an operator does not
// compare (a text and a number by <), something that is neither true nor false as a condition, a
// predicate over something that is no list, a division by zero, and more than 50,000 elements looked
// at. Their texts say nothing of the values.
package pipeline
