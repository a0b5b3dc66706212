package database

import "context"

// look runs a statement in a transaction on tables of Go code. There is nothing
// to hold for it: each statement sees what there is then.
func (s *Session) look(ctx context.Context, in Statement, sink Sink) (out Outcome, rest string, err error) {
	out, rest, control, err := s.runReading(ctx, in, s.tx.may, sink)
	if err != nil || !control {
		return out, rest, err
	}
	switch {
	case out.Kind.Savepoint != "": // nothing can be rolled back
	case out.Kind.Transaction == "BEGIN":
		err = fail(StateInTransaction, "", "there is already a transaction in progress")
	case out.Kind.Transaction != "":
		s.end()
	default:
		err = fail(StateDenied, "", "permission denied: these views are read only")
	}
	return out, rest, err
}

// lookAll runs statements that only read, and keeps their rows.
func (s *Session) lookAll(ctx context.Context, statements []Statement, may Privilege) (JobResult, error) {
	var result JobResult
	left := s.db.engine.Limits.ReturnBytes
	for _, in := range statements {
		rows := Rows{most: left}
		out, rest, control, err := s.runReading(ctx, in, may, &rows)
		switch {
		case err != nil:
			return JobResult{}, err
		case control:
			return JobResult{}, fail(StateDenied, "", "permission denied: these views are read only")
		case verb(rest) != "":
			return JobResult{}, fail(StateSyntax, "send them one by one", "there is more than one statement")
		}
		left -= rows.size
		result.Outcomes, result.Rows = append(result.Outcomes, out), append(result.Rows, rows)
	}
	return result, nil
}
