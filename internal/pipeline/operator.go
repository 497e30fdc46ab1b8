package pipeline

import (
	"strings"
	"unicode/utf8"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// operatorShape is what the --where of an operator's commands knows of a task. Names of files and of people are
// not among it.
func operatorShape() shape {
	task := map[string]shape{
		"id": text("its public id"), "pipeline": text("the name of its pipeline"), "version": text("the SHA-256 of its pipeline's version"),
		"state": text("queued, extracting, ingesting, inferring, responding, done, failed or cancelled"),
		"phase": text("ready, owned, delayed or waiting; empty once it has ended"), "source": text("the name of the source it came from"),
		"age": number("seconds since it was made"), "ended": number("seconds since it ended; missing before"),
		"created": text("when it was made, RFC 3339 in UTC"), "finished": text("when it ended, RFC 3339 in UTC; empty before"),
		"attempts": number("failed tries of the state that it is in, or failed in"), "crashes": number("deaths of processes that held it; missing once it has ended"),
		"priority": number("0 first, 9 last; missing once it has ended"), "children": number("tasks that it was divided into"),
	}
	failure := map[string]shape{
		"kind": text("transient, timeout, unavailable, bad_response, denied, not_found, permanent or illegal; empty if it did not fail"),
		"code": text("the reason code; empty if it did not fail"), "stage": text("the stage that failed; empty if that was another state"),
	}
	return shape{kind: "object", fields: map[string]shape{
		"task": {kind: "object", fields: task}, "error": {kind: "object", fields: failure},
	}}
}

// TaskVariables lists what the expression of an operator may speak of.
func TaskVariables() []Variable { return operatorShape().variables("") }

// TaskCondition compiles an operator's expression about tasks. Its mistakes are Illegal with code bad_expression, with the
// expression and a caret under the place of each.
func TaskCondition(src string) (gantry.Condition, error) {
	if len(src) > maxExpression || !utf8.ValidString(src) || strings.ContainsAny(src, "\r\n") {
		return nil, gantry.Errorf(gantry.Illegal, CodeBadExpression, "read expression: it is one line of at most %d bytes", maxExpression)
	}
	c, mistakes := compile(src, operatorShape())
	if len(mistakes) == 0 {
		return c, nil
	}
	var b strings.Builder
	for _, m := range mistakes {
		b.WriteString("\n  " + src + "\n  " + strings.Repeat(" ", m.at) + "^ " + m.text)
	}
	return nil, gantry.Errorf(gantry.Illegal, CodeBadExpression, "read expression: it cannot be used%s", b.String())
}
