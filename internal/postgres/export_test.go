package postgres

// ResultsForTest puts the whole results statement together, for arguments written in SQL: those of
// each section in turn.
func ResultsForTest(of ...[]string) (sql string, args []string) {
	names := []string{"leases", "cursors", "items", "marks", "plans", "parts", "outcomes"}
	var all []section
	for i, x := range of {
		all = append(all, section{name: names[i], rows: 1, args: make([]any, len(x))})
		args = append(args, x...)
	}
	sql, _ = newSections(resultsSQL).statement(all...)
	return sql, args
}

// The statements about what a worker holds. $1 worker.
const (
	HeldForTest   = heldSQL
	ResignForTest = resignSQL
)

// MovesForTest puts the transition statement together, with the section of parents.
func MovesForTest() string {
	sql, _ := newSections(transitionSQL).statement(section{"moves", 1, make([]any, 12)}, section{"parents", 1, nil})
	return sql
}
