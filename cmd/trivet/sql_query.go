package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"trivet/storage"
)

// listQueries is what --query is given to see what there is.
const listQueries = "list"

// named asks a question about mail that is shipped.
func (s *sqlShell) named(ctx context.Context, name string, set []string) error {
	if name == listQueries {
		return s.cli.print(storage.MailQueries(), func(w io.Writer) {
			for _, q := range storage.MailQueries() {
				var parameters []string
				for _, p := range q.Parameters {
					parameters = append(parameters, fmt.Sprintf("%s=%s (%s)", p.Name, p.Default, p.Text))
				}
				fmt.Fprintf(w, "%s\t%s\t%s\n", q.Name, q.Title, strings.Join(parameters, ", "))
			}
		})
	}
	q, err := storage.FindMailQuery(name)
	if err != nil {
		return err
	}
	values := map[string]string{}
	for _, pair := range set {
		parameter, value, ok := strings.Cut(pair, "=")
		if !ok {
			return usagef("say PARAMETER=VALUE, not %q", pair)
		}
		values[parameter] = value
	}
	sql, err := q.With(values)
	if err != nil {
		return err
	}
	return s.run(ctx, sql)
}
