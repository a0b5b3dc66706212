package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"trivet/storage"
)

// What the commands for databases send.
type (
	newDatabase struct {
		Name  string `json:"name"`
		Owner string `json:"owner"` // empty: the first administrator
		Quota int64  `json:"quota_bytes"`
	}
	databaseList struct {
		Dropped bool `json:"dropped"`
	}
	databaseRestore struct {
		Name string `json:"name"`
		As   string `json:"as"`
	}
	databaseGrant struct {
		Name      string `json:"name"`
		Address   string `json:"address"`
		Privilege string `json:"privilege"` // empty: taken away
	}
	databaseQuota struct {
		Name  string `json:"name"`
		Quota int64  `json:"quota_bytes"`
	}
	databaseFeed struct {
		Name string `json:"name"`
		On   bool   `json:"on"`
	}
	tokenChange struct {
		Address string        `json:"address"`
		Name    string        `json:"name"`
		Valid   time.Duration `json:"valid"` // 0: for ever
	}
	tokenMade struct {
		Name    string `json:"name"`
		Address string `json:"address"`
		Token   string `json:"token"` // the one time it is shown
	}
)

// sqlOperations are what the control socket offers for databases.
func (n *node) sqlOperations() map[string]operation {
	into := map[string]operation{}
	into["database.create"] = operationOf(n.createDatabase)
	into["database.list"] = operationOf(func(ctx context.Context, in databaseList) ([]storage.Database, error) {
		return n.store.Databases(ctx, in.Dropped)
	})
	into["database.drop"] = operationOf(removing(n.store.DropDatabase))
	into["database.restore"] = operationOf(func(ctx context.Context, in databaseRestore) (storage.Database, error) {
		return n.store.RestoreDatabase(ctx, in.Name, in.As)
	})
	into["database.grant"] = operationOf(func(ctx context.Context, in databaseGrant) (storage.Database, error) {
		return n.store.GrantDatabase(ctx, in.Name, in.Address, in.Privilege)
	})
	into["database.quota"] = operationOf(func(ctx context.Context, in databaseQuota) (storage.Database, error) {
		return n.store.SetDatabaseQuota(ctx, in.Name, in.Quota)
	})
	into["database.feed"] = operationOf(func(ctx context.Context, in databaseFeed) (storage.Database, error) {
		return n.store.SetDatabaseFeed(ctx, in.Name, in.On)
	})
	into["token.add"] = operationOf(func(ctx context.Context, in tokenChange) (tokenMade, error) {
		secret, err := n.store.AddToken(ctx, in.Address, in.Name, in.Valid)
		return tokenMade{in.Name, in.Address, secret}, err
	})
	into["token.list"] = operationOf(func(ctx context.Context, in tokenChange) ([]storage.Token, error) {
		return n.store.Tokens(ctx, in.Address)
	})
	into["token.remove"] = operationOf(func(ctx context.Context, in tokenChange) (removed, error) {
		return removed{Removed: in.Name}, n.store.RemoveToken(ctx, in.Address, in.Name)
	})
	return into
}

func (n *node) createDatabase(ctx context.Context, in newDatabase) (storage.Database, error) {
	if in.Owner == "" {
		accounts, err := n.store.Accounts(ctx)
		if err != nil {
			return storage.Database{}, err
		}
		for _, a := range accounts {
			if a.Admin && !a.Disabled && in.Owner == "" {
				in.Owner = a.Address
			}
		}
	}
	return n.store.CreateDatabase(ctx, in.Name, in.Owner, in.Quota)
}

func (c *cli) databaseCommand() *cobra.Command {
	database := group("database", "SQL databases of people and programs")
	token := group("token", "What programs show instead of a password, for SQL over HTTP")
	token.AddCommand(c.tokenAddCommand(), command("list ADDRESS", "List the tokens of an account", 1, 1, c.tokenList),
		command("remove ADDRESS NAME", "Make a token good for nothing", 2, 2, c.tokenRemove))
	database.AddCommand(c.databaseCreateCommand(), c.databaseListCommand(), c.databaseDropCommand(), c.databaseRestoreCommand(),
		c.databaseGrantCommand(), c.databaseQuotaCommand(), command("feed NAME on|off", "Remember which rows change, for who follows the database over HTTP", 2, 2, c.databaseFeed), c.databaseImportCommand(), c.databaseExportCommand(), token)
	return database
}

func (c *cli) databaseCreateCommand() *cobra.Command {
	var in newDatabase
	var quota size
	cmd := command("create NAME", "Make an empty database", 1, 1, nil)
	cmd.Flags().StringVar(&in.Owner, "owner", "", "account that owns it; the first administrator if not given")
	cmd.Flags().Var(&quota, "quota", "octets its file may have; 0: any number")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in.Name, in.Quota = args[0], int64(quota)
		var made storage.Database
		if err := c.ask(cmd.Context(), "database.create", in, &made); err != nil {
			return err
		}
		return c.print(made, line("database %s belongs to %s; open it with 'trivet sql%s -d %[1]s'", made.Name, made.Owner, c.dir.flag()))
	}
	return cmd
}

func (c *cli) databaseListCommand() *cobra.Command {
	var in databaseList
	cmd := command("list", "List the databases", 0, 0, nil)
	cmd.Flags().BoolVar(&in.Dropped, "dropped", false, "also those that were dropped within a week, and can be had back")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		databases := []storage.Database{}
		if err := c.ask(cmd.Context(), "database.list", in, &databases); err != nil {
			return err
		}
		return c.print(databases, func(w io.Writer) {
			fmt.Fprintln(w, "NAME\tOWNER\tSIZE\tQUOTA\tGRANTS\tNOTES")
			for _, d := range databases {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", d.Name, d.Owner, size(d.Bytes).about(), databaseQuotaOf(d), grantsOf(d), droppedNote(d))
			}
		})
	}
	return cmd
}

func databaseQuotaOf(d storage.Database) string {
	if d.Quota == 0 {
		return "any size"
	}
	return size(d.Quota).about()
}

func grantsOf(d storage.Database) string {
	var all []string
	for _, g := range d.Grants {
		all = append(all, g.Address+" "+g.Privilege)
	}
	return strings.Join(all, ", ")
}

func droppedNote(d storage.Database) string {
	if d.Dropped == nil {
		return ""
	}
	return "dropped, kept until " + d.Dropped.Add(storage.DropKeeps).Format(time.DateTime)
}

func (c *cli) databaseDropCommand() *cobra.Command {
	cmd := command("drop NAME", "Drop a database; for a week it can be had back", 1, 1, nil)
	yes := cmd.Flags().Bool("yes", false, "do not ask")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !*yes {
			fmt.Fprintf(c.err, "Drop database %s? Type its name to go on: ", args[0])
			var typed string
			if _, err := fmt.Fscanln(c.in, &typed); err != nil || typed != args[0] {
				return fmt.Errorf("database %s is not dropped; answer with its name, or give --yes", args[0])
			}
		}
		return c.remove(cmd, "database.drop", named{Name: args[0]})
	}
	return cmd
}

func (c *cli) databaseRestoreCommand() *cobra.Command {
	var in databaseRestore
	cmd := command("restore NAME", "Bring back the database of this name that was dropped last", 1, 1, nil)
	cmd.Flags().StringVar(&in.As, "as", "", "another name for it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in.Name = args[0]
		var back storage.Database
		if err := c.ask(cmd.Context(), "database.restore", in, &back); err != nil {
			return err
		}
		return c.print(back, line("database %s is back", back.Name))
	}
	return cmd
}

func (c *cli) databaseGrantCommand() *cobra.Command {
	var revoke bool
	cmd := command("grant NAME ADDRESS [read|write|own]", "Let an account use a database", 2, 3, nil)
	cmd.Flags().BoolVar(&revoke, "revoke", false, "take away what it may do")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in := databaseGrant{Name: args[0], Address: args[1]}
		if len(args) == 3 {
			in.Privilege = args[2]
		}
		if revoke != (in.Privilege == "") {
			return usageOf(cmd, fmt.Errorf("say read, write or own, or --revoke"))
		}
		var changed storage.Database
		if err := c.ask(cmd.Context(), "database.grant", in, &changed); err != nil {
			return err
		}
		if revoke {
			return c.print(changed, line("%s may not use %s any more", in.Address, in.Name))
		}
		return c.print(changed, line("%s may %s %s", in.Address, in.Privilege, in.Name))
	}
	return cmd
}

func (c *cli) databaseQuotaCommand() *cobra.Command {
	var quota size
	cmd := command("quota NAME", "Limit the size of a database", 1, 1, nil)
	cmd.Flags().Var(&quota, "size", "octets its file may have; 0: any number")
	_ = cmd.MarkFlagRequired("size") // the flag exists
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var changed storage.Database
		if err := c.ask(cmd.Context(), "database.quota", databaseQuota{args[0], int64(quota)}, &changed); err != nil {
			return err
		}
		return c.print(changed, line("database %s has %s and may have %s", changed.Name, size(changed.Bytes).about(), databaseQuotaOf(changed)))
	}
	return cmd
}

func (c *cli) databaseFeed(cmd *cobra.Command, args []string) error {
	if args[1] != "on" && args[1] != "off" {
		return usageOf(cmd, fmt.Errorf("say on or off"))
	}
	var changed storage.Database
	if err := c.ask(cmd.Context(), "database.feed", databaseFeed{args[0], args[1] == "on"}, &changed); err != nil {
		return err
	}
	return c.print(changed, line("the changes of %s are %s", changed.Name, map[string]string{"on": "remembered from now on", "off": "not remembered any more"}[args[1]]))
}

func (c *cli) tokenAddCommand() *cobra.Command {
	var in tokenChange
	cmd := command("add ADDRESS", "Make a token of an account, and show it once", 1, 1, nil)
	cmd.Flags().StringVar(&in.Name, "name", "program", "what it is called")
	cmd.Flags().DurationVar(&in.Valid, "valid", 0, "how long it is good; 0: for ever")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in.Address = args[0]
		var made tokenMade
		if err := c.ask(cmd.Context(), "token.add", in, &made); err != nil {
			return err
		}
		return c.print(made, line("token (shown only now): %s", made.Token))
	}
	return cmd
}

func (c *cli) tokenList(cmd *cobra.Command, args []string) error {
	tokens := []storage.Token{}
	if err := c.ask(cmd.Context(), "token.list", tokenChange{Address: args[0]}, &tokens); err != nil {
		return err
	}
	return c.print(tokens, func(w io.Writer) {
		for _, t := range tokens {
			expires := "for ever"
			if t.Expires != nil {
				expires = "until " + t.Expires.Format(time.DateTime)
			}
			fmt.Fprintf(w, "%s\tmade %s\tgood %s\n", t.Name, t.Created.Format(time.DateTime), expires)
		}
	})
}

func (c *cli) tokenRemove(cmd *cobra.Command, args []string) error {
	var out removed
	if err := c.ask(cmd.Context(), "token.remove", tokenChange{Address: args[0], Name: args[1]}, &out); err != nil {
		return err
	}
	return c.print(out, line("token %s is good for nothing now", args[1]))
}
