package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"trivet/storage"
)

// sqlOptions are how 'trivet sql' was called.
type sqlOptions struct {
	database     string
	commands     []string
	query        string   // one of storage.MailQueries, or "list"
	set          []string // PARAMETER=VALUE of it
	csv, table   bool
	timing       bool
	linearizable bool
	connect      string // HOST:PORT of a listener sql; empty: the node of the data folder
	user         string
	insecure     bool
}

func (c *cli) sqlCommand() *cobra.Command {
	var o sqlOptions
	cmd := command("sql", "Ask a database in SQL", 0, 0, nil)
	flags := cmd.Flags()
	flags.StringVarP(&o.database, "database", "d", "", "database; if not given, the only one there is")
	flags.StringArrayVarP(&o.commands, "command", "c", nil, "statements to run, instead of asking for them; may be given several times")
	flags.StringVar(&o.query, "query", "", "a question about mail that is shipped; list: show which there are")
	flags.StringArrayVar(&o.set, "set", nil, "of query: PARAMETER=VALUE; may be given several times")
	flags.BoolVar(&o.csv, "csv", false, "print CSV")
	flags.BoolVar(&o.table, "table", false, "print a table, also where nobody looks")
	flags.BoolVar(&o.timing, "timing", false, "say how long each statement took")
	flags.BoolVar(&o.linearizable, "linearizable", false, "read what was acknowledged anywhere before, not what this node has")
	flags.StringVar(&o.connect, "connect", "", "HOST:PORT of the listener sql of a node elsewhere")
	flags.StringVar(&o.user, "user", "", "of connect: account to log in as")
	flags.BoolVar(&o.insecure, "insecure", false, "of connect: do not check the certificate")
	fromStdin := flags.Bool("password-stdin", false, "of connect: read the password from the first line of standard input")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case o.connect != "" && o.user == "":
			return usageOf(cmd, errors.New("--connect needs --user"))
		case o.csv && (c.json || o.table), c.json && o.table:
			return usageOf(cmd, errors.New("give one of --csv, --json and --table"))
		case o.query != "" && len(o.commands) > 0, o.query == "" && len(o.set) > 0:
			return usageOf(cmd, errors.New("--set is for --query, which takes no --command"))
		}
		in := bufio.NewReader(c.in)
		password := ""
		if *fromStdin {
			typed, err := in.ReadString('\n')
			if err != nil && typed == "" {
				return fmt.Errorf("read the password: %w", err)
			}
			password = strings.TrimRight(typed, "\r\n")
		}
		return c.sql(cmd.Context(), o, password, in)
	}
	return cmd
}

// sql runs what was given, or what is typed.
func (c *cli) sql(ctx context.Context, o sqlOptions, password string, in *bufio.Reader) error {
	if o.query == listQueries {
		return (&sqlShell{cli: c}).named(ctx, o.query, nil)
	}
	if o.query != "" && o.database == "" {
		o.database = storage.MailDatabase
	}
	if o.database == "" && o.connect == "" {
		var databases []storage.Database
		if err := c.ask(ctx, "database.list", databaseList{}, &databases); err != nil {
			return err
		}
		if len(databases) != 1 {
			return usagef("there are %d databases besides mail; say which with -d, or make one with 'trivet database create'", len(databases))
		}
		o.database = databases[0].Name
	}
	conn, err := c.openSQL(ctx, o, password)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	s := &sqlShell{cli: c, o: o, conn: conn, password: password}
	if o.query != "" {
		return s.named(ctx, o.query, o.set)
	}
	for _, text := range o.commands {
		if err := s.run(ctx, text); err != nil {
			return err
		}
	}
	if len(o.commands) > 0 {
		return nil
	}
	if file, ok := c.in.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		s.o.table = !s.o.csv && !c.json
		return s.interactive(ctx)
	}
	text, err := io.ReadAll(io.LimitReader(in, maxSQLScript+1))
	if err != nil {
		return err
	}
	if len(text) > maxSQLScript {
		return fmt.Errorf("the statements are more than %d MiB; import them in parts", maxSQLScript>>20)
	}
	return s.run(ctx, string(text))
}

// maxSQLScript bounds what is read from standard input, in octets.
const maxSQLScript = 32 << 20

// openSQL opens a session on the node of the data folder, or on one elsewhere.
func (c *cli) openSQL(ctx context.Context, o sqlOptions, password string) (*pgconn.PgConn, error) {
	host, port, mode := "127.0.0.1", "5432", "disable"
	if o.connect != "" {
		var err error
		if host, port, err = net.SplitHostPort(o.connect); err != nil {
			return nil, usagef("--connect: %w", err)
		}
		if mode = "verify-full"; o.insecure {
			mode = "require"
		}
	}
	config, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%s sslmode=%s", quoteParameter(host), port, mode))
	if err != nil {
		return nil, err
	}
	config.Fallbacks = nil
	config.User, config.Password, config.Database = o.user, password, o.database
	config.RuntimeParams = map[string]string{"application_name": "trivet sql"}
	if o.linearizable {
		config.RuntimeParams["trivet.consistency"] = string(storage.ConsistencyLinearizable)
	}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { fmt.Fprintf(c.err, "%s: %s\n", n.Severity, n.Message) }
	if o.connect == "" {
		config.User = "operator"
		control := newController(c.dir)
		config.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return control.upgrade(ctx) }
		config.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil }
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, sqlProblem(err)
	}
	return conn, nil
}

func quoteParameter(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// upgrade opens the control socket for PostgreSQL's protocol.
func (c *controller) upgrade(ctx context.Context) (net.Conn, error) {
	path, done, err := c.dir.shortSocket()
	if err != nil {
		return nil, err
	}
	defer done()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, c.unreachable(err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://control"+pathSQL, nil)
	if err == nil {
		request.Header.Set("Connection", "Upgrade")
		request.Header.Set("Upgrade", upgradeSQL)
		err = request.Write(conn)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	// The server sends nothing behind its answer until it is spoken to.
	response, err := http.ReadResponse(bufio.NewReader(conn), request)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		conn.Close()
		return nil, errors.Join(errors.New("the running node is of another release: restart it"), err)
	}
	return conn, nil
}

// sqlProblem says an error of the server in the words of this program.
func sqlProblem(err error) error {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return err
	}
	out := &storage.Error{Kind: storage.KindInvalid, Hint: e.Hint, Err: fmt.Errorf("%s (%s)", e.Message, e.Code)}
	if strings.HasPrefix(e.Code, "57P") && strings.Contains(e.Message, "quorum") {
		out.Kind = storage.KindNoQuorum
	}
	return out
}

// took says how long something took.
func (s *sqlShell) took(begun time.Time) {
	if s.o.timing {
		fmt.Fprintf(s.cli.err, "Time: %.3f ms\n", float64(time.Since(begun).Microseconds())/1000)
	}
}
