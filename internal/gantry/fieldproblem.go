package gantry

// FieldProblem is a mistake in one field of a config. Key is the field's YAML key; "" is the whole.
type FieldProblem struct {
	Key, Text string
}

// FieldProblems gathers mistakes.
type FieldProblems []FieldProblem

// Add notes a mistake; without a text there is none.
func (p *FieldProblems) Add(key, text string) {
	if text != "" {
		*p = append(*p, FieldProblem{Key: key, Text: text})
	}
}
